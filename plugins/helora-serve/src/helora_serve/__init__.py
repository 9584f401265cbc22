"""Serves adapters to clients that keep their activations encrypted, and speaks for them to everybody else."""
