"""``docs/claims.md``: each published figure of the field beside what this repository measures. ``helora bench claims``.

``figures`` reads the quotations of ``claims.toml``, ``measure`` runs the nearest work here and keeps a row of each
variant in ``claims.jsonl``, ``page`` makes the page of both and says what no longer holds.
"""
