"""The contract of a packing strategy.

A ``Packing`` is stateless. For a module's shape and a number of slots it gives one or more ``Layout``s; the compiler
takes the cheapest. A layout does four things: emit the server's program into a builder, give the plaintext vectors that
the program names, pack activations into vectors to encrypt, and unpack decrypted vectors to Δ. All vectors are float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NewType, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.packing.costs import OperationCosts
from helora_core.privacy.leakage import Leakage

Vector = NDArray[np.float64]
Value = NewType("Value", int)
"""A ciphertext in the program being built."""


class ScaleRole(str, Enum):
    """Which of the plan's scales a plaintext is encoded at."""

    DOWN = "down"
    UP = "up"


class ModulusUse(str, Enum):
    """How a packing's programs spend the modulus, which decides how parameters are chosen for them."""

    LEVELS = "levels"
    """One prime per product: each rescale brings the scale back to the input's."""
    FLAT = "flat"
    """No rescale: one modulus holds the scales of input and plaintexts together. All sanitised plans do this."""
    MASKED = "masked"
    """Lower primes, modulo which masks are uniform, and one further prime to compute above them."""
    DIVIDED = "divided"
    """Between its two products one prime is divided out, as long as the first one's scale; the others hold what is left
    and the second scale. Primes are no longer than that takes: products with numbers cost by their length."""
    CORRELATED = "correlated"
    """All runs ahead of time, modulo a machine word times a few primes; weights and activations are integers on a grid
    that is chosen for the shape (``helora_core.compiler.grid``)."""


@dataclass(frozen=True)
class Grid:
    """Activations and weights as integers, where ‖x‖₂ ≤ 1 and weights are normalised: multiples of 2^-bits of each.

    Δ is then an integer, of ``bits`` bits.
    """

    x_bits: int
    down_bits: int
    up_bits: int

    @property
    def bits(self) -> int:
        """Δ is a multiple of 2^-bits."""
        return self.x_bits + self.down_bits + self.up_bits


class ProgramBuilder(Protocol):
    """The operations that a packing may emit. Values are immutable; each call makes a new one."""

    def input(self) -> Value:
        """The next ciphertext that the client sends."""
        ...

    def random(self) -> Value:
        """The next ciphertext that the client sends ahead of time: of numbers that it draws. All inputs of a program
        are such, or none; each output is then made by ``correlate``.
        """
        ...

    def rotate(self, value: Value, steps: int) -> Value:
        """Rotate left by ``steps`` slots, any integer; a multiple of the slot count is the value itself."""
        ...

    def multiply_plain(self, value: Value, constant: str, role: ScaleRole) -> Value:
        """Multiply by the plaintext vector that ``Layout.constants`` yields under this name."""
        ...

    def dot_scalars(self, values: Sequence[Value], constant: str, role: ScaleRole) -> Value:
        """Σ_i values[i] · v[i], where v is the vector under this name in ``Layout.constants``, one number per value."""
        ...

    def add(self, left: Value, right: Value) -> Value:
        """Slot-wise sum."""
        ...

    def sum(self, values: Sequence[Value]) -> Value:
        """Slot-wise sum of one or more values."""
        ...

    def rescale(self, value: Value) -> Value:
        """Spend one level to bring the scale down again."""
        ...

    def mask(self, value: Value, name: str) -> Value:
        """Hide the coefficients from the client: add fresh integers ρ, uniform modulo the level's primes."""
        ...

    def correlate(self, value: Value, mask: str) -> Value:
        """Make a result of a program that runs ahead of time: re-randomised, without the data primes, and less a mask
        of its own. Nothing but ``output`` takes it.
        """
        ...

    def ask_client(self, values: Sequence[Value]) -> Value:
        """Let the client decrypt ``values`` and send ``Interactive.answer`` of them, freshly encrypted."""
        ...

    def unmask(self, value: Value, names: Sequence[str]) -> Value:
        """Remove masks from the client's answer ``value``: subtract ``Interactive.answer`` of the masks."""
        ...

    def output(self, value: Value, keep: Sequence[int] = ()) -> None:
        """Send this ciphertext back to the client.

        Args:
            value: The ciphertext.
            keep: The slots (their real parts), or the coefficients, that the client is meant to read; all if empty. A
                sanitised plan hides the others under noise. Other slots must hold zeros, up to rounding errors.
        """
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
        """The plaintext vectors of the program, made one by one to save memory.

        Each is at most ``slots`` long, or in coefficient encoding 2·``slots``.
        """
        ...

    def pack(self, x: Vector) -> list[Vector]:
        """Vectors to encrypt, from activations of shape (tokens, d_in), 1 <= tokens <= tokens_per_run."""
        ...

    def unpack(self, outputs: list[Vector], tokens: int, client_module: LoRAModule | None) -> Vector:
        """Δ of shape (tokens, d_out) from the decrypted vectors.

        ``client_module`` is the adapter, for packings whose ``client_finishes``; None for all others.
        """
        ...


