"""What the healthy plugin names as targets. That this module is imported only on use is one of the things tested."""

import time


class FakeBackend:
    """Slow to make, so that two threads that each made one would be found out."""

    def __init__(self):
        time.sleep(0.02)


class FakePacking:
    """Nothing but a class."""
