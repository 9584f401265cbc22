"""Readers of files and messages from others, which treat them as hostile.

Nothing is unpickled, no stated size is believed before it is checked against the actual bytes, and anything that
different readers could understand differently is refused.
"""
