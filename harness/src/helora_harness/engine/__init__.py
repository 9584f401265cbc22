"""The bars of helora's own engine: what it is held to, how each is measured, and the table of both."""
