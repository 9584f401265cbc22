"""CKKS over the kernels: symmetric and public-key encryption, products with plaintexts, rotations, rescaling."""
