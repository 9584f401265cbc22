"""Doubles that run whole programs wrongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from doubles.honest import HonestBackend
from doubles.registry import caught_by
from helora_core.backend.tape import Numbers, Tape, TapeRun, Trace
from helora_core.params.ckks import CKKSParams
from helora_numpy.programs import EmulatedExecutable, Weights


def runs_with(executable: type[EmulatedExecutable]) -> type[HonestBackend]:
    """The honest backend, whose programs run like this."""

    def prepare(self: Any, params: CKKSParams, tape: Tape) -> EmulatedExecutable:
        return executable(self.encoder(params), tape)

    names = {"prepare": prepare, "__doc__": executable.__doc__}
    return type(executable.__name__, (HonestBackend,), names)


def _double(law: str) -> Any:
    return lambda executable: caught_by(law)(runs_with(executable))


@_double("test_many_runs_at_once_are_each_as_if_alone")
class SharesTheFirstRunsWeights(EmulatedExecutable):
    """All runs of one call multiply by the weights of the first.

    A batch that is put together by program, of requests for modules of one shape.
    """

    def run(self, runs: Sequence[TapeRun], *, trace: Trace | None = None) -> Any:
        return super().run([run._replace(weights=runs[0].weights) for run in runs], trace=trace)


@_double("test_many_runs_at_once_are_each_as_if_alone")
class ReturnsRunsByModule(EmulatedExecutable):
    """Outputs come in the order in which the runs were grouped.

    Runs are sorted so that each key stream is read once, and nobody sorts them back.
    """

    def run(self, runs: Sequence[TapeRun], *, trace: Trace | None = None) -> Any:
        return super().run(sorted(runs, key=lambda run: id(run.weights)), trace=trace)


@_double("test_a_program_gives_what_its_operations_give")
class RunsProgramsNoisily(EmulatedExecutable):
    """A program's results have sixteen times the noise of a rescale added.

    Divisions put off to the end of a sum, in a word that is too short for it.
    """

    def run(self, runs: Sequence[TapeRun], *, trace: Trace | None = None) -> Any:
        made = super().run(runs, trace=trace)
        return [
            [run.evaluator._like(each, run.evaluator._noisy(each.values, 3000.0, each.scale)) for each in outputs]
            for run, outputs in zip(runs, made, strict=True)
        ]


@_double("test_a_program_gives_what_its_operations_give")
class PromisesEqualBits(EmulatedExecutable):
    """Programs claim to give what operations give, bit for bit.

    A division that waits for the end of a sum rounds once where operations round each time.
    """

    exact = True


@_double("test_a_program_gives_what_its_operations_give")
class ForgetsLastOutput(EmulatedExecutable):
    """The last output is that of a buffer that was freed: zeros.

    Buffers planned ahead, by last reads that leave out what is returned.
    """

    def run(self, runs: Sequence[TapeRun], *, trace: Trace | None = None) -> Any:
        made = super().run(runs, trace=trace)
        for outputs in made:
            outputs[-1] = replace(outputs[-1], values=np.zeros_like(outputs[-1].values))
        return made


@_double("test_what_a_program_does_is_what_its_plan_counts")
class SwitchesKeysTwice(EmulatedExecutable):
    """A rotation takes two key switches.

    Steps composed of others, so that fewer keys are held.
    """

    def run(self, runs: Sequence[TapeRun], *, trace: Trace | None = None) -> Any:
        def twice(kind: str, times: int) -> None:
            if trace is not None:
                trace(kind, 2 * times if kind == "keyswitches" else times)

        return super().run(runs, trace=twice)


@_double("test_a_program_leaves_its_inputs_as_they_were")
class WritesIntoInputs(EmulatedExecutable):
    """The first input is overwritten.

    Its buffer is free after its last reader, and it is not the library's to free.
    """

    def run(self, runs: Sequence[TapeRun], *, trace: Trace | None = None) -> Any:
        made = super().run(runs, trace=trace)
        for run in runs:
            values = run.inputs[0].values
            values.flags.writeable = True
            values[..., :8] = 0
        return made


@_double("test_many_runs_at_once_are_each_as_if_alone")
class KeepsTheLastWeights(EmulatedExecutable):
    """A program multiplies by the weights that were loaded last.

    One buffer of weights a program, where there is one a module.
    """

    def load(self, plaintexts: Mapping[str, Any], numbers: Numbers) -> Weights:
        self._last = super().load(plaintexts, numbers)
        return self._last

    def run(self, runs: Sequence[TapeRun], *, trace: Trace | None = None) -> Any:
        return super().run([run._replace(weights=self._last) for run in runs], trace=trace)
