"""Lowers a tape: where digits are made, and where products with keys are divided by the special primes.

A rotated value stays *extended*: P times what it stands for, modulo the special primes too, where P is their product.
Sums, and products with plaintexts, are taken of extended values, so that a sum is divided once instead of each rotation
(double hoisting: Bossuat, Mouchet, Troncoso-Pastoriza and Hubaux, EUROCRYPT 2021, §5). If an extended value is rotated
itself, only its second polynomial is divided, to be decomposed; the first goes on as it is.

The program runs in *stages*. Each begins with what needs transforms: divisions, digits, rescales. The rest works on
each prime's rows alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from helora_core.backend.tape import Instruction, InstructionKind, Tape, operations
from helora_rns.programs.steps import Kind, Lowered, Ref, Slots, Step, transforms

_PRODUCTS = frozenset({InstructionKind.MULTIPLY_PLAIN, InstructionKind.DOT_PLAIN})
_CONVERTED = frozenset({InstructionKind.ROTATE, InstructionKind.RESCALE})
Pair = tuple[Ref, Ref]


def lower(tape: Tape, specials: int) -> Lowered:
    """A tape without products with numbers, as steps.

    Args:
        tape: The program.
        specials: Special primes; one or more if it rotates.
    """
    return _Lowering(tape, specials).lowered()


class _Lowering:
    def __init__(self, tape: Tape, specials: int) -> None:
        self._tape, self._specials = tape, specials
        self._levels = {i: each.level for i, each in enumerate(tape.inputs)}
        self._maker: dict[int, Instruction] = {}
        for instruction in tape.instructions:
            for value in _results(instruction):
                self._levels[value] = instruction.level
                self._maker[value] = instruction
        self._steps_by_value = {
            instruction.result + i: step
            for instruction in tape.instructions
            for i, step in enumerate(instruction.steps)
        }
        self._readers: Counter[int] = Counter(tape.outputs)
        self._readers.update(arg for instruction in tape.instructions for arg in instruction.args)
        self._extended = self._which_are_extended()
        self._stage = self._stages()
        self._local = self._which_are_local()
        self._made: list[Step] = []
        self._pairs: dict[int, Pair] = {}
        self._finals: dict[int, Pair] = {}
        self._raised: dict[tuple[int, int, int], Ref] = {}
        self._digits_of: dict[int, Ref] = {}
        self._scratch: list[int] = []
        names = tuple(tape.constants)
        steps = tuple(sorted(tape.rotation_steps))
        outputs = [value for value in dict.fromkeys(tape.outputs) if value in self._maker]
        self._output_slots = {value: len(tape.inputs) + i for i, value in enumerate(outputs)}
        first = len(tape.inputs) + len(outputs)
        self._plaintext_slots = {name: first + i for i, name in enumerate(names)}
        first += len(names)
        self._key_slots = {step: first + 3 * i for i, step in enumerate(steps)}
        self._first_scratch = first + 3 * len(steps)
        self._names, self._rotations, self._outputs = names, steps, outputs

    def lowered(self) -> Lowered:
        for value in range(len(self._tape.inputs)):
            self._pairs[value] = self._both(value, self._limbs(value))
        for stage in range(max(self._stage.values(), default=0) + 1):
            own = [each for each in self._tape.instructions if self._stage[each.result] == stage]
            self._convert(own)
            # By levels, since only steps on as many limbs run together, a row at a time.
            for instruction in sorted(own, key=lambda each: each.level):
                self._row_by_row(instruction, stage)
        for value in self._outputs:
            self._final(value)
        steps = tuple(self._made)
        slots = Slots(
            len(self._tape.inputs),
            tuple(self._limbs(value) for value in self._outputs),
            self._names,
            self._rotations,
            tuple(self._scratch),
        )
        places = {value: i for i, value in enumerate(self._outputs)}
        returned = tuple(places.get(value, -1 - value) for value in self._tape.outputs)
        counts = operations(self._tape) + transforms(steps, self._specials)
        return Lowered(slots, steps, returned, dict(counts), exact=not self._rotations)

    # What is known of the tape before anything is emitted.

    def _limbs(self, value: int) -> int:
        return self._levels[value] + 1

    def _which_are_extended(self) -> frozenset[int]:
        found: set[int] = set()
        for each in self._tape.instructions:
            if each.kind is InstructionKind.ROTATE or (
                each.kind is not InstructionKind.RESCALE and not found.isdisjoint(each.args)
            ):
                found.update(_results(each))
        return frozenset(found)

    def _stages(self) -> dict[int, int]:
        """The stage of each value: a rotation or a rescale begins one."""
        stage = dict.fromkeys(range(len(self._tape.inputs)), 0)
        for each in self._tape.instructions:
            number = max(stage[arg] for arg in each.args) + (each.kind in _CONVERTED)
            stage |= dict.fromkeys(_results(each), number)
        return stage

    def _which_are_local(self) -> frozenset[int]:
        """Extended values that only their own stage reads: row by row, they need no more than a row."""
        kept = set(self._tape.outputs)
        for each in self._tape.instructions:
            kept.update(
                arg for arg in each.args if each.kind in _CONVERTED or self._stage[arg] != self._stage[each.result]
            )
        return self._extended - kept

    # Buffers.

    def _new(self, rows: int) -> int:
        self._scratch.append(rows)
        return self._first_scratch + len(self._scratch) - 1

    def _both(self, slot: int, rows: int) -> Pair:
        return Ref(slot, 0, rows), Ref(slot, rows, rows)

    def _own(self, value: int) -> Pair:
        """A buffer for a value that is made row by row."""
        limbs = self._limbs(value)
        rows = limbs + self._specials
        if value in self._local:
            slot = self._new(2)
            return Ref(slot, 0, rows, True), Ref(slot, 1, rows, True)
        if value in self._extended:
            return self._both(self._new(2 * rows), rows)
        return self._both(self._final_slot(value, limbs), limbs)

    def _final_slot(self, value: int, limbs: int) -> int:
        found = self._output_slots.get(value)
        return self._new(2 * limbs) if found is None else found

    def _emit(
        self, kind: Kind, limbs: int, rows: int, refs: Sequence[Ref], *, terms: int = 0, accumulate: bool = False
    ) -> None:
        self._made.append(Step(kind, limbs, rows, tuple(refs), terms, accumulate))

    # Transforms.

    def _convert(self, own: Sequence[Instruction]) -> None:
        for value in dict.fromkeys(each.args[0] for each in own if each.kind is InstructionKind.ROTATE):
            self._decompose(value)
        for each in own:
            if each.kind is InstructionKind.RESCALE:
                limbs = self._limbs(each.args[0])
                made = self._both(self._final_slot(each.result, limbs - 1), limbs - 1)
                for out, polynomial in zip(made, self._final(each.args[0]), strict=True):
                    self._emit(Kind.RESCALE, limbs, limbs - 1, (out, polynomial))
                self._pairs[each.result] = made

    def _decompose(self, value: int) -> None:
        limbs = self._limbs(value)
        second = self._pairs[value][1]
        if value in self._extended:
            divided = Ref(self._new(limbs), 0, limbs)
            self._emit(Kind.DIVIDE, limbs, limbs, (divided, second))
            second = divided
        rows = limbs * (limbs + self._specials)
        digits = self._digits_of[value] = Ref(self._new(rows), 0, rows)
        self._emit(Kind.DECOMPOSE, limbs, rows, (digits, second))

    def _final(self, value: int) -> Pair:
        """The value itself, divided if it is extended."""
        if value not in self._extended:
            return self._pairs[value]
        if value not in self._finals:
            limbs = self._limbs(value)
            made = self._finals[value] = self._both(self._final_slot(value, limbs), limbs)
            for out, polynomial in zip(made, self._pairs[value], strict=True):
                self._emit(Kind.DIVIDE, limbs, limbs, (out, polynomial))
        return self._finals[value]

    # Row by row.

    def _row_by_row(self, instruction: Instruction, stage: int) -> None:
        if instruction.kind in _PRODUCTS:
            self._dot(instruction, stage)
        elif instruction.kind is InstructionKind.ADD:
            if not self._within_a_sum(instruction.result):
                self._sum(instruction, stage)
        elif instruction.kind is InstructionKind.ROTATE:
            for value in _results(instruction):
                if not self._within_a_sum(value):
                    self._pairs[value] = out = self._own(value)
                    self._rotate(value, out, stage, accumulate=False)

    def _within_a_sum(self, value: int) -> bool:
        """Whether a sum of the same stage is all that reads a value, and so makes it as it goes."""
        if self._readers[value] != 1 or value not in self._local:
            return False
        reader = next(each for each in self._tape.instructions if value in each.args)
        return reader.kind is InstructionKind.ADD

    def _operand(self, value: int, polynomial: int, stage: int, *, extended: bool) -> Ref:
        if not extended or value in self._extended:
            return self._pairs[value][polynomial]
        return self._raise(value, polynomial, stage)

    def _raise(self, value: int, polynomial: int, stage: int) -> Ref:
        """P times a value's polynomial: zero modulo the special primes."""
        key = value, polynomial, stage
        if key not in self._raised:
            limbs = self._limbs(value)
            made = self._raised[key] = Ref(self._new(1), 0, limbs, True)
            self._emit(Kind.RAISE, limbs, limbs, (made, self._pairs[value][polynomial]))
        return self._raised[key]

    def _dot(self, instruction: Instruction, stage: int) -> None:
        value, limbs = instruction.result, self._limbs(instruction.result)
        extended = value in self._extended
        rows = limbs + self._specials if extended else limbs
        operands = [
            [self._operand(arg, polynomial, stage, extended=extended) for polynomial in (0, 1)]
            for arg in instruction.args
        ]
        out = self._pairs[value] = self._own(value)
        refs = list(out)
        for pair, name in zip(operands, instruction.constants, strict=True):
            refs += [*pair, Ref(self._plaintext_slots[name], 0, rows)]
        self._emit(Kind.DOT, limbs, rows, refs, terms=len(instruction.args))

    def _rotate(self, value: int, out: Pair, stage: int, *, accumulate: bool) -> None:
        source, limbs = self._maker[value].args[0], self._limbs(value)
        key = self._key_slots[self._steps_by_value[value]]
        added = self._operand(source, 0, stage, extended=True)
        tables = [Ref(key + i, 0, 0) for i in range(3)]
        refs = (*out, self._digits_of[source], *tables, added)
        self._emit(Kind.ROTATE, limbs, limbs + self._specials, refs, accumulate=accumulate)

    def _sum(self, instruction: Instruction, stage: int) -> None:
        value, limbs = instruction.result, self._limbs(instruction.result)
        extended = value in self._extended
        rows = limbs + self._specials if extended else limbs
        rotated, others = self._terms(instruction)
        operands = [
            [self._operand(each, polynomial, stage, extended=extended) for each in others] for polynomial in (0, 1)
        ]
        out = self._pairs[value] = self._own(value)
        for i, each in enumerate(rotated):
            self._rotate(each, out, stage, accumulate=i > 0)
        for made, terms in zip(out, operands, strict=True):
            if terms:
                self._emit(Kind.SUM, limbs, rows, (made, *terms), terms=len(terms), accumulate=bool(rotated))

    def _terms(self, instruction: Instruction) -> tuple[list[int], list[int]]:
        """What a sum adds up, sums within it taken apart: rotations that are made in it, and values that there are."""
        rotated: list[int] = []
        others: list[int] = []
        for arg in instruction.args:
            if not self._within_a_sum(arg):
                others.append(arg)
            elif self._maker[arg].kind is InstructionKind.ROTATE:
                rotated.append(arg)
            elif self._maker[arg].kind is InstructionKind.ADD:
                for mine, more in zip((rotated, others), self._terms(self._maker[arg]), strict=True):
                    mine += more
            else:
                others.append(arg)
        return rotated, others


def _results(instruction: Instruction) -> range:
    return range(instruction.result, instruction.result + max(1, len(instruction.steps)))
