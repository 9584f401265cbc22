"""Mode ``hosted``: the server has text, model and adapter. For comparisons: it protects nothing from the server."""
