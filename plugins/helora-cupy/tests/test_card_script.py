"""What is run on machines with a card runs at all: tiny, with the CPU in a card's place."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from helora_cupy.backend import CupyBackend
from helora_cupy.running import RunningShim

SCRIPT = Path(__file__).parents[3] / "harness" / "cuda_backend.py"


def script() -> Any:
    spec = importlib.util.spec_from_file_location("cuda_backend", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cuda_backend"] = module
    spec.loader.exec_module(module)
    return module


def test_every_measurement_gives_rows_and_the_engines_agree() -> None:
    rows: list[dict[str, Any]] = []
    own = script()
    assert own.measured(lambda op, **cell: rows.append({"op": op, **cell}), CupyBackend(RunningShim()), own.TINY)
    assert {row["op"] for row in rows} == {
        "backend", "answers of both engines", "rank_bsgs, one token", "rank_bsgs, sessions at once",
        "bundled adapter, one token", "cpmm, program", "precomputed, filling pools",
    }  # fmt: skip
    assert all(row["equal"] for row in rows if row["op"] == "answers of both engines")
    assert "for tests" in rows[0]["device"]