@runtime_checkable
class Interactive(Protocol):
    """A layout whose server asks the client for something during a run."""

    def answer(self, received: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
        """The coefficients for the client to encrypt, at most N, from those it decrypted, N for each ciphertext.

        The function may only pick integers and place them, not add them up, so that the server can do the same to its
        masks.
        """
        ...


@runtime_checkable
class Correlated(Protocol):
    """A layout whose program runs ahead of time, on ``ProgramBuilder.random`` inputs: it makes ``tokens_per_run``
    single-use correlations, one for each place.

    Online the client sends y = x − r modulo the wrap limb, the server answers W·y + s, of its mask s, and the client
    adds what it decrypted, W·r − s. So ``pack`` has to give one vector for each input, with a number for each token;
    ``unpack`` gets the same of each output.
    """

    def factors(self, constants: Mapping[str, Vector]) -> Sequence[tuple[ScaleRole, Vector]]:
        """W as the matrices that are applied one after the other, from the vectors of ``constants``.

        The first has a column for each vector of ``pack``, the last a row for each output.
        """
        ...


@runtime_checkable
class AheadOfTime(Protocol):
    """A packing of ``ModulusUse.CORRELATED``.

    Attributes:
        exact: Whether Δ is exactly the LoRA in integers; if not, low bits of results are left out as far as precision
            has no use for them.
    """

    exact: bool


@runtime_checkable
class InEitherEncoding(Protocol):
    """A packing that only adds ciphertexts and multiplies them by numbers, which does the same to slots and to
    coefficients. It is in slots; where coefficients are exact, plans are made with ``in_coefficients``, whose layouts
    have other figures.
    """

    @property
    def in_coefficients(self) -> Packing:
        """The same in coefficients."""
        ...


class Packing(Protocol):
    """A packing strategy.

    Attributes:
        name: As in its ``PackingSpec``.
        version: Raised whenever the layout or program changes; part of the plan's digest.
        depth: Products that follow each other from input to output.
        rotates: Whether the program has rotations at all.
        encoding: How inputs and results are encoded: SLOTS or COEFFICIENTS.
        modulus_use: How its programs spend the modulus.
        client_finishes: Whether ``unpack`` needs the adapter in the clear, so that the key holder must own it.
        leakage: What its plans reveal.
    """

    name: str
    version: int
    depth: int
    rotates: bool
    encoding: Encoding
    modulus_use: ModulusUse
    client_finishes: bool
    leakage: Leakage

    def min_slots(self, shape: ModuleShape) -> int:
        """The fewest slots that the packing can work with; with fewer, ``layouts`` raises."""
        ...

    def layouts(self, shape: ModuleShape, slots: int, *, tokens: int | None, costs: OperationCosts) -> Iterator[Layout]:
        """The layouts worth compiling. If costs are equal, the first is taken.

        Args:
            shape: The module's shape.
            slots: N/2.
            tokens: Tokens available to run together; None for the layout with the fewest tokens per run.
            costs: What operations cost, for choices within a layout such as the number of baby steps.

        Raises:
            SlotOverflow: ``slots`` is less than ``min_slots(shape)``.
        """
        ...
