"""CKKS parameters, their security and their automatic choice."""
