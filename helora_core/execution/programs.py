"""A plan's rounds as tapes, for backends that run whole programs.

A round is cut into *stages*. Each begins with pure operations, as one tape; then come those that draw randomness or
read masks, which core itself does for each run; operations that read their results belong to the next stage. Most
rounds have one stage: products and rotations, then sanitising.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from helora_core.backend import checks
from helora_core.backend.checked_programs import CheckedExecutable
from helora_core.backend.encoder import PlaintextEncoder
from helora_core.backend.ledger import OperationCounts
from helora_core.backend.tape import Instruction, InstructionKind, LevelAndScale, Tape, TapeConstant
from helora_core.compiler.cost import count_operations
from helora_core.compiler.ir import PRODUCTS, Op, OpKind, plaintexts
from helora_core.compiler.plan import Plan
from helora_core.compiler.rounds import Round, Step
from helora_core.params.ckks import CKKSParams

_IMPURE = frozenset({OpKind.SANITIZE, OpKind.MASK, OpKind.UNMASK})
_FRESH = frozenset({OpKind.INPUT, OpKind.ASK_CLIENT})
_KINDS = {
    OpKind.ROTATE: InstructionKind.ROTATE,
    OpKind.MULTIPLY_PLAIN: InstructionKind.MULTIPLY_PLAIN,
    OpKind.DOT_PLAIN: InstructionKind.DOT_PLAIN,
    OpKind.DOT_SCALARS: InstructionKind.DOT_SCALARS,
    OpKind.ADD: InstructionKind.ADD,
    OpKind.RESCALE: InstructionKind.RESCALE,
}
_WHO = "program"


class Stage(NamedTuple):
    """Part of a round. Values have their numbers in the plan's program.

    Attributes:
        executable: The pure part, as the library prepared it; None if there is nothing to compute.
        inputs: Values that the pure part reads.
        outputs: Values that the pure part makes and that are read after it.
        counts: Operations in one run of the pure part.
        afterwards: The steps that core does next, for each run, in any order: sanitise, mask, unmask.
        kept: Values that are read after the stage.
    """

    executable: CheckedExecutable | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    counts: OperationCounts
    afterwards: tuple[Step, ...]
    kept: frozenset[int]


class Programs:
    """The stages of a plan's rounds, prepared once for all modules and clients.

    Attributes:
        rounds: The stages of each round.
    """

    def __init__(self, plan: Plan, encoder: PlaintextEncoder) -> None:
        places = _followed(plan, encoder.params)
        self.rounds = tuple(tuple(_stages(plan, turn, places, encoder)) for turn in plan.rounds)


def programs_of(plan: Plan, encoder: PlaintextEncoder) -> Programs | None:
    """The plan's rounds as whole programs, or None if the backend runs them operation by operation.

    Raises:
        LevelMismatch, ScaleMismatch, LevelExhausted, PrecisionLost: With the primes that the backend really uses,
            operands cannot be combined; the same operations would be refused one by one.
    """
    return Programs(plan, encoder) if encoder.prepares and plan.program.ops else None


def _followed(plan: Plan, params: CKKSParams) -> list[LevelAndScale]:
    """Level and exact scale of every value of the program, computed as in the evaluator's own checks."""
    places: list[LevelAndScale] = []
    for value, op in enumerate(plan.program.ops):
        if op.kind in _FRESH:
            places.append(LevelAndScale(params.max_level, 2.0 ** plan.values[value].scale_bits))
            continue
        first = places[op.args[0]]
        for arg in op.args[1:]:
            if places[arg] != first:
                checks.unlike(_WHO, (first.level, places[arg].level), (first.scale, places[arg].scale))
        places.append(_made(plan, op, first, params))
    return places


def _made(plan: Plan, op: Op, first: LevelAndScale, params: CKKSParams) -> LevelAndScale:
    level, scale = first
    if op.kind in PRODUCTS:
        constant = _constant(plan, op)
        if constant.level != level:
            checks.unlike(_WHO, (level, constant.level))
        if scale * constant.scale >= checks.largest_scales(params)[level]:
            checks.too_large_a_product(_WHO, scale, constant.scale, level)
        return LevelAndScale(level, scale * constant.scale)
    if op.kind is OpKind.RESCALE:
        if level == 0:
            checks.no_level_left(_WHO)
        return LevelAndScale(level - 1, scale / params.data_primes[level])
    return first


def _constant(plan: Plan, op: Op) -> TapeConstant:
    """The tape's entry for a product's plaintexts, which all have the same level and scale."""
    spec = plan.constant_specs[(plaintexts(op) or (op.constant,))[0]]
    return TapeConstant(spec.level, 2.0**spec.scale_bits, op.kind is OpKind.DOT_SCALARS)


