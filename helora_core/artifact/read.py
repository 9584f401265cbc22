"""Reads an artifact. Everything is verified before any of it is used, and plaintexts again when they are used."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from helora_core.adapter.containers import CONFIG_FILE, TENSOR_FILE
from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.names import close_names, matches
from helora_core.artifact.constants import most_bytes, read_constants
from helora_core.artifact.files import damaged, listing, read_file, read_hashed
from helora_core.artifact.manifest import (
    MANIFEST,
    MANIFEST_BYTES,
    PARAMETERS,
    FileEntry,
    Manifest,
    ModuleEntry,
    check_parts,
    decode_json,
    parse_manifest,
)
from helora_core.artifact.plan_file import PLAN_BYTES, Demands, restore_plan
from helora_core.artifact.verify import check_modules
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.compiler.key_sets import KeySet, key_sets
from helora_core.compiler.plan import Plan
from helora_core.compiler.recipe import LoadPacking
from helora_core.errors import ArtifactInvalid, InvalidInput
from helora_core.packing.protocol import Vector
from helora_core.params.security import DEFAULT_SECURITY_BITS, DEFAULT_TABLE
from helora_core.privacy.leakage import Assumption
from helora_core.privacy.policy import DEFAULT_SANITIZE_BITS


@dataclass(frozen=True, eq=False)
class ArtifactModule:
    """One compiled module with one of its plans: a ``StoredModule``, with the plan that its plaintexts are for.

    Attributes:
        plan: The plan.
    """

    plan: Plan
    _entry: ModuleEntry
    _path: Path
    _file: FileEntry

    @property
    def name(self) -> str:
        """Its name; of several on one input, that of their stack."""
        return self._entry.name

    @property
    def path(self) -> Path:
        """The file with its plaintexts."""
        return self._path

    @property
    def parts(self) -> tuple[Part, ...]:
        """The adapter's modules that it consists of."""
        return self._entry.parts

    @property
    def compiled(self) -> CompiledModule:
        """The module as a server serves it."""
        return CompiledModule(self, self.parts, self.plan.with_exponent(self.exponent))

    @property
    def shape(self) -> ModuleShape:
        """The plan's shape."""
        return self.plan.shape

    @property
    def exponent(self) -> int:
        """Δ is 2^exponent times what the program computes with the plaintexts."""
        return self._entry.exponent

    def vectors(self, plan: Plan) -> Iterator[tuple[str, Vector]]:
        """The plaintexts, from a file that is read and verified as a whole.

        Raises:
            ArtifactInvalid: The file is not what the manifest states, or not what the plan needs.
            InvalidInput: They were made for another plan.
        """
        if plan.digest != self.plan.digest:
            raise InvalidInput(
                f"{self._path}: holds the plaintexts for plan {self.plan.digest[:12]}…, not {plan.digest[:12]}….",
                hint="Run each module of an artifact with its own plan.",
            )
        if self._file.bytes > (most := most_bytes(self.plan)):
            raise damaged(self._path, f"has {self._file.bytes} bytes, and its plan needs at most {most}")
        data = read_hashed(self._path, size=self._file.bytes, sha256=self._file.sha256)
        yield from read_constants(data, plan, self._path)


@dataclass(frozen=True, eq=False)
class Artifact:
    """A verified artifact.

    Attributes:
        directory: Where it is.
        digest: SHA-256 (hex) of its manifest, and so of all of it.
        manifest: What it consists of.
        modules: The compiled modules, in the adapter's order; one with plans for several numbers of tokens appears once
            for each.
    """

    directory: Path
    digest: str
    manifest: Manifest
    modules: tuple[ArtifactModule, ...]

    def select(self, name: str) -> tuple[ArtifactModule, ...]:
        """The modules that ``name`` means, as in ``LoRAAdapter.select``; a part means all that is run with it.

        Raises:
            InvalidInput: No module has this name.
        """
        if name == "all":
            return self.modules
        names = {each: {each.name, *(part.name for part in each.parts)} for each in self.modules}
        exact = tuple(each for each in self.modules if name in names[each])
        chosen = exact or tuple(each for each in self.modules if any(matches(own, name) for own in names[each]))
        if not chosen:
            known = [own for each in self.modules for own in sorted(names[each])]
            close = ", ".join(close_names(name, known))
            raise InvalidInput(
                f"Artifact {self.directory}: no module matches {name!r}.",
                hint=f"Did you mean {close}?" if close else f"Use all, or a name or its ending, as {known[0]}.",
            )
        return chosen


