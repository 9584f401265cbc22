"""Packing strategies: how tokens, features and rank are laid out in slots. One strategy per file."""
