"""Whole programs: core's tapes, lowered once to steps over a table of buffers, and run many at a time."""
