"""A plugin whose dependency is not installed."""

import fake_library_that_nobody_has  # noqa: F401
