"""A plugin that calls itself 'core'. It is never imported."""

raise RuntimeError("imported all the same")
