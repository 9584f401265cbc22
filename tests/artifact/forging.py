"""Makes artifacts, and alters them so that digests, key sets and hashes fit again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.artifact.read import Artifact, read_artifact
from helora_core.artifact.write import write_artifact
from helora_core.compiler.checks import annotate
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.compiler.ir import OpKind
from helora_core.compiler.key_sets import key_sets
from helora_core.compiler.plan import Plan
from helora_core.compiler.recipe import Recipe
from helora_core.errors import HeloraError
from helora_core.host.manager import get_manager
from helora_core.params.security import security_verdict

SHAPE = ModuleShape.parse("37:20:3")
Change = Callable[[Any], object]


def make(place: Path, packing: str, module: LoRAModule | None = None, **options: Any) -> Path:
    """An artifact of one module."""
    dense = synthetic_module(SHAPE, seed=3, name="q_proj")
    found = module or dense
    plan = compile_plan(
        found.shape,
        get_manager().load_packing(packing),
        module=found,
        **{"sanitize_bits": 40, "precision_bits": 8, "private_weights": False, **options},
    )
    write_artifact(place, [CompiledModule(found, (Part(name=found.name, d_out=found.shape.d_out),), plan)])
    return place


def read(place: Path, **demands: Any) -> Artifact:
    return read_artifact(place, get_manager().load_packing, **demands)


def stored_plan(place: Path) -> Any:
    (path,) = (place / "plans").iterdir()
    return json.loads(path.read_bytes())


def seal(place: Path, content: Any) -> None:
    """Put a plan in the place of the one there is, and make digests, parameters and hashes fit as far as they can."""
    manifest = json.loads((place / "manifest.json").read_bytes())
    (old,) = (place / "plans").iterdir()
    old.unlink()
    keys, content["digest"] = _worked_out(content)
    digest = content["digest"]
    (place / "plans" / f"{digest}.json").write_text(json.dumps(content), encoding="utf-8")
    if keys is not None:
        (place / "parameters.json").write_bytes(keys)
    manifest["plans"] = {digest: f"plans/{digest}.json"}
    for module in manifest["modules"]:
        module["plan"] = digest
    reseal(place, manifest)


def _worked_out(content: Any) -> tuple[bytes | None, str]:
    """Key sets and digest of a forged plan, as helora would work them out."""
    try:
        file = msgspec.convert(content, Recipe)
        packing = get_manager().load_packing(file.packing)
        slots = file.settings.params.slots
        layouts = packing.layouts(file.shape, slots, tokens=file.tokens, costs=file.costs)
        layout = next(each for each in layouts if dict(each.figures) == file.layout)
        values = annotate(file.program, file.settings.params, file.settings.scales)
        verdict = security_verdict(file.settings.params)
        plan = Plan(packing, file.shape, layout, file.settings, file.program, values, verdict, file.sanitize_bits)
        return msgspec.json.encode(key_sets([plan])), plan.digest
    except (HeloraError, msgspec.ValidationError, StopIteration, ValueError, TypeError):
        return None, content["digest"] if isinstance(content.get("digest"), str) else "0" * 64


def reseal(place: Path, manifest: Any) -> None:
    """Write a manifest with the hashes of what is there."""
    files = [path for path in place.rglob("*") if path.is_file() and path.name != "manifest.json"]
    manifest["files"] = {
        path.relative_to(place).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    }
    (place / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def forge(place: Path, change: Change) -> None:
    content = stored_plan(place)
    change(content)
    seal(place, content)


def ops(content: Any, kind: OpKind) -> list[Any]:
    return [op for op in content["program"]["ops"] if op["kind"] == kind.value]
