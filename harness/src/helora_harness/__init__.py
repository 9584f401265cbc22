"""Counts that gate, benchmarks, comparisons of commits and their history: ``helora bench``."""
