"""How messages and errors grow through a program: the rules behind ``helora_core.compiler.precision``.

For each value: the root mean square of its message, and the variance of its error by source, in units of the value.
Sizes are those of ``helora_core.params.noise``, w is the root mean square of the weights, and terms are independent.

==============  ===================================================================================================
input           rounding and encryption; all slots are taken as full
rotation        a key switch at the level, and a spike in slot 0 that later rotations move and later products scale
product         error·w; message·(rounding of the weights)
numbers         the same, but a number rounds once and not in every coefficient
coefficients    a product adds up as many terms as the weights have coefficients: error·w·√terms
rescale         its rounding; and message·|2^s/prime − 1| where the library keeps scales nominal
sanitising      the flood, and an encryption of zero
asking          all error so far is part of the client's answer, which is encrypted anew
==============  ===================================================================================================

Reasons, where there was a choice:

- *Spikes.* Key switches are unevenly noisy: in slot 0 by a factor √(3N)/π more than on average, in SEAL at least
  (``noise.keyswitch_worst_std``). Bounding every slot by it would cost 6 bits after a few folds, so each value carries
  the extra variance slot by slot: a fold copies a spike to another slot, and only what meets in a slot adds up.
- *Averages for products.* A slot of a product is error times one weight; a slot of a sum of n products has n·w² on
  average. That one weight may be large is left to the extremes in ``helora_core.compiler.magnitudes``.
- *Padding.* Weights that are padded with zeros count as if they were not. It costs a bit at most, since ranks and
  widths are padded to less than twice their size.
- *Alike.* Values that come about in the same way from alike values have the same sizes, so one of each class is
  followed: the d_out results of ``cpmm`` are one class, and so are the blocks of ``halevi_shoup``.
- *Merged weights.* If one product alone lies between input and Δ, its weights can only be those of up·down.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.compiler.checks import ANSWER_SPARE_BITS, Scales, ValueInfo
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.magnitudes import Magnitudes
from helora_core.packing.protocol import ScaleRole
from helora_core.params import noise
from helora_core.params.ckks import CKKSParams

_FLOAT_ERROR = 2.0**-50
"""What a transform in doubles leaves of a value, with room for its length."""

_PRODUCTS = (OpKind.MULTIPLY_PLAIN, OpKind.DOT_PLAIN, OpKind.DOT_SCALARS)


class Source(Enum):
    """Where error comes from; the value is its row in a table of variances."""

    ENCRYPTION = 0
    INPUT_ROUNDING = 1
    WEIGHT_ROUNDING = 2
    KEY_SWITCHING = 3
    RESCALING = 4
    SCALE_DRIFT = 5
    FLOODING = 6
    FLOAT64 = 7
    FIRST_ROUND = 8

    @property
    def label(self) -> str:
        """For people."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, eq=False)
class Noisy:
    """What is known of one value, in its own units (integers divided by the scale).

    Attributes:
        message: Root mean square of a slot, or of a coefficient.
        variances: Of the error, by source, averaged over slots or coefficients.
        spikes: Variance on top of that in each slot, from key switches; None where there was none.
    """

    message: float
    variances: NDArray[np.float64]
    spikes: NDArray[np.float64] | None = None

    @property
    def variance(self) -> float:
        """Of the error, averaged."""
        return float(self.variances.sum())

    @property
    def spike(self) -> float:
        """The largest spike."""
        return 0.0 if self.spikes is None else float(self.spikes.max())

    def plus(self, source: Source, variance: float) -> Noisy:
        """The same with independent error on top."""
        more = self.variances.copy()
        more[source.value] += variance
        return Noisy(self.message, more, self.spikes)


_Counted = Sequence[tuple[Noisy, int]]
"""Operands, and how often each is read."""


