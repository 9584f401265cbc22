"""Data that comes with helora: a real adapter, and what its modules see when the model runs."""
