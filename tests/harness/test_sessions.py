"""A server holds its weights once: what more sessions add is their keys."""

from __future__ import annotations

import json

from click.testing import CliRunner

from helora_harness.sessions import Held, measured, sessions

LAYER = "*.layers.0.self_attn.q_proj"


def alone(count: int) -> Held:
    """In a process of its own: weights are counted over all of it, and other tests leave some in this one."""
    return measured("numpy", LAYER, count, lambda: None)


def test_constants_are_held_once_however_many_sessions_there_are() -> None:
    one, three = alone(1), alone(3)
    assert (one.sessions, three.sessions, one.modules) == (1, 3, 1)
    assert one.constants_bytes == three.constants_bytes > 0
    done = CliRunner().invoke(sessions, ["--backend", "numpy", "--modules", LAYER, "--sessions", "2", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    (row,) = document["rows"]
    assert (document["backend"], row["sessions"], row["modules"]) == ("numpy", 2, 1)
    assert row["constants_bytes"] == one.constants_bytes