@dataclass(frozen=True, eq=False)
class ErrorFlow:
    """Follows one program.

    Attributes:
        program, values, params, scales, magnitudes, shape, public_encryption, nominal_scales: As for ``analyse``.
        merged: Whether weights are those of up·down.
        flood_bits: Filled in by ``results``: log2 of the standard deviation of each flood, in integer units.
    """

    program: Program
    values: Sequence[ValueInfo]
    params: CKKSParams
    scales: Scales
    magnitudes: Magnitudes
    shape: ModuleShape
    merged: bool
    public_encryption: bool
    nominal_scales: bool
    flood_bits: dict[int, int] = field(default_factory=dict)

    @property
    def _coefficients(self) -> bool:
        return self.program.encoding is Encoding.COEFFICIENTS

    def _unit(self, value: int, std: float) -> float:
        """The variance of a slot's (or a coefficient's) error of ``std`` a real slot, in units of the value."""
        places = self.params.ring_degree / 2 if self._coefficients else 1.0
        return std**2 / places / 4.0 ** self.values[value].scale_bits

    def results(self) -> list[Noisy]:
        """What is known of the program's results."""
        classes, alike = _alike(self.program, self.values)
        wanted = {classes[output] for output in self.program.results}
        last = {each: reader for reader, (_, operands) in enumerate(alike) for each, _ in operands}
        live: dict[int, Noisy] = {}
        flood_bits: dict[int, int] = {}
        for number, (i, operands) in enumerate(alike):
            live[number] = self._apply(i, self.program.ops[i], [(live[each], count) for each, count in operands])
            if i in self.flood_bits:
                flood_bits[number] = self.flood_bits[i]
            for each in {number, *(each for each, _ in operands)} - wanted:
                if last.get(each, each) == number:
                    del live[each]
        if flood_bits:
            self.flood_bits.update({i: flood_bits[each] for i, each in enumerate(classes) if each in flood_bits})
        return [live[classes[output]] for output in self.program.results]

    def _apply(self, i: int, op: Op, operands: _Counted) -> Noisy:
        """What value ``i`` is, from its distinct operands and how often it reads each."""
        if op.kind is OpKind.INPUT:
            return self._input
        first = operands[0][0]
        if op.kind is OpKind.ROTATE:
            return self._rotated(i, op, first)
        if op.kind in _PRODUCTS:
            return self._product(op, operands)
        if op.kind is OpKind.ADD:
            return _doubled(first) if op.args[0] == op.args[1] else _sum(operands)
        if op.kind is OpKind.RESCALE:
            return self._rescaled(i, first)
        if op.kind is OpKind.SANITIZE:
            return self._sanitized(i, op, first)
        if op.kind is OpKind.MASK:
            return self._randomized(i, first)
        if op.kind is OpKind.ASK_CLIENT:
            return self._answered(i, op, [operand for operand, _ in operands])
        return first

    @cached_property
    def _input(self) -> Noisy:
        n, message, i = self.params.ring_degree, self.magnitudes.x_rms, self.program.inputs[0]
        return (
            Noisy(message, np.zeros(len(Source)))
            .plus(Source.INPUT_ROUNDING, self._unit(i, noise.encoding_std(n)))
            .plus(Source.ENCRYPTION, self._unit(i, self._encryption_std()))
            .plus(Source.FLOAT64, (message * _FLOAT_ERROR) ** 2)
        )

    def _encryption_std(self) -> float:
        n = self.params.ring_degree
        return noise.public_encryption_std(n) if self.public_encryption else noise.encryption_std(n)

    def _rotated(self, i: int, op: Op, operand: Noisy) -> Noisy:
        even, worst = self._keyswitch(i)
        if operand.spikes is None:
            spikes = np.zeros(self.program.slots)
        else:
            spikes = np.concatenate((operand.spikes[op.steps :], operand.spikes[: op.steps]))
        spikes[0] += worst - even
        return Noisy(operand.message, operand.variances, spikes).plus(Source.KEY_SWITCHING, even)

    def _keyswitch(self, i: int) -> tuple[float, float]:
        """The variance of a key switch for value ``i``: averaged, and in slot 0."""
        info = self.values[i]
        if info not in self._keyswitches:
            n, data = self.params.ring_degree, self.params.data_bits[: info.level + 1]
            special = sum(self.params.special_bits) or max(data)
            even, worst = noise.keyswitch_std(n, data, special), noise.keyswitch_worst_std(n, data, special)
            self._keyswitches[info] = self._unit(i, even), self._unit(i, worst)
        return self._keyswitches[info]

    @cached_property
    def _keyswitches(self) -> dict[ValueInfo, tuple[float, float]]:
        return {}

    def _product(self, op: Op, operands: _Counted) -> Noisy:
        gain, message_gain, rounding = self._gains(op)
        total = _sum(operands)
        product = Noisy(
            total.message * math.sqrt(message_gain),
            total.variances * gain,
            None if total.spikes is None else total.spikes * gain,
        )
        return product.plus(Source.WEIGHT_ROUNDING, total.message**2 * rounding)

    def _gains(self, op: Op) -> tuple[float, float, float]:
        """What a product makes of the variance of noise, of the square of messages, and of that by its own rounding."""
        n, weight = self.params.ring_degree, self._weight_rms(op) ** 2
        # What a mask is taken off of is rounded to a grid that is coarser than its scale.
        coarser = ANSWER_SPARE_BITS if op.role is ScaleRole.UP and self._asks else 0
        rounding = 4.0 ** (coarser - self.scales.of(op.role))
        if op.kind is OpKind.DOT_SCALARS:
            return weight, weight, rounding / 12
        if not self._coefficients:
            return weight, weight, rounding * noise.encoding_std(n) ** 2
        # Blocks of the matrix's columns are an operand each.
        rows, columns = self._matrix(op)
        width = min(n, -(-columns // len(op.args)))
        return weight * min(n, rows * width), weight * width, rounding / 12 * width

    @cached_property
    def _asks(self) -> bool:
        return any(op.kind is OpKind.ASK_CLIENT for op in self.program.ops)

    def _weight_rms(self, op: Op) -> float:
        if self.merged:
            return self.magnitudes.merged_rms(self.shape)
        return self.magnitudes.up_rms if op.role is ScaleRole.UP else self.magnitudes.down_rms

    def _matrix(self, op: Op) -> tuple[int, int]:
        """Rows and columns of the matrix that an operation's weights are of."""
        if self.merged:
            return self.shape.d_out, self.shape.d_in
        if op.role is ScaleRole.UP:
            return self.shape.d_out, self.shape.rank
        return self.shape.rank, self.shape.d_in

    def _rescaled(self, i: int, operand: Noisy) -> Noisy:
        level = self.values[i].level + 1
        rescaled = operand.plus(Source.RESCALING, self._unit(i, noise.rescale_std(self.params.ring_degree)))
        if not self.nominal_scales:
            return rescaled
        bits = self.params.data_bits[level]
        if self.params.data_primes:
            drift = abs(2.0**bits / self.params.data_primes[level] - 1)
        else:
            # Primes that are 1 mod 2N lie 2N·ln(2^bits) apart on average; the chain's own are the nearest few.
            drift = 2 * self.params.ring_degree * bits * math.log(2) * len(self.params.data_bits) / 2.0**bits
        return rescaled.plus(Source.SCALE_DRIFT, (operand.message * drift) ** 2)

    def _randomized(self, i: int, operand: Noisy) -> Noisy:
        """With a fresh encryption of zero added, by the public key; divided by a prime, only the rounding is left."""
        n, fresh = self.params.ring_degree, self.values[i].level == self.params.max_level
        return operand.plus(
            Source.ENCRYPTION, self._unit(i, noise.public_encryption_std(n) if fresh else noise.rescale_std(n))
        )

    def _sanitized(self, i: int, op: Op, operand: Noisy) -> Noisy:
        """Flooded so that the noise shows to a statistical distance of 2^-bits over a whole ciphertext, at most.

        Normal noise of deviation σ hides an error e up to ‖e‖/(2σ), by Pinsker's inequality; ‖e‖ is √N times an error's
        deviation, or the root of the coefficients that are kept. Twice the model's deviation is taken, since a flood
        must err on the safe side.
        """
        n = self.params.ring_degree
        # From slots to integers in the coefficients: a slot's real part has N/2 times a coefficient's variance.
        places = 1.0 if self._coefficients else n / 2
        units = 4.0 ** self.values[i].scale_bits / places
        seen = len(op.positions) or n  # the noise of other coefficients is masked together with them
        norm = max(1.0, 2 * math.sqrt(seen * _ciphertext_noise(operand) * units))
        bits = math.ceil(op.bits + math.log2(norm / 2))
        self.flood_bits[i] = bits
        return self._randomized(i, operand).plus(Source.FLOODING, 4.0**bits / units)

    def _answered(self, i: int, op: Op, operands: list[Noisy]) -> Noisy:
        """The client encrypts what she decrypted, errors included, as integers modulo the base prime.

        Those errors stand in as many coefficients as the numbers of z, and not in all that the next product adds up.
        They are part of what she asks for, and no noise of a ciphertext that a flood has to hide.
        """
        worst = max(operands, key=lambda operand: operand.variance)
        n, rank = self.params.ring_degree, self.shape.rank
        share = rank / min(n, self.shape.d_out * rank)
        worst = Noisy(worst.message, np.zeros(len(Source))).plus(Source.FIRST_ROUND, worst.variance * share)
        largest = 2.0 ** (self.params.data_bits[0] - self.values[op.args[0]].scale_bits)
        return (
            worst.plus(Source.INPUT_ROUNDING, self._unit(i, noise.encoding_std(n)))
            .plus(Source.ENCRYPTION, self._unit(i, self._encryption_std()))
            .plus(Source.FLOAT64, largest**2 / 12 * _FLOAT_ERROR**2)
        )


_CIPHERTEXT_NOISE = [Source.ENCRYPTION.value, Source.KEY_SWITCHING.value, Source.RESCALING.value]


def _ciphertext_noise(value: Noisy) -> float:
    """The variance of what a flood must drown: noise that was multiplied by weights.

    The rounding of weights is no noise: the client gets the result of the weights as they are encoded, exactly, since
    the rounded polynomials are the ones that she would be given by a server that computed in the clear. Key switches
    enter with their mean square over the slots, which is what reaches the coefficients.
    """
    return float(value.variances[_CIPHERTEXT_NOISE].sum())


def _alike(
    program: Program, values: Sequence[ValueInfo]
) -> tuple[list[int], list[tuple[int, tuple[tuple[int, int], ...]]]]:
    """The class of every value, and of each class its first value and the classes that this reads, with how often.

    A value's class is determined by the operation, by level and scale, and by the operands' classes. Which numbers or
    plaintexts are meant does not matter, since sizes alone are followed; whether a sum is of one value twice does.
    """
    numbers: dict[tuple[object, ...], int] = {}
    classes: list[int] = []
    alike: list[tuple[int, tuple[tuple[int, int], ...]]] = []
    for i, (op, info) in enumerate(zip(program.ops, values, strict=True)):
        if len(op.args) == 1:
            operands: tuple[tuple[int, int], ...] = ((classes[op.args[0]], 1),)
        else:
            operands = tuple(Counter(map(classes.__getitem__, op.args)).items())
        kept = len(op.positions) if op.kind is OpKind.SANITIZE else 0
        doubled = op.kind is OpKind.ADD and op.args[0] == op.args[1]
        key = (op.kind, op.role, op.steps, op.bits, kept, doubled, info.level, info.scale_bits, operands)
        number = numbers.setdefault(key, len(alike))
        if number == len(alike):
            alike.append((i, operands))
        classes.append(number)
    return classes, alike


def _sum(operands: _Counted) -> Noisy:
    """The sum of independent values, given with how often each is a term."""
    message = 0.0
    variances = np.zeros(len(Source))
    spikes: NDArray[np.float64] | None = None
    for operand, count in operands:
        message += count * operand.message**2
        variances += count * operand.variances
        if operand.spikes is not None:
            spikes = count * operand.spikes if spikes is None else spikes + count * operand.spikes
    return Noisy(math.sqrt(message), variances, spikes)


def _doubled(operand: Noisy) -> Noisy:
    """A value added to itself."""
    return Noisy(2 * operand.message, 4 * operand.variances, None if operand.spikes is None else 4 * operand.spikes)


def merges(program: Program) -> bool:
    """Whether only one product lies between inputs and results."""
    depths: list[int] = []
    for op in program.ops:
        depths.append(max(map(depths.__getitem__, op.args), default=0) + (op.kind in _PRODUCTS))
    return max((depths[output] for output in program.results), default=0) == 1
