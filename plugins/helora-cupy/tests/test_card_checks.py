"""What is run on machines with a card runs at all: tiny, with the CPU in a card's place."""

from __future__ import annotations

from typing import Any

from helora_cupy.backend import CupyBackend
from helora_cupy.card_checks import TINY, measured
from helora_cupy.running import RunningShim


def test_every_measurement_gives_rows_and_the_engines_agree() -> None:
    rows: list[dict[str, Any]] = []
    assert measured(lambda op, **cell: rows.append({"op": op, **cell}), CupyBackend(RunningShim()), TINY)
    assert {row["op"] for row in rows} == {
        "backend", "answers of both engines", "rank_bsgs, one token", "rank_bsgs, sessions at once",
        "bundled adapter, one token", "cpmm, program", "precomputed, filling pools",
    }  # fmt: skip
    assert all(row["equal"] for row in rows if row["op"] == "answers of both engines")
    assert "for tests" in rows[0]["device"]
