"""Executes a plan's rounds on ciphertexts: as whole programs if the backend can run them, otherwise operation by
operation.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from time import perf_counter_ns
from typing import NamedTuple

from helora_core.backend.checked_programs import CheckedExecutable, ProgramRun
from helora_core.backend.ledger import InnerCounts
from helora_core.backend.protocol import Ciphertext, Sanitizing
from helora_core.backend.session import ServerSession
from helora_core.backend.short_results import low_bits_of
from helora_core.compiler.ir import Op, OpKind
from helora_core.compiler.plan import Plan
from helora_core.compiler.rounds import RoundKind
from helora_core.errors import InvalidInput
from helora_core.execution.constants import EncodedConstants
from helora_core.execution.interactive import Masks
from helora_core.execution.programs import Stage


class Execution:
    """One run of a plan at the server, round by round. Between rounds it holds values for later rounds, and the masks.

    Args:
        plan: The plan.
        constants: The module's weights, encoded for this plan.
        whole: Run whole programs if the backend can; if False, always go operation by operation.

    Attributes:
        constants: The weights.
        programs: The rounds as whole programs, or None.
        number: The number of the next round.
        live: Values that are still needed, by their numbers in the program.
    """

    def __init__(self, plan: Plan, constants: EncodedConstants, *, whole: bool = True) -> None:
        self.constants = constants
        self.programs = constants.programs if whole else None
        self.number = 0
        self.live: dict[int, Ciphertext] = {}
        self._plan = plan
        self._masks = Masks(plan)
        self._rounds = sum(turn.kind is RoundKind.HOMOMORPHIC for turn in plan.rounds)

    @property
    def done(self) -> bool:
        """Whether the last round on ciphertexts is over."""
        return self.number == self._rounds

    @property
    def bytes_held(self) -> int:
        """Bytes of the masks that this run holds."""
        return self._masks.bytes_held

    def proceed(self, server: ServerSession, inputs: Sequence[Ciphertext]) -> list[Ciphertext]:
        """Run the next round and return its outputs; see ``proceed_together``."""
        (outputs,) = proceed_together([Turn(self, server, inputs)])
        return outputs

    def start_round(self, inputs: Sequence[Ciphertext]) -> None:
        """Begin the next round with these inputs."""
        if self.done:
            raise InvalidInput("The run is over.", hint="Begin another run for further activations.")
        turn = self._plan.rounds[self.number]
        if len(inputs) != len(turn.inputs):
            raise InvalidInput(
                f"Round {self.number} of the program takes {len(turn.inputs)} ciphertexts and was given {len(inputs)}.",
                hint="Send every ciphertext that plan.pack gave, in order.",
            )
        self.live |= zip(turn.inputs, inputs, strict=True)

    def run_steps(self, server: ServerSession) -> None:
        """Run the next round operation by operation; each ciphertext is dropped after its last use."""
        live, evaluator = self.live, server.evaluator
        for value, op, together, freed in self._plan.rounds[self.number].steps:
            if op.kind is OpKind.ROTATE:
                if together:
                    steps = [self._plan.program.ops[each].steps for each in together]
                    live |= zip(together, evaluator.rotate_many(live[op.args[0]], steps), strict=True)
            else:
                live[value] = self._made(server, value, op, [live[arg] for arg in op.args])
            for each in freed:
                del live[each]

    def end_round(self) -> list[Ciphertext]:
        """End the round and return its outputs; values that later rounds read are kept."""
        turn = self._plan.rounds[self.number]
        outputs = [self.live[output] for output in turn.outputs]
        self.live = {value: self.live[value] for value in turn.carried}
        self.number += 1
        return outputs

    def sanitizing(self, value: int, op: Op) -> Sanitizing:
        """How a result of the program is sanitised."""
        report = self.constants.report
        flood_bits, mask_bits = report.flood_bits[value], report.mask_bits.get(value, 0)
        low_bits = low_bits_of(op.low_bits)
        return Sanitizing(self._plan.program.encoding, flood_bits, mask_bits, op.positions or None, op.steps, low_bits)

    def mask_and_unmask(self, server: ServerSession, stage: Stage) -> None:
        """Do the masking and unmasking of a stage, with the masks that this run holds."""
        for value, op, _, _ in stage.afterwards:
            if op.kind is not OpKind.SANITIZE:
                self.live[value] = self._made(server, value, op, [self.live[op.args[0]]])

    def _made(self, server: ServerSession, value: int, op: Op, operands: list[Ciphertext]) -> Ciphertext:
        constants, evaluator = self.constants, server.evaluator
        if op.kind is OpKind.MULTIPLY_PLAIN:
            return evaluator.multiply_plain(operands[0], constants.plaintext(op.constant))
        if op.kind is OpKind.DOT_PLAIN:
            return evaluator.dot_plain(operands, map(constants.plaintext, op.constants))
        if op.kind is OpKind.DOT_SCALARS:
            return evaluator.dot_plain(operands, (constants.scalar(op.constant, at) for at in op.positions))
        if op.kind is OpKind.ADD:
            return evaluator.add(*operands)
        if op.kind is OpKind.RESCALE:
            return evaluator.rescale(operands[0])
        if op.kind is OpKind.SANITIZE:
            return server.sanitize_many(operands, [self.sanitizing(value, op)])[0]
        if op.kind is OpKind.MASK:
            return self._masks.hide(server, op.constant, operands[0])
        if op.kind is OpKind.UNMASK:
            return self._masks.take_off(server, op, operands[0])
        raise AssertionError(f"no round has an operation {op.kind.value}")


class Turn(NamedTuple):
    """The next round of one run: the run, its session and the ciphertexts that the client uploaded."""

    run: Execution
    server: ServerSession
    inputs: Sequence[Ciphertext]


def proceed_together(turns: Sequence[Turn]) -> list[list[Ciphertext]]:
    """Run the next round of several runs, of any tokens, modules and clients. A backend that runs whole programs gets
    all runs of the same program at once.

    Args:
        turns: One for each run. A run's session is the same in all rounds. The inputs of its first round are one
            ciphertext for each vector of ``plan.pack``; those of later rounds are the client's answer.

    Returns:
        The outputs of each run.

    Raises:
        InvalidInput: The number of inputs is not the round's, or there is no further round.
        MissingRotationKey, ForeignCiphertext, …: As the evaluator's operations raise them.
    """
    whole: defaultdict[tuple[int, int], list[Turn]] = defaultdict(list)
    for each in turns:
        each.run.start_round(each.inputs)
        if each.run.programs is None:
            each.run.run_steps(each.server)
        else:
            whole[id(each.run.programs), each.run.number].append(each)
    for together in whole.values():
        _run_whole(together)
    return [each.run.end_round() for each in turns]


def _run_whole(turns: Sequence[Turn]) -> None:
    """Run one round of several runs of the same program, stage by stage."""
    programs, number = turns[0].run.programs, turns[0].run.number
    assert programs is not None
    for stage in programs.rounds[number]:
        if stage.executable is not None:
            _run_tape(stage, stage.executable, turns)
        for each in turns:
            each.run.mask_and_unmask(each.server, stage)
        of_session: defaultdict[int, list[Turn]] = defaultdict(list)
        for each in turns:
            of_session[id(each.server)].append(each)
        for together in of_session.values():
            _sanitize(stage, together)
        for each in turns:
            each.run.live = {value: held for value, held in each.run.live.items() if value in stage.kept}


def _run_tape(stage: Stage, executable: CheckedExecutable, turns: Sequence[Turn]) -> None:
    start = perf_counter_ns()
    runs = [
        ProgramRun(
            each.server.evaluator.unmetered,
            each.run.constants.weights(executable),
            [each.run.live[value] for value in stage.inputs],
        )
        for each in turns
    ]
    done: Counter[str] = Counter()
    made = executable.run(runs, trace=lambda kind, times: done.update({kind: times}))
    elapsed = (perf_counter_ns() - start) // len(turns)
    inner = InnerCounts.traced(done, len(turns))
    for each, outputs in zip(turns, made, strict=True):
        each.server.evaluator.credit(stage.counts, elapsed, inner)
        each.run.live |= zip(stage.outputs, outputs, strict=True)


def _sanitize(stage: Stage, turns: Sequence[Turn]) -> None:
    """Sanitise the results of a stage, all runs of one session together."""
    steps = [(each.run, step) for each in turns for step in stage.afterwards if step.op.kind is OpKind.SANITIZE]
    how = [run.sanitizing(step.value, step.op) for run, step in steps]
    clean = turns[0].server.sanitize_many([run.live[step.op.args[0]] for run, step in steps], how)
    for (run, step), ciphertext in zip(steps, clean, strict=True):
        run.live[step.value] = ciphertext
