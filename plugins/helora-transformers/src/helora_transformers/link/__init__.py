"""A length-prefixed stream between two processes: one has the adapter, the other the model."""
