"""What the tests of artifacts share: a small one, and ways to damage it, with and without the hashes made to fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.artifact.read import Artifact, read_artifact
from helora_core.artifact.write import write_artifact
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.compiler.plan import Plan
from helora_core.host.manager import get_manager

SHAPE = ModuleShape.parse("37:20:3")


def compiled(module: LoRAModule, packing: str = "rank_bsgs", **options: Any) -> CompiledModule:
    plan = compile_plan(module.shape, get_manager().load_packing(packing), **{"sanitize_bits": 40, **options})
    return CompiledModule(module, (Part(name=module.name, d_out=module.shape.d_out),), plan)


@pytest.fixture(scope="session")
def plan() -> Plan:
    return compile_plan(SHAPE, get_manager().load_packing("rank_bsgs"), tokens=5, sanitize_bits=40)


@pytest.fixture(scope="session")
def modules(plan: Plan) -> list[CompiledModule]:
    """Two modules that share a plan, one 2^20 times as large as the other, and one of another shape."""
    alike = [
        replace(synthetic_module(SHAPE, seed=i, name=f"layers.{i}.q_proj"), scaling=2.0 ** (20 * i)) for i in range(2)
    ]
    other = synthetic_module(ModuleShape.parse("24:8:2"), seed=7, name="layers.1.v_proj")
    parts = [(Part(name=module.name, d_out=20),) for module in alike]
    return [*(CompiledModule(module, part, plan) for module, part in zip(alike, parts, strict=True)), compiled(other)]


@pytest.fixture
def artifact(modules: list[CompiledModule], tmp_path: Path) -> Path:
    write_artifact(tmp_path / "artifact", modules)
    return tmp_path / "artifact"


@pytest.fixture
def read() -> Callable[..., Artifact]:
    """Read an artifact with the packings that are installed."""

    def reading(directory: Path, **options: Any) -> Artifact:
        return read_artifact(directory, get_manager().load_packing, **options)

    return reading


@pytest.fixture
def forge(artifact: Path) -> Callable[..., None]:
    """Change a JSON file, or replace any, and make the manifest fit: what only the deeper checks can find."""

    def forging(name: str, change: Callable[[Any], object] | bytes) -> None:
        path = artifact / name
        if isinstance(change, bytes):
            path.write_bytes(change)
        else:
            content = json.loads(path.read_bytes())
            change(content)
            path.write_text(json.dumps(content), encoding="utf-8")
        if name == "manifest.json":
            return
        manifest = json.loads((artifact / "manifest.json").read_bytes())
        data = path.read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        (artifact / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")

    return forging


@pytest.fixture
def plan_name(plan: Plan) -> str:
    """The file of the plan that two modules share."""
    return f"plans/{plan.digest}.json"
