"""Attacks on plans that run ahead of time: each against the protocol without one of its steps, and against all of it.

Most are on ``model``, whose ciphertexts are real and whose ring is small, so that what is broken can be worked out.
"""
