"""Base models for browsers."""
