"""The contract of a packing strategy.

A ``Packing`` is stateless. For a module's shape and a number of slots it gives a ``Layout``, which does four things:
emit the server's program into a builder, give the plaintext vectors that the program names, pack activations into slot
vectors, and unpack decrypted slot vectors to Δ. All vectors are float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NewType, Protocol

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.privacy.leakage import Leakage

Vector = NDArray[np.float64]
Value = NewType("Value", int)
"""A ciphertext of the program being built."""


class ScaleRole(str, Enum):
    """Which of the plan's scales a plaintext is encoded at."""

    DOWN = "down"
    UP = "up"


class ProgramBuilder(Protocol):
    """What a packing may emit. Values are immutable; each call makes a new one."""

    def input(self) -> Value:
        """The next ciphertext that the client sends."""
        ...

    def rotate(self, value: Value, steps: int) -> Value:
        """Rotate left by ``steps`` slots, any integer; a multiple of the slot count is the value itself."""
        ...

    def multiply_plain(self, value: Value, constant: str, role: ScaleRole) -> Value:
        """Multiply by the plaintext vector that ``Layout.constants`` gives under this name."""
        ...

    def add(self, left: Value, right: Value) -> Value:
        """Slot-wise sum."""
        ...

    def sum(self, values: list[Value]) -> Value:
        """Slot-wise sum of one or more values."""
        ...

    def rescale(self, value: Value) -> Value:
        """Give one level back to bring the scale down again."""
        ...

    def output(self, value: Value) -> None:
        """Send this ciphertext back to the client."""
        ...


class Layout(Protocol):
    """A packing fixed to one module shape and slot count."""

    @property
    def tokens_per_run(self) -> int:
        """Tokens that one execution of the program handles."""
        ...

    @property
    def figures(self) -> Mapping[str, int]:
        """The numbers that describe the layout (periods, baby steps, …), for people and for the plan's digest."""
        ...

    def emit(self, builder: ProgramBuilder) -> None:
        """Write the server's program."""
        ...

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        """The plaintext vectors of the program, at most ``slots`` long each, made one by one to save memory."""
        ...

    def pack(self, x: Vector) -> list[Vector]:
        """Slot vectors to encrypt, from activations of shape (tokens, d_in), 1 <= tokens <= tokens_per_run."""
        ...

    def unpack(self, outputs: list[Vector], tokens: int, client_module: LoRAModule | None) -> Vector:
        """Δ of shape (tokens, d_out) from the decrypted slot vectors.

        ``client_module`` is the adapter, for packings whose ``client_finishes``; None for all others.
        """
        ...


class Packing(Protocol):
    """A packing strategy.

    Attributes:
        name: As in its ``PackingSpec``.
        version: Raised whenever layout or program change; part of the plan's digest.
        depth: Rescales from input to output.
        rotates: Whether the program has rotations at all.
        client_finishes: Whether ``unpack`` needs the adapter in the clear, so that the key holder must own it.
        leakage: What its plans reveal.
    """

    name: str
    version: int
    depth: int
    rotates: bool
    client_finishes: bool
    leakage: Leakage

    def min_slots(self, shape: ModuleShape) -> int:
        """Slots below which ``layout`` raises."""
        ...

    def layout(self, shape: ModuleShape, slots: int) -> Layout:
        """Fix the packing to a shape.

        Raises:
            SlotOverflow: ``slots`` is less than ``min_slots(shape)``.
        """
        ...
