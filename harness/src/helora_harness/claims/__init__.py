"""``helora bench claims``: the published figures of ``claims.toml`` beside what is measured here, in docs/claims.md."""
