"""CKKS parameters, their security and how they are chosen automatically."""
