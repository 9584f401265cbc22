"""A module whose Δ is zero, as PEFT initialises one, is said to be so by every command, and breaks none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest

from helora_core.adapter.lora import LoRAAdapter, LoRAModule, ModuleShape
from helora_core.adapter.npz import save_npz
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from tests.registered import online_packings

SHAPE = ModuleShape.parse("37:20:3")
NUMPY = ("--backend", "numpy")
Helora = Callable[..., click.testing.Result]


@pytest.fixture(params=["up", "down", "alpha", "all"], autouse=True)
def zeros(request: pytest.FixtureRequest, tmp_path: Path) -> set[str]:
    """Names of the modules of ``adapter.npz`` that are zero; ``x.npy`` is beside it, with a token of zeros."""
    usual = synthetic_module(SHAPE, seed=1, name="layers.0.q_proj")
    dead = {
        "up": LoRAModule("layers.1.q_proj", usual.down, usual.up * 0, usual.scaling),
        "down": LoRAModule("layers.1.q_proj", usual.down * 0, usual.up, usual.scaling),
        "alpha": LoRAModule("layers.1.q_proj", usual.down, usual.up, 0.0),
    }
    modules = [usual, dead[request.param]] if request.param in dead else [dead["up"]]
    save_npz(LoRAAdapter.from_modules(modules, source="test"), tmp_path / "adapter.npz")
    x = synthetic_activations(SHAPE, 3, seed=1)
    x[1] = 0
    np.save(tmp_path / "x.npy", x)
    return {"layers.1.q_proj"}


def told(result: click.testing.Result) -> bool:
    assert result.exit_code == 0, result.output
    return "note: Δ = 0 whatever x is" in result.stderr and "layers.1.q_proj" in result.stderr


@pytest.mark.parametrize(
    ("zeros", "packing"),
    [
        *((kind, "auto") for kind in ("up", "down", "alpha", "all")),
        *(("up", name) for name in sorted(online_packings())),
    ],
    indirect=["zeros"],
)
def test_plan_and_run(helora: Helora, helora_json: Callable[..., Any], zeros: set[str], packing: str) -> None:
    options = ("--adapter", "adapter.npz", "--packing", packing, "--no-private-weights")
    assert told(helora("plan", *options))
    assert told(helora("run", *options, *NUMPY, "--input", "x.npy", "--output", "delta.npy"))
    document = helora_json("run", *options, *NUMPY, "--input", "x.npy", "--output", "delta.npy", "--force")
    assert {row["module"] for row in document["modules"] if row["is_zero"]} == zeros
    for row in document["modules"]:
        delta = np.load(row["output"])
        assert not delta[1].any()
        assert delta[0].any() == (row["module"] not in zeros)


def test_compile_and_what_it_wrote(helora: Helora, zeros: set[str]) -> None:
    assert told(helora("compile", "--adapter", "adapter.npz", "--out", "served", *NUMPY))
    (name,) = zeros
    options = ("--artifact", "served", "--module", name, "--input", "x.npy", *NUMPY)
    assert told(helora("run", *options, "--output", "delta.npy"))
    assert not np.load("delta.npy").any()


@pytest.mark.parametrize("command", [("explain",), ("plan", "--share")])
def test_other_commands_go_on(helora: Helora, command: tuple[str, ...]) -> None:
    result = helora(*command, "--adapter", "adapter.npz")
    assert result.exit_code == 0, result.output
