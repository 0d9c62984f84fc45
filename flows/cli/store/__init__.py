"""``paraknow store``: one file a kind of command."""
