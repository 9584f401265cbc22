"""``manifest.json``: what an artifact consists of, with the hash of every file. It is read before anything else.

Hashes detect damage, and a single file that was replaced. They do not say who made the artifact: anyone who can change
one file can change the manifest too. To detect that, compare the digest of the manifest itself with the one that
``helora compile`` printed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.artifact.files import damaged
from helora_core.compiler.compiled import Part
from helora_core.errors import ArtifactInvalid, ArtifactUnsupported, HeloraError
from helora_core.files import strict_json
from helora_core.files.malformed import Malformed

FORMAT = "helora-artifact"
SCHEMA = 2
"""Increased when older versions of helora can no longer read the files."""

SCHEMA_OF_SEVERAL = 3
"""The schema of artifacts in which a module has several plans; all others keep the older one."""

MANIFEST = "manifest.json"
PARAMETERS = "parameters.json"
MANIFEST_BYTES = 16 << 20
"""Largest manifest that is read: tens of thousands of modules."""

_FILE_NAME = re.compile(r"parameters\.json|plans/[0-9a-f]{64}\.json|modules/[0-9]{4,6}\.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Size and SHA-256 (hex) of one file."""

    bytes: int
    sha256: str


class ModuleEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One compiled module with one of its plans.

    Attributes:
        name: Its name; for several on one input, that of their stack. A module has an entry for each of its plans.
        parts: The adapter's modules that it consists of, in the order of their outputs.
        plan: Digest of its plan.
        constants: The file with its plaintexts.
        exponent: Δ is 2^exponent times what the program computes with the plaintexts.
    """

    name: str
    parts: tuple[Part, ...]
    plan: str
    constants: str
    exponent: Annotated[int, msgspec.Meta(ge=-4096, le=4096)]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An artifact's contents.

    Attributes:
        format: ``helora-artifact``.
        schema: Version of the format.
        helora: The version of helora that wrote it, for information only.
        packings: Version of each packing, by name.
        plans: The file of each plan, by digest.
        modules: The compiled modules, in the adapter's order.
        files: Every other file, by its path with ``/``.
    """

    format: str
    schema: int
    helora: str
    packings: dict[str, int]
    plans: dict[str, str]
    modules: tuple[ModuleEntry, ...]
    files: dict[str, FileEntry]


class _Head(msgspec.Struct):
    """The fields that every version of the manifest has."""

    format: str
    schema: int


def schema_of(modules: Sequence[ModuleEntry]) -> int:
    """The lowest schema that suffices: the older one if each module has one plan."""
    return SCHEMA if len({module.name for module in modules}) == len(modules) else SCHEMA_OF_SEVERAL


def plan_file(digest: str) -> str:
    """The path of a plan's file."""
    return f"plans/{digest}.json"


def constants_file(number: int) -> str:
    """The path of the plaintexts of the module of that number."""
    return f"modules/{number:04d}.safetensors"


def is_file_of_artifact(path: str) -> bool:
    """Whether an artifact could have a file of this path, relative to its directory."""
    return path == MANIFEST or _FILE_NAME.fullmatch(path) is not None


def encode_json(value: object, *, indent: int = 2) -> bytes:
    """JSON; equal values give equal bytes. Without an indent, all in one line."""
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=indent or -1) + b"\n"


def decode_json(data: bytes, kind: type[T], path: Path, *, most: int = MANIFEST_BYTES) -> T:
    """Read JSON of a known form.

    Raises:
        ArtifactInvalid: It is not unambiguous JSON, or not of that form.
    """
    try:
        return strict_json.decode(data, kind, most=most)
    except Malformed as error:
        raise damaged(path, f"cannot be understood: it {error.reason}") from error
    except HeloraError as error:
        raise damaged(path, f"is contradictory: {error.message}") from error


def parse_manifest(data: bytes, path: Path) -> Manifest:
    """Read a manifest and check that it is consistent; files are not looked at.

    Raises:
        ArtifactInvalid: It is not a manifest, or contradicts itself.
        ArtifactUnsupported: A newer helora wrote it.
    """
    try:
        head = strict_json.decode(data, _Head, most=MANIFEST_BYTES)
    except Malformed as error:
        raise _foreign(path) from error
    if head.format != FORMAT:
        raise _foreign(path)
    if head.schema not in (SCHEMA, SCHEMA_OF_SEVERAL):
        raise ArtifactUnsupported(
            f"{path}: an artifact of schema {head.schema}; this helora reads schema {SCHEMA} and {SCHEMA_OF_SEVERAL}.",
            hint="Use the version of helora that wrote it or a newer one, or compile the adapter again.",
        )
    manifest = decode_json(data, Manifest, path)
    _check_files(manifest, path)
    _check_modules(manifest, path)
    return manifest


def _foreign(path: Path) -> ArtifactInvalid:
    return ArtifactInvalid(
        f"{path}: not the manifest of a helora artifact.",
        hint="Give the directory that `helora compile --out DIR` wrote.",
    )


def _check_files(manifest: Manifest, path: Path) -> None:
    for name, entry in manifest.files.items():
        if _FILE_NAME.fullmatch(name) is None:
            raise damaged(path, f"lists a file {name!r}, which artifacts do not have")
        if entry.bytes < 0 or _SHA256.fullmatch(entry.sha256) is None:
            raise damaged(path, f"has no size and SHA-256 for {name}")
    if any(name != plan_file(digest) for digest, name in manifest.plans.items()):
        raise damaged(path, "files a plan under another digest than its own")
    named = [PARAMETERS, *manifest.plans.values(), *(module.constants for module in manifest.modules)]
    if sorted(named) != sorted(manifest.files):
        wrong = sorted(set(named) ^ set(manifest.files)) or sorted(named)
        raise damaged(path, f"does not use each file that it lists once ({wrong[0]!r})")


def _check_modules(manifest: Manifest, path: Path) -> None:
    of_name: dict[str, list[ModuleEntry]] = {}
    for module in manifest.modules:
        of_name.setdefault(module.name, []).append(module)
    names = list(of_name)
    parts = [part.name for first, *_ in of_name.values() for part in first.parts]
    for name in (*names, *parts):
        if not name or not name.isprintable():
            raise damaged(path, f"has a module named {name!r}")
    if not names or len(set(parts)) != len(parts):
        raise damaged(path, "has no module, or two of one name")
    for entries in of_name.values():
        plans = {entry.plan for entry in entries}
        if len(plans) != len(entries) or any(entry.parts != entries[0].parts for entry in entries):
            raise damaged(path, "has no module, or two of one name")
    if schema_of(manifest.modules) != manifest.schema:
        raise damaged(path, "is of another schema than its modules")
    if {module.plan for module in manifest.modules} != set(manifest.plans):
        raise damaged(path, "has a plan without a module, or a module without its plan")


def check_parts(module: ModuleEntry, shape: ModuleShape, path: Path) -> None:
    """Refuse a module whose parts are not as wide as its plan's Δ.

    Raises:
        ArtifactInvalid: They are not.
    """
    if any(part.d_out < 1 for part in module.parts) or sum(part.d_out for part in module.parts) != shape.d_out:
        raise damaged(path, f"module {module.name!r} has parts that do not add up to {shape.d_out} outputs")
