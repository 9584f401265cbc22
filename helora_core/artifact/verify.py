"""Checks plaintexts against their plan: the compiler and the packing have to make them from some adapter.

Three things are checked: the program may leave out only what the plaintexts' zeros make superfluous, the
plaintexts are those of a module, and the weights are normalised, since floods, bounds and headroom rely on that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from helora_core.adapter.lora import LoRAModule
from helora_core.artifact.files import damaged
from helora_core.artifact.weights import NotOfThePacking, Readback, Recovered
from helora_core.compiler.compile import lower
from helora_core.compiler.exponents import LARGEST_NORM, is_normalized, row_norm
from helora_core.compiler.ir import OpKind, Program
from helora_core.compiler.plan import Plan
from helora_core.errors import HeloraError
from helora_core.packing.protocol import Layout, ProgramBuilder, Vector


class StoredPlaintexts(Protocol):
    """One module of an artifact."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def path(self) -> Path:
        """The file with its plaintexts."""
        ...

    def vectors(self, plan: Plan) -> Iterator[tuple[str, Vector]]:
        """The plaintexts."""
        ...


def check_modules(plan: Plan, path: Path, modules: Sequence[StoredPlaintexts]) -> None:
    """Verify all modules of one plan.

    Args:
        plan: The result of ``restore_plan``.
        path: Where it was read, for refusals.
        modules: Its modules.

    Raises:
        ArtifactInvalid: The compiler does not make the program for any module, its plaintexts are not those that the
            packing makes, or its weights are larger than normalised ones.
    """
    programs, readback = Programs(plan, path), Readback(plan)
    numbers = {op.constant for op in plan.program.ops if op.kind is OpKind.DOT_SCALARS}
    for module in modules:
        vectors = dict(module.vectors(plan))
        programs.check({name: vector for name, vector in vectors.items() if _has_zeros(name, vector, numbers)})
        try:
            _check_sizes(module, readback.read(vectors.items()))
        except NotOfThePacking as error:
            raise damaged(module.path, f"does not hold what packing {plan.packing.name} makes: {error}") from error


def _has_zeros(name: str, vector: Vector, numbers: set[str]) -> bool:
    return not (vector.all() if name in numbers else vector.any())


def _check_sizes(module: StoredPlaintexts, found: Recovered) -> None:
    """Check the weights found against the norms that headroom, floods and bounds rely on."""
    if found.down is not None and found.up is not None:
        held = is_normalized(LoRAModule(module.name, found.down, found.up, 1.0))
    else:
        assert found.merged is not None  # there is nothing else that can be found
        held = row_norm(found.merged) <= LARGEST_NORM
    if not held:
        raise damaged(module.path, f"holds weights that are larger than module {module.name!r} may have")


class Programs:
    """The programs that the compiler now makes from a plan's layout; the stored one has to be one of them.

    Args:
        plan: As ``restore_plan`` gives it.
        path: Where it was read, for refusals.

    Raises:
        ArtifactInvalid: The compiler cannot make any.
    """

    def __init__(self, plan: Plan, path: Path) -> None:
        self._plan = plan
        self._path = path
        try:
            emitted, self._dense = self._lowered(plan.layout, None)
        except HeloraError as error:
            raise damaged(path, f"holds a plan that cannot be: {error.message}") from error
        self._names = _names(emitted)
        if not _names(plan.program) <= self._names:
            raise damaged(path, "holds a program with constants that its layout does not have")

    @property
    def whole(self) -> bool:
        """Whether the stored program leaves nothing out."""
        return self._plan.program == self._dense

    def check(self, zeros: Mapping[str, Vector]) -> None:
        """Check the stored program against the one that the compiler makes for a module.

        Args:
            zeros: The module's stored plaintexts that have zeros. Those that are not stored count as zero, or
                multiply what only zeros are multiplied by afterwards.

        Raises:
            ArtifactInvalid: It is a different one.
        """
        plan = self._plan
        if self.whole:
            return
        nothing = np.zeros(1)
        absent = dict.fromkeys(self._names - _names(plan.program), nothing)
        try:
            _, sparse = self._lowered(_WithPlaintexts(plan.layout, {**absent, **zeros}), _ANY_ZERO)
        except HeloraError as error:
            raise damaged(self._path, f"holds a plan that cannot be: {error.message}") from error
        if plan.program != sparse:
            raise damaged(self._path, "holds a program that is not the one of its layout, whichever zeros are left out")

    def _lowered(self, layout: Layout, module: LoRAModule | None) -> tuple[Program, Program]:
        """The program that the packing emits, and the program after all passes."""
        plan = self._plan
        steps = lower(layout, plan.packing, plan.settings, sanitize_bits=plan.sanitize_bits, module=module)
        first, *_, last = [step.program for step in steps]
        return first, last


_ANY_ZERO = LoRAModule("zeros", np.array([[0.0, 1.0]]), np.ones((1, 1)), 1.0)
"""Stands for a module with zeros when its plaintexts show where they are."""


class _WithPlaintexts:
    """A layout whose plaintexts with zeros are already known."""

    def __init__(self, layout: Layout, plaintexts: Mapping[str, Vector]) -> None:
        self._layout = layout
        self._plaintexts = plaintexts

    @property
    def tokens_per_run(self) -> int:
        return self._layout.tokens_per_run

    @property
    def figures(self) -> Mapping[str, int]:
        return self._layout.figures

    def emit(self, builder: ProgramBuilder) -> None:
        self._layout.emit(builder)

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        yield from self._plaintexts.items()

    def pack(self, x: Vector) -> list[Vector]:
        return self._layout.pack(x)

    def unpack(self, outputs: list[Vector], tokens: int, client_module: LoRAModule | None) -> Vector:
        return self._layout.unpack(outputs, tokens, client_module)


def _names(program: Program) -> set[str]:
    return {name for op in program.ops for name in (op.constant, *op.constants) if name}
