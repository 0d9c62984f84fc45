"""The demo's small pair: a made-up language, and models trained on it from scratch."""
