"""Looking after a store: pins, collection, trash, verification."""
