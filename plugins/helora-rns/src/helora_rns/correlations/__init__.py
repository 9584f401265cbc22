"""Ciphertexts modulo 2^64·q₁ for plans that run ahead of time, as ``helora_core.backend.correlations`` says."""