def _stages(plan: Plan, turn: Round, places: Sequence[LevelAndScale], encoder: PlaintextEncoder) -> Iterable[Stage]:
    of_value = _numbered(turn)
    last = max(of_value.values(), default=0)
    for number in range(last + 1):
        own = [step for step in turn.steps if of_value[step.value] == number]
        pure = [step for step in own if step.op.kind not in _IMPURE]
        afterwards = tuple(step for step in own if step.op.kind in _IMPURE)
        later = [step for step in turn.steps if of_value[step.value] > number]
        kept = {arg for step in later for arg in step.op.args}.union(turn.outputs, turn.carried)
        read = kept.union(arg for step in afterwards for arg in step.op.args)
        made = {step.value for step in pure}
        inputs = tuple(sorted({arg for step in pure for arg in step.op.args} - made))
        outputs = tuple(sorted(made & read))
        tape = _tape(plan, pure, inputs, outputs, places)
        ops = tuple(step.op for step in pure)
        yield Stage(
            encoder.prepare(tape) if pure else None,
            inputs,
            outputs,
            count_operations(msgspec.structs.replace(plan.program, ops=ops, outputs=())),
            afterwards,
            frozenset(kept),
        )


def _numbered(turn: Round) -> dict[int, int]:
    """The number of each step's stage: a step that reads the result of an impure step is in a later stage."""
    numbers: dict[int, int] = {}
    impure = {step.value for step in turn.steps if step.op.kind in _IMPURE}
    for value, op, _, _ in turn.steps:
        numbers[value] = max((numbers.get(arg, 0) + (arg in impure) for arg in op.args), default=0)
    return numbers


def _tape(
    plan: Plan,
    steps: Sequence[Step],
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    places: Sequence[LevelAndScale],
) -> Tape:
    """The steps as a tape, with its own numbers for values. Neighbouring rotations of a value are one instruction, and
    so is a sum of any number of values.
    """
    numbers = {value: i for i, value in enumerate(inputs)}
    instructions: list[Instruction] = []
    constants: dict[str, TapeConstant] = {}
    terms = _terms(steps, outputs)
    for value, op, together, _ in steps:
        if (op.kind is OpKind.ROTATE and not together) or value in terms.partial:
            continue  # with the first of its group, or with the whole sum
        result = len(numbers)
        for each in together or (value,):
            numbers[each] = len(numbers)
        if op.kind in PRODUCTS:
            constants |= dict.fromkeys(plaintexts(op) or (op.constant,), _constant(plan, op))
        instructions.append(
            Instruction(
                kind=_KINDS[op.kind],
                args=tuple(numbers[arg] for arg in terms.of.get(value, op.args)),
                result=result,
                level=places[value].level,
                scale=places[value].scale,
                steps=tuple(plan.program.ops[each].steps for each in together),
                constants=plaintexts(op) or ((op.constant,) if op.constant else ()),
                positions=op.positions,
            )
        )
    kept = tuple(numbers[output] for output in outputs)
    return Tape(tuple(places[each] for each in inputs), constants, freeing(instructions, kept), kept)


class _Terms(NamedTuple):
    """Sums of sums.

    Attributes:
        of: The terms of each sum, from left to right.
        partial: Sums that only another sum reads.
    """

    of: dict[int, tuple[int, ...]]
    partial: frozenset[int]


def _terms(steps: Sequence[Step], outputs: tuple[int, ...]) -> _Terms:
    readers = Counter(outputs)
    for step in steps:
        readers.update(step.op.args)
    of: dict[int, tuple[int, ...]] = {}
    partial: set[int] = set()
    for value, op, _, _ in steps:
        if op.kind is OpKind.ADD:
            inner = {arg for arg in op.args if arg in of and readers[arg] == 1}
            of[value] = tuple(term for arg in op.args for term in (of[arg] if arg in inner else (arg,)))
            partial |= inner
    return _Terms(of, frozenset(partial))


def freeing(instructions: Sequence[Instruction], outputs: tuple[int, ...]) -> tuple[Instruction, ...]:
    """The instructions, each with the values to free: those that it reads last, and its results that nothing reads."""
    last: dict[int, int] = {}
    for i, each in enumerate(instructions):
        last |= dict.fromkeys((*range(each.result, each.result + max(1, len(each.steps))), *each.args), i)
    freed: list[list[int]] = [[] for _ in instructions]
    for value, reader in last.items():
        if value not in outputs:
            freed[reader].append(value)
    return tuple(
        msgspec.structs.replace(each, freed=tuple(sorted(values)))
        for each, values in zip(instructions, freed, strict=True)
    )
