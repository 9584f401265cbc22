"""Runs plans: on ciphertexts through a backend, and on plain vectors as the reference."""
