"""Collects a packing's operations. It normalises rotation steps and nothing else: passes improve programs."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from helora_core.backend.capabilities import Encoding
from helora_core.compiler.ir import RANDOM, Op, OpKind, Program
from helora_core.errors import InvalidProgram
from helora_core.packing.protocol import ScaleRole, Value


class Builder:
    """The ``ProgramBuilder`` given to packings.

    Args:
        slots: N/2.
        encoding: How inputs and results are encoded.
        rescales: False for plans whose modulus holds all scales at once: then ``rescale`` returns its value unchanged.
        sanitize_bits: Sanitise every result to this statistical distance; None to send results as they are.
        dropped: Levels by which sanitised results are divided down.
        low_bits: Low bits of their polynomials, or of those of correlations, that are dropped; empty for none.
    """

    def __init__(
        self,
        slots: int,
        *,
        encoding: Encoding = Encoding.SLOTS,
        rescales: bool = True,
        sanitize_bits: int | None = None,
        dropped: int = 0,
        low_bits: tuple[int, ...] = (),
    ) -> None:
        self._slots = slots
        self._encoding = encoding
        self._rescales = rescales
        self._sanitize_bits = sanitize_bits
        self._dropped = dropped
        self._low_bits = low_bits
        self._ops: list[Op] = []
        self._outputs: list[int] = []
        self._inputs = 0

    def input(self) -> Value:
        """The next ciphertext that the client sends."""
        self._inputs += 1
        return self._append(Op(kind=OpKind.INPUT, positions=(self._inputs - 1,)))

    def random(self) -> Value:
        """The next ciphertext, of numbers that the client draws."""
        self._inputs += 1
        return self._append(Op(kind=OpKind.INPUT, positions=(self._inputs - 1,), constant=RANDOM))

    def rotate(self, value: Value, steps: int) -> Value:
        """Rotate left; a rotation by a multiple of the slot count returns the value itself."""
        steps %= self._slots
        return self._append(Op(kind=OpKind.ROTATE, args=(value,), steps=steps)) if steps else value

    def multiply_plain(self, value: Value, constant: str, role: ScaleRole) -> Value:
        """Product with a named plaintext."""
        return self._append(Op(kind=OpKind.MULTIPLY_PLAIN, args=(value,), constant=constant, role=role))

    def dot_scalars(self, values: Sequence[Value], constant: str, role: ScaleRole) -> Value:
        """Sum of products with the numbers of a named vector."""
        if not values:
            raise _of_nothing()
        positions = tuple(range(len(values)))
        return self._append(
            Op(kind=OpKind.DOT_SCALARS, args=tuple(values), constant=constant, role=role, positions=positions)
        )

    def add(self, left: Value, right: Value) -> Value:
        """Sum of two."""
        return self._append(Op(kind=OpKind.ADD, args=(left, right)))

    def sum(self, values: Sequence[Value]) -> Value:
        """Sum of one or more, from left to right, so that each term can be freed as soon as it is added."""
        if not values:
            raise _of_nothing()
        return functools.reduce(self.add, values)

    def rescale(self, value: Value) -> Value:
        """Rescale by one level."""
        return self._append(Op(kind=OpKind.RESCALE, args=(value,))) if self._rescales else value

    def mask(self, value: Value, name: str) -> Value:
        """Add a fresh uniform mask."""
        return self._append(Op(kind=OpKind.MASK, args=(value,), constant=name))

    def correlate(self, value: Value, mask: str) -> Value:
        """Make a result that runs ahead of time, under a mask."""
        return self._append(Op(kind=OpKind.CORRELATE, args=(value,), constant=mask, low_bits=self._low_bits))

    def ask_client(self, values: Sequence[Value]) -> Value:
        """Have the client decrypt the values and encrypt its answer."""
        return self._append(Op(kind=OpKind.ASK_CLIENT, args=tuple(values)))

    def unmask(self, value: Value, names: Sequence[str]) -> Value:
        """Take masks off the client's answer."""
        return self._append(Op(kind=OpKind.UNMASK, args=(value,), constants=tuple(names)))

    def output(self, value: Value, keep: Sequence[int] = ()) -> None:
        """Send back to the client."""
        if self._sanitize_bits is not None and self._ops[value].kind is not OpKind.CORRELATE:
            value = self._append(
                Op(
                    kind=OpKind.SANITIZE,
                    args=(value,),
                    positions=tuple(keep),
                    bits=self._sanitize_bits,
                    steps=self._dropped,
                    low_bits=self._low_bits,
                )
            )
        self._outputs.append(value)

    def program(self) -> Program:
        """The program emitted so far."""
        return Program(slots=self._slots, ops=tuple(self._ops), outputs=tuple(self._outputs), encoding=self._encoding)

    def _append(self, op: Op) -> Value:
        self._ops.append(op)
        return Value(len(self._ops) - 1)


def _of_nothing() -> InvalidProgram:
    return InvalidProgram("Builder: a sum of no values.", hint="Report this to the author of the packing.")
