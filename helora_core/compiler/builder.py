"""Collects what a packing emits. It normalises rotation steps and nothing else: improving programs is for passes."""

from __future__ import annotations

import functools

from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.errors import InvalidProgram
from helora_core.packing.protocol import ScaleRole, Value


class Builder:
    """The ``ProgramBuilder`` given to packings."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._ops: list[Op] = []
        self._outputs: list[int] = []

    def input(self) -> Value:
        """The next ciphertext that the client sends."""
        return self._append(Op(kind=OpKind.INPUT))

    def rotate(self, value: Value, steps: int) -> Value:
        """Rotate left; by a multiple of the slot count it is the value itself."""
        steps %= self._slots
        return self._append(Op(kind=OpKind.ROTATE, args=(value,), steps=steps)) if steps else value

    def multiply_plain(self, value: Value, constant: str, role: ScaleRole) -> Value:
        """Product with a named plaintext."""
        return self._append(Op(kind=OpKind.MULTIPLY_PLAIN, args=(value,), constant=constant, role=role))

    def add(self, left: Value, right: Value) -> Value:
        """Sum of two."""
        return self._append(Op(kind=OpKind.ADD, args=(left, right)))

    def sum(self, values: list[Value]) -> Value:
        """Sum of one or more, from left to right, so that each term can be freed as soon as it is added."""
        if not values:
            raise InvalidProgram("Builder: a sum of no values.", hint="Report this to the author of the packing.")
        return functools.reduce(self.add, values)

    def rescale(self, value: Value) -> Value:
        """Give one level back."""
        return self._append(Op(kind=OpKind.RESCALE, args=(value,)))

    def output(self, value: Value) -> None:
        """Send back to the client."""
        self._outputs.append(value)

    def program(self) -> Program:
        """What was emitted so far."""
        return Program(slots=self._slots, ops=tuple(self._ops), outputs=tuple(self._outputs))

    def _append(self, op: Op) -> Value:
        self._ops.append(op)
        return Value(len(self._ops) - 1)
