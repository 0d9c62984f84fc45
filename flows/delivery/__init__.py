"""Taking a result out of the store, with a model card."""
