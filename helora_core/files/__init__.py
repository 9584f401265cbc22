"""Files and messages of others, read as if somebody hostile had made them.

Nothing in here is unpickled, no size is believed before it is held against the bytes that are there, and what can be
written in two ways that mean different things to different readers is refused.
"""
