"""A Prefect server and its workers on one machine, as ``paraknow up`` keeps them."""