def read_artifact(
    directory: Path,
    load_packing: LoadPacking,
    *,
    private_weights: bool = True,
    sanitize_bits: int | None = DEFAULT_SANITIZE_BITS,
    security_bits: int = DEFAULT_SECURITY_BITS,
    table: str = DEFAULT_TABLE,
    assume: Collection[Assumption] = (),
) -> Artifact:
    """Read and verify an artifact.

    Hashes do not show who made it, so nothing that it states is trusted: plans have to be those that the installed
    packings and compiler make, and plaintexts those that the packing makes from normalised weights.

    Args:
        directory: As ``write_artifact`` wrote it.
        load_packing: Gives the installed packing of a name, as ``PluginManager.load_packing``.
        private_weights: Whether the key holder may learn nothing of the weights beyond Δ.
        sanitize_bits: The least statistical distance to which results must be sanitised; None for not at all, which
            private weights do not allow.
        security_bits: Minimum level of security, for plans that were not compiled for a higher one.
        table: Security table to check, besides the one that a plan was compiled by.
        assume: What the owner of the weights accepts as true of every client.

    Raises:
        ArtifactInvalid: It is not an artifact; a file is missing, unlisted, a link, cut short or changed; its contents
            contradict each other or the packings.
        ArtifactUnsupported: Another version of helora or of a packing made it.
        InsecureParameters: The security table refuses the parameters.
        LeakageRefused: A plan shows weights to the key holder, sanitises its results too little, or rests on an
            assumption that is not accepted.
        PackingUnavailable, PluginLoadError: A packing is not installed, or broken.
    """
    demands = Demands(
        private_weights=private_weights,
        sanitize_bits=sanitize_bits,
        security_bits=security_bits,
        table=table,
        assume=frozenset(assume),
    )
    _check_place(directory)
    data = read_file(directory / MANIFEST, most=MANIFEST_BYTES)
    manifest = parse_manifest(data, directory / MANIFEST)
    _check_listing(directory, manifest)
    plans: dict[str, Plan] = {}
    for digest, name in manifest.plans.items():
        content = _read(directory, name, manifest.files[name])
        plans[digest] = restore_plan(content, directory / name, load_packing, demands)
        if plans[digest].digest != digest:
            raise damaged(directory / name, "is filed under the digest of another plan")
    _check_parameters(directory, manifest, list(plans.values()))
    modules = tuple(
        ArtifactModule(plans[entry.plan], entry, directory / entry.constants, manifest.files[entry.constants])
        for entry in manifest.modules
    )
    for module, entry in zip(modules, manifest.modules, strict=True):
        check_parts(entry, module.shape, directory / MANIFEST)
    for digest, name in manifest.plans.items():
        of_plan = [module for module in modules if module.plan is plans[digest]]
        check_modules(plans[digest], directory / name, of_plan)
    return Artifact(directory, hashlib.sha256(data).hexdigest(), manifest, modules)


def _check_place(directory: Path) -> None:
    """Refuse what cannot be an artifact with what it is instead."""
    if not directory.exists():
        raise ArtifactInvalid(
            f"{directory}: there is no such directory.",
            hint=f"Make it of an adapter: helora compile --adapter DIR --out {directory}",
        )
    named = any((directory / name).exists() for name in (CONFIG_FILE, TENSOR_FILE))
    if not (directory / MANIFEST).exists() and (directory.is_file() or named):
        raise ArtifactInvalid(
            f"{directory}: {'an adapter' if named else 'a file'}, not an artifact.",
            hint=f"Give an adapter as --adapter, or make an artifact of it: helora compile --adapter {directory} --out "
            "served",
        )


def _check_listing(directory: Path, manifest: Manifest) -> None:
    found, listed = set(listing(directory)), {MANIFEST, *manifest.files}
    for name in sorted(listed - found):
        raise damaged(directory / name, "is missing")
    for name in sorted(found - listed):
        raise damaged(directory / name, "is not in the manifest")


def _read(directory: Path, name: str, entry: FileEntry) -> bytes:
    if entry.bytes > PLAN_BYTES:
        raise damaged(directory / name, f"has {entry.bytes} bytes, and at most {PLAN_BYTES} are read")
    return read_hashed(directory / name, size=entry.bytes, sha256=entry.sha256)


def _check_parameters(directory: Path, manifest: Manifest, plans: list[Plan]) -> None:
    content = _read(directory, PARAMETERS, manifest.files[PARAMETERS])
    if decode_json(content, tuple[KeySet, ...], directory / PARAMETERS) != key_sets(plans):
        raise damaged(directory / PARAMETERS, "does not state the parameters and rotations of the plans")
    versions = {plan.packing.name: plan.packing.version for plan in plans}
    if manifest.packings != versions:
        raise damaged(directory / MANIFEST, "does not state the packings of the plans")
