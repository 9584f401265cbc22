"""A server holds its weights once: what more sessions add is their keys."""

from __future__ import annotations

import json

from click.testing import CliRunner

from helora_harness.sessions import measured, sessions

LAYER = "*.layers.0.self_attn.q_proj"


def test_constants_are_held_once_however_many_sessions_there_are() -> None:
    three = measured("numpy", LAYER, 3, lambda: None)
    done = CliRunner().invoke(sessions, ["--backend", "numpy", "--modules", LAYER, "--sessions", "1", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    (row,) = document["rows"]
    assert (document["backend"], row["sessions"], row["modules"]) == ("numpy", 1, 1)
    assert row["constants_bytes"] == three.constants_bytes > 0
