"""Writes an artifact as a whole or not at all: into a directory next to the target, which then takes its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from helora_core import __version__
from helora_core.adapter.lora import LoRAModule
from helora_core.artifact.constants import write_constants
from helora_core.artifact.files import fingerprint, listing
from helora_core.artifact.manifest import (
    FORMAT,
    MANIFEST,
    PARAMETERS,
    FileEntry,
    Manifest,
    ModuleEntry,
    constants_file,
    encode_json,
    plan_file,
    schema_of,
)
from helora_core.artifact.place import new_file, sync_directory, taking_the_place
from helora_core.artifact.plan_file import encode_plan
from helora_core.compiler.compiled import CompiledModule
from helora_core.compiler.key_sets import key_sets
from helora_core.compiler.requirements import require_storable
from helora_core.errors import InvalidInput
from helora_core.files.outputs import saying_where
from helora_core.params.security import require_secure


@dataclass(frozen=True)
class Written:
    """What was written: the manifest, its SHA-256 (hex), and the bytes of all files, including the manifest."""

    manifest: Manifest
    digest: str
    bytes: int


def write_artifact(
    target: Path,
    modules: Sequence[CompiledModule],
    *,
    replace: bool = False,
    on_constant: Callable[[int], object] = lambda count: None,
) -> Written:
    """Write compiled modules to a directory. Equal inputs give equal bytes.

    Args:
        target: The directory; it must not exist yet, or be empty.
        modules: What to store.
        replace: Also replace an existing artifact.
        on_constant: Called with 1 for each plaintext written, for progress bars.

    Raises:
        InvalidInput: ``target`` already exists, it cannot be written, or a plan cannot be run without
            the adapter.
        InsecureParameters: The security table refuses a plan's parameters.
    """
    with taking_the_place(target, replace=replace) as unfinished:
        return fill(unfinished, modules, on_constant)


def fill(
    directory: Path, modules: Sequence[CompiledModule], on_constant: Callable[[int], object] = lambda count: None
) -> Written:
    """Write compiled modules into an empty directory from ``taking_the_place``.

    Raises:
        InvalidInput: A plan cannot be run without the adapter, or the disk is full.
        InsecureParameters: The security table refuses a plan's parameters.
    """
    for compiled in modules:
        require_storable(compiled.plan)
        verdict = compiled.plan.verdict
        require_secure(compiled.plan.params, security_bits=verdict.asked_bits, table=verdict.table)
    with saying_where(directory):
        manifest = _write_all(directory, modules, on_constant)
        _write(directory / MANIFEST, encode_json(manifest))
        size, digest = fingerprint(directory / MANIFEST)
    return Written(manifest, digest, size + sum(entry.bytes for entry in manifest.files.values()))


def _write_all(directory: Path, modules: Sequence[CompiledModule], on_constant: Callable[[int], object]) -> Manifest:
    plans = {compiled.plan.digest: compiled.plan for compiled in modules}
    (directory / "plans").mkdir()
    (directory / "modules").mkdir()
    _write(directory / PARAMETERS, encode_json(key_sets(list(plans.values()))))
    for digest, plan in plans.items():
        _write(directory / plan_file(digest), encode_plan(plan))
    entries = []
    for number, compiled in enumerate(modules):
        entries.append(_entry(compiled, constants_file(number)))
        with new_file(directory / constants_file(number)) as file:
            write_constants(
                file,
                compiled.plan,
                compiled.plan.layout.constants(compiled.plan.normalized(_weights(compiled))),
                on_constant,
            )
    for folder in ("plans", "modules"):
        sync_directory(directory / folder)
    return Manifest(
        format=FORMAT,
        schema=schema_of(entries),
        helora=__version__,
        packings={plan.packing.name: plan.packing.version for plan in plans.values()},
        plans={digest: plan_file(digest) for digest in plans},
        modules=tuple(entries),
        files={name: _fingerprinted(directory / name) for name in listing(directory)},
    )


def _weights(compiled: CompiledModule) -> LoRAModule:
    if not isinstance(compiled.module, LoRAModule):
        raise InvalidInput(
            f"Module {compiled.name} comes without its matrices: it is from an artifact.",
            hint="Copy the artifact, or compile the adapter again.",
        )
    return compiled.module


def _entry(compiled: CompiledModule, file: str) -> ModuleEntry:
    return ModuleEntry(
        name=compiled.module.name,
        parts=compiled.parts,
        plan=compiled.plan.digest,
        constants=file,
        exponent=compiled.plan.for_module(_weights(compiled)).exponent or 0,
    )


def _write(path: Path, data: bytes) -> None:
    with new_file(path) as file:
        file.write(data)


def _fingerprinted(path: Path) -> FileEntry:
    size, sha256 = fingerprint(path)
    return FileEntry(bytes=size, sha256=sha256)
