"""What a tape is lowered to: ``native/helora_rns.h`` says what each step does, ``interpreter.py`` does it in NumPy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby
from typing import NamedTuple


class Kind(IntEnum):
    """Steps, by their numbers in the C interface. Those from ``ROTATE`` on work row by row."""

    DECOMPOSE = 0
    DIVIDE = 1
    RESCALE = 2
    ROTATE = 3
    DOT = 4
    SUM = 5
    RAISE = 6

    @property
    def by_row(self) -> bool:
        """Whether it works on each prime's rows alone."""
        return self >= Kind.ROTATE


class Ref(NamedTuple):
    """Rows of a buffer: one polynomial, a ciphertext's first or second, or all digits.

    Attributes:
        slot: The buffer.
        row: The first row.
        rows: Primes that it has rows for; for the others it is zero.
        local: There is but one row, which each prime's work uses anew.
    """

    slot: int
    row: int
    rows: int
    local: bool = False


class Step(NamedTuple):
    """One step.

    Attributes:
        kind: What it does.
        limbs: Data primes of the values that it reads.
        rows: Primes whose rows it makes.
        refs: What it makes, then what it reads.
        terms: Of a sum.
        accumulate: Whether it adds to what is there.
    """

    kind: Kind
    limbs: int
    rows: int
    refs: tuple[Ref, ...]
    terms: int = 0
    accumulate: bool = False


class Slots(NamedTuple):
    """How the buffers of a run are numbered: one range after another.

    Attributes:
        inputs, outputs: Ciphertexts.
        plaintexts: Names, in order.
        steps: Rotations, in order; each has three slots: key, index and inverse index.
        scratch: Rows of each buffer of the program's own.
    """

    inputs: int
    outputs: tuple[int, ...]
    plaintexts: tuple[str, ...]
    steps: tuple[int, ...]
    scratch: tuple[int, ...]

    @property
    def total(self) -> int:
        """Buffers of a run."""
        return self.inputs + len(self.outputs) + len(self.plaintexts) + 3 * len(self.steps) + len(self.scratch)


@dataclass(frozen=True)
class Lowered:
    """A tape as steps.

    Attributes:
        slots: Its buffers.
        steps: In the order in which they run.
        returned: For each output of the tape, its place among ``slots.outputs``, or, as −1 − i, input i.
        counts: What one run does, under the ledger's names, and the ``decompositions``, the polynomials divided by the
            special primes (``mod_downs``) and the NTTs (``transforms``).
        exact: Whether the results are those of single operations, bit for bit: no division is put off.
    """

    slots: Slots
    steps: tuple[Step, ...]
    returned: tuple[int, ...]
    counts: Mapping[str, int]
    exact: bool

    def groups(self) -> Iterator[list[Step]]:
        """Steps that run together: neighbours that work row by row on as many limbs, or decompose, or divide."""
        for _, group in groupby(enumerate(self.steps), lambda each: _together(*each)):
            yield [step for _, step in group]


def _together(place: int, step: Step) -> tuple[str, int, int]:
    """The same for neighbours of a group. Of rescales, one may read what another makes."""
    if step.kind.by_row:
        return "by row", 0, step.limbs
    return step.kind.name, place if step.kind is Kind.RESCALE else 0, step.limbs


def transforms(steps: tuple[Step, ...], specials: int) -> Counter[str]:
    """Decompositions, divisions of a polynomial by the special primes, and NTTs."""
    done: Counter[str] = Counter(decompositions=0, mod_downs=0, transforms=0)
    for step in steps:
        if step.kind is Kind.DECOMPOSE:
            done += Counter(decompositions=1, transforms=step.limbs * (step.limbs + specials))
        elif step.kind is Kind.DIVIDE:
            done += Counter(mod_downs=1, transforms=step.limbs + specials)
        elif step.kind is Kind.RESCALE:
            done += Counter(transforms=step.limbs)
    return done
