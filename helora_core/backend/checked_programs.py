"""Whole programs behind core's checks: a library's executable only ever gets inputs and weights that fit its tape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from helora_core.backend import checks
from helora_core.backend.capabilities import Capabilities, RescaleMode
from helora_core.backend.checked_evaluator import CheckedEvaluator
from helora_core.backend.handles import Ciphertext, Family, Plaintext
from helora_core.backend.protocol import Executable
from helora_core.backend.tape import LevelAndScale, Numbers, Tape, TapeRun, Trace
from helora_core.errors import InvalidInput


class LoadedWeights(NamedTuple):
    """A module's weights, as the library keeps them for one tape.

    Attributes:
        data: The library's own object.
        tape: The tape that they are for.
    """

    data: Any
    tape: Tape


class ProgramRun(NamedTuple):
    """One run: its evaluator, its weights and its inputs."""

    evaluator: CheckedEvaluator
    weights: LoadedWeights
    inputs: Sequence[Ciphertext]


class CheckedExecutable:
    """An ``Executable`` that refuses weights and ciphertexts of another tape, key pair, level or scale.

    Args:
        library: The library's executable.
        tape: The tape that it was prepared for.
        family: The family of its plaintexts.
    """

    def __init__(self, library: Executable, tape: Tape, family: Family) -> None:
        self.tape = tape
        self.exact = library.exact
        self._library = library
        self._family = family
        self._who = family[1]
        self._steps = tape.rotation_steps
        self._outputs = _levels_and_scales(tape)

    def load(self, plaintexts: Mapping[str, Plaintext], numbers: Numbers) -> LoadedWeights:
        """A module's weights for this tape.

        Raises:
            InvalidInput: A constant of the tape is missing, or there is one that it does not have.
            ForeignCiphertext, LevelMismatch, ScaleMismatch: A plaintext is for other ciphertexts.
        """
        wanted = self.tape.constants
        given = {**dict.fromkeys(plaintexts, False), **dict.fromkeys(numbers, True)}
        if given != {name: each.numbers for name, each in wanted.items()}:
            raise InvalidInput(
                f"{self._who} load: {len(given)} constants are not the {len(wanted)} that the program multiplies by.",
                hint="Encode the module for the plan that the program is of.",
            )
        for name, plaintext in plaintexts.items():
            if plaintext.__class__ is not Plaintext or plaintext.family != self._family:
                checks.foreign_plaintext(f"{self._who} load")
            spec = wanted[name]
            if (plaintext.level, plaintext.scale) != (spec.level, spec.scale):
                checks.unlike(f"{self._who}: load", (plaintext.level, spec.level), (plaintext.scale, spec.scale))
        data = self._library.load({name: each.data for name, each in plaintexts.items()}, numbers)
        return LoadedWeights(data, self.tape)

    def run(self, runs: Sequence[ProgramRun], *, trace: Trace | None = None) -> list[list[Ciphertext]]:
        """The outputs of each run. Without runs, the library is not called.

        Raises:
            ForeignCiphertext: An input has other keys than its run's evaluator, or weights are for another tape.
            LevelMismatch, ScaleMismatch: An input has another level or scale than the tape says.
            MissingRotationKey: An evaluator has no key for one of the tape's rotations.
            InvalidInput: There are more or fewer inputs than the tape takes.
        """
        for run in runs:
            self._check(run)
        if not runs:
            return []
        taken = [
            TapeRun(run.evaluator.library, run.weights.data, tuple(each.data for each in run.inputs)) for run in runs
        ]
        made = self._library.run(taken, trace=trace)
        return [
            [
                Ciphertext(data, run.evaluator.key_id, level, scale)
                for data, (level, scale) in zip(outputs, self._outputs, strict=True)
            ]
            for run, outputs in zip(runs, made, strict=True)
        ]

    def _check(self, run: ProgramRun) -> None:
        if run.weights.tape is not self.tape:
            checks.foreign_plaintext(f"{self._who} run")
        if len(run.inputs) != len(self.tape.inputs):
            raise InvalidInput(
                f"{self._who} run: {len(run.inputs)} inputs; the program takes {len(self.tape.inputs)}.",
                hint="Give a ciphertext for each input, in order.",
            )
        for ciphertext, (level, scale) in zip(run.inputs, self.tape.inputs, strict=True):
            if ciphertext.__class__ is not Ciphertext or ciphertext.key_id != run.evaluator.key_id:
                checks.foreign(f"{self._who} run")
            if ciphertext.level != level or ciphertext.scale != scale:
                checks.unlike(f"{self._who}: run", (ciphertext.level, level), (ciphertext.scale, scale))
        for step in self._steps - run.evaluator.steps:
            checks.no_rotation_key(self._who, step)


def runs_programs(capabilities: Capabilities) -> bool:
    """Whether a backend runs whole programs: it claims to, and leaves levels and scales to the program."""
    explicit = capabilities.rescale is RescaleMode.EXPLICIT
    return capabilities.programs and explicit and capabilities.free_plaintext_scale


def _levels_and_scales(tape: Tape) -> list[LevelAndScale]:
    """The levels and scales of the outputs."""
    found = dict(enumerate(tape.inputs))
    for each in tape.instructions:
        for result in range(each.result, each.result + max(1, len(each.steps))):
            found[result] = LevelAndScale(each.level, each.scale)
    return [found[output] for output in tape.outputs]
