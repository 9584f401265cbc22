"""Compiled modules on disk: all that a server needs to run them, without the adapter."""
