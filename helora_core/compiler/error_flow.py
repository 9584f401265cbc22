"""How errors grow through a program: the rules behind ``helora_core.compiler.precision``.

Weights and activations are those of ``helora_core.compiler.exponents``: ‖x‖₂, the spectral norm of ``down`` and the
rows of ``up`` are at most one. Everything here holds for all of them. For each value, in its own units (integers over
the scale):

- *noise*, which is random: its variance by source, in any slot or coefficient. Sizes are those of
  ``helora_core.params.noise``. A product-sum with a row of weights multiplies it by ‖row‖² ≤ 1, wherever in the row the
  weight is; so each product counts as one of equal terms of a row, and operands as noisy as the worst.
- *rounding of weights*, not random: Σ δ² over the terms of a row. By Cauchy–Schwarz it moves results by √(Σ δ²)
  at most; an error in z moves Δ by √rank times as much at most.

==============  ===================================================================================================
input           rounding and encryption
rotation        a key switch at the level; after a product, a spike in slot 0 that later rotations move
product         noise·‖row‖²; δ² a term: of numbers and coefficients 1/4, of slots N/12 and what ``rounding_slack`` adds
rescale         its rounding; and 2^s/prime − 1 of the message if the library keeps scales nominal
sanitising      the flood, the mask's rest, and an encryption of zero
dropped bits    those of c₀ as they are, those of c₁ times the secret
asking          all noise so far is part of the client's answer, which is encrypted anew
==============  ===================================================================================================

Reasons for the choices made:

- *Spikes.* Key switches are unevenly noisy unless digits are centred: in SEAL, slot 0 has √(3N)/π times the average
  noise (``noise.keyswitch_worst_std``). A row may have all its weight there, so before a product every slot counts as
  slot 0. Between products there are only additions, for which the extra variance is known slot by slot.
- *Alike.* Values that are computed in the same way from alike values have the same sizes, so one of each class is
  followed: the d_out results of ``cpmm`` are one class, and so are the blocks of ``halevi_shoup``.
- *Merged weights.* If only one product lies between input and Δ, its weights can only be those of up·down.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from helora_core.adapter.lora import ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.compiler.checks import Scales, ValueInfo
from helora_core.compiler.ir import PRODUCTS, Op, OpKind, Program
from helora_core.compiler.noisy import Noisy, Source, doubled, summed
from helora_core.packing.protocol import ScaleRole
from helora_core.params import noise
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import NoiseModel
from helora_core.privacy.floods import flood_deviation_bits, mask_deviation_bits

MEAN_ROUNDING_SLACK = 2.2
"""Rounding a plaintext of slots moves its slots by N/12 in the mean square if the remainders are random, and twice
that if they are dithered."""

FLOAT64_ERROR = 2.0**-46
"""Error of the client's transforms in doubles, both ways, for values up to one."""

_MASK_REST = 2.0**-50
"""Error that a transform in doubles of a mask leaves in the slots that are read."""


def rounding_slack(terms: int) -> float:
    """How much more than N/12 the rounding of weights in slots may move a result, in the mean square over a row.

    Remainders are as good as random for nearly all weights, and a sum of their squares over a row is χ²; more than
    half of this comes once in 2^20 plaintexts (Laurent and Massart, Annals of Statistics 28 (2000), lemma 1). It is no
    assumption: the effect of rounding is computed when weights are encoded, and if it is more than this they
    are dithered, which makes it random, with twice the mean square (``helora_core.execution.rounding``).
    """
    rare = math.log(2.0**32) / terms
    return 2 * (1 + 2 * math.sqrt(rare) + 2 * rare)


_Counted = Sequence[tuple[Noisy, int]]
"""Operands, and how often each is read."""


@dataclass(frozen=True, eq=False)
class ErrorFlow:
    """Follows one program.

    Attributes:
        program, values, params, scales, shape, noise_model, nominal_scales: As for ``analyse``.
        merged: Whether weights are those of up·down.
        flood_bits: Filled in by ``results``: log2 of the standard deviation of each flood, in integer units.
        mask_bits: Likewise of the masks that drown the slots that are not to be read.
    """

    program: Program
    values: Sequence[ValueInfo]
    params: CKKSParams
    scales: Scales
    shape: ModuleShape
    merged: bool
    noise_model: NoiseModel
    nominal_scales: bool
    flood_bits: dict[int, int] = field(default_factory=dict)
    mask_bits: dict[int, int] = field(default_factory=dict)

    @property
    def _coefficients(self) -> bool:
        return self.program.encoding is Encoding.COEFFICIENTS

    def _unit(self, value: int, std: float) -> float:
        """The variance of a slot's (or a coefficient's) error of ``std`` a real slot, in units of the value."""
        places = self.params.ring_degree / 2 if self._coefficients else 1.0
        return std**2 / places / 4.0 ** self.values[value].scale_bits

    def results(self) -> list[Noisy]:
        """Sizes and errors of the program's results."""
        classes, alike = _alike(self.program, self.values)
        worst: dict[int, Noisy] = {}
        stages = self._stages(alike)
        known = [Noisy()] * len(alike)
        for number in sorted(range(len(alike)), key=stages.__getitem__):
            i, operands = alike[number]
            op = self.program.ops[i]
            read = [(known[each], count) for each, count in operands]
            if op.kind in PRODUCTS:
                stage = stages[number] - 1
                if stage not in worst:
                    worst[stage] = self._worst(known, alike, stages, stage)
                read = [(replace(each, variances=worst[stage].variances, spikes=None), count) for each, count in read]
            known[number] = self._apply(i, op, read)
        for i, number in enumerate(classes):
            first = alike[number][0]
            for bits in (self.flood_bits, self.mask_bits):
                if first in bits:
                    bits[i] = bits[first]
        return [known[classes[output]] for output in self.program.results]

    def _stages(self, alike: _Alike) -> list[int]:
        """Number of products between the input and each class."""
        stages: list[int] = []
        for i, operands in alike:
            before = max((stages[each] for each, _ in operands), default=0)
            stages.append(before + (self.program.ops[i].kind in PRODUCTS))
        return stages

    def _worst(self, known: Sequence[Noisy], alike: _Alike, stages: Sequence[int], stage: int) -> Noisy:
        """The noisiest value of a stage that products read: a row may have all its weight on it."""
        read = {
            each
            for number, (i, operands) in enumerate(alike)
            if self.program.ops[i].kind in PRODUCTS and stages[number] == stage + 1
            for each, _ in operands
        }
        return max((known[each].flattened() for each in read), key=lambda each: each.variance)

    def _apply(self, i: int, op: Op, operands: _Counted) -> Noisy:
        """Sizes of value ``i``, from its distinct operands and how often it reads each."""
        if op.kind is OpKind.INPUT:
            return self._input
        first = operands[0][0]
        if op.kind is OpKind.ROTATE:
            return self._rotated(i, op, first)
        if op.kind in PRODUCTS:
            return self._product(op, operands)
        if op.kind is OpKind.ADD:
            return doubled(first) if op.args[0] == op.args[1] else summed(operands)
        if op.kind is OpKind.RESCALE:
            return self._rescaled(i, first)
        if op.kind is OpKind.SANITIZE:
            return self._sanitized(i, op, first)
        if op.kind is OpKind.MASK:
            return self._masked(i, first)
        if op.kind is OpKind.ASK_CLIENT:
            return self._answered(i, [operand for operand, _ in operands])
        return first

    @cached_property
    def _input(self) -> Noisy:
        i = self.program.inputs[0]
        encrypted = Noisy().plus(Source.ENCRYPTION, self._unit(i, self._encryption_std()))
        return encrypted.plus(Source.INPUT_ROUNDING, self._unit(i, self._input_rounding_std()))

    def _input_rounding_std(self) -> float:
        n = self.params.ring_degree
        return noise.encoding_std(n) if self._coefficients else noise.slot_encoding_std(n)

    def _encryption_std(self) -> float:
        n = self.params.ring_degree
        return noise.public_encryption_std(n) if self.noise_model.public_encryption else noise.encryption_std(n)

    def _rotated(self, i: int, op: Op, operand: Noisy) -> Noisy:
        even, worst = self._keyswitch(i)
        if operand.stage == 0:
            return operand.plus(Source.KEY_SWITCHING, worst)
        if operand.spikes is None:
            spikes = np.zeros(self.program.slots)
        else:
            spikes = np.concatenate((operand.spikes[op.steps :], operand.spikes[: op.steps]))
        spikes[0] += worst - even
        return replace(operand.plus(Source.KEY_SWITCHING, even), spikes=spikes)

    def _keyswitch(self, i: int) -> tuple[float, float]:
        """The variance of a key switch for value ``i``: averaged, and in slot 0."""
        info = self.values[i]
        if info not in self._keyswitches:
            n, data = self.params.ring_degree, self.params.data_bits[: info.level + 1]
            special = sum(self.params.special_bits) or max(data)
            model = self.noise_model
            ways = {"floors": model.keyswitch_floors, "centred": model.centred_digits}
            even = noise.keyswitch_std(n, data, special, **ways)
            worst = noise.keyswitch_worst_std(n, data, special, **ways)
            self._keyswitches[info] = self._unit(i, even), self._unit(i, worst)
        return self._keyswitches[info]

    @cached_property
    def _keyswitches(self) -> dict[ValueInfo, tuple[float, float]]:
        return {}

    def _product(self, op: Op, operands: _Counted) -> Noisy:
        """A sum of products: each is ``terms`` of the ``columns`` terms of a row."""
        n, (rows, columns) = self.params.ring_degree, self._matrix(op)
        total = summed(operands)
        count = sum(times for _, times in operands)
        each = 4.0 ** -self.scales.of(op.role)
        if op.kind is OpKind.DOT_SCALARS:
            terms, gain, rounding = 1, 1 / columns, each / 4
        elif not self._coefficients:
            terms, gain, rounding = 1, 1 / columns, each * rounding_slack(columns) * noise.slot_encoding_std(n) ** 2
        else:
            # Each block of the matrix's columns is an operand; noise meets other rows of the plaintext too.
            terms = min(n, -(-columns // len(op.args)))
            gain, rounding = min(n, rows * terms) / columns, each / 4
        energy = count * terms * rounding
        up = op.role is ScaleRole.UP and total.stage > 0
        return Noisy(
            stage=total.stage + 1,
            terms=count * terms,
            variances=total.variances * gain,
            down_rounding=total.down_rounding * terms + (0.0 if up else energy),
            up_rounding=energy if up else 0.0,
            drift=max(operand.drift for operand, _ in operands),
        )

    def _matrix(self, op: Op) -> tuple[int, int]:
        """Rows and columns of the matrix that an operation's weights come from."""
        if self.merged:
            return self.shape.d_out, self.shape.d_in
        if op.role is ScaleRole.UP:
            return self.shape.d_out, self.shape.rank
        return self.shape.rank, self.shape.d_in

    def _rescaled(self, i: int, operand: Noisy, levels: int = 1) -> Noisy:
        """Divided by the primes of one level or several, with the rounding of each in units of the last."""
        level, variance = self.values[i].level, 0.0
        for upper in range(level + levels, level, -1):
            variance = variance / 4.0 ** self.params.data_bits[upper] + noise.rescale_std(self.params.ring_degree) ** 2
        rescaled = operand.plus(Source.RESCALING, self._unit(i, math.sqrt(variance)))
        if not self.nominal_scales:
            return rescaled
        drift = sum(map(self._drift, range(level + 1, level + levels + 1)))
        return replace(rescaled, drift=operand.drift + drift)

    def _drift(self, level: int) -> float:
        """By how much a prime is off its nominal power of two."""
        bits = self.params.data_bits[level]
        if self.params.data_primes:
            return abs(2.0**bits / self.params.data_primes[level] - 1)
        # Primes that are 1 mod 2N lie 2N·ln(2^bits) apart on average; the chain's own are the nearest few.
        return 2 * self.params.ring_degree * bits * math.log(2) * len(self.params.data_bits) / 2.0**bits

    def _masked(self, i: int, operand: Noisy) -> Noisy:
        """With an encryption of zero added, by the public key, that was divided by a prime: the rounding is left."""
        return operand.plus(Source.ENCRYPTION, self._unit(i, noise.rescale_std(self.params.ring_degree)))

    def _sanitized(self, i: int, op: Op, operand: Noisy) -> Noisy:
        """Flooded, with the unread places drowned: ``helora_core.privacy.floods`` says how much that takes."""
        n, (before,) = self.params.ring_degree, op.args
        # From slots to integers in the coefficients: a slot's real part has N/2 times a coefficient's variance.
        places = 1.0 if self._coefficients else n / 2
        unit = 2.0 ** self.values[before].scale_bits / math.sqrt(places)
        # The noise of other coefficients is masked together with them; that of other slots is ordinary noise.
        seen = len(op.positions) or n if self._coefficients else n
        self.flood_bits[i] = flood_deviation_bits(math.sqrt(seen * operand.variance) * unit, op.bits)
        if not self._coefficients:
            # Other slots, and imaginary parts, hold the rounding of the last weights times x or z.
            rank = self.shape.rank if operand.up_rounding else self.shape.d_in
            last = (operand.up_rounding or operand.down_rounding) / rounding_slack(rank) * MEAN_ROUNDING_SLACK
            content = math.sqrt(n * last) * 2.0 ** self.values[before].scale_bits
            self.mask_bits[i] = mask_deviation_bits(content, op.bits)
        # An encryption of zero may be a fresh one at any level; the flood is larger by far.
        flooded = operand.plus(Source.ENCRYPTION, self._unit(before, noise.public_encryption_std(n)))
        # Doubles leave a remainder of the mask in the places that are read.
        rest = _MASK_REST * 2.0 ** (self.mask_bits.get(i, 0) - self.values[before].scale_bits)
        clean = flooded.plus(Source.FLOODING, (2.0 ** self.flood_bits[i] / unit) ** 2 + rest**2)
        divided = self._rescaled(i, clean, op.steps) if op.steps else clean
        if not op.low_bits:
            return divided
        first, second = op.low_bits  # of polynomials that were re-randomised, so that remainders are uniform
        return divided.plus(Source.DROPPED_BITS, self._unit(i, noise.dropped_std(n, first))).plus(
            Source.DROPPED_BITS_TIMES_SECRET, self._unit(i, noise.dropped_times_secret_std(n, second))
        )

    def _answered(self, i: int, operands: list[Noisy]) -> Noisy:
        """The client encrypts the values that it decrypted, noise included, as integers modulo the primes.

        That noise is in as many coefficients as z has numbers, not in all that the next product adds up.
        """
        worst = max(operands, key=lambda operand: operand.variance)
        n, rank = self.params.ring_degree, self.shape.rank
        share = rank / min(n, self.shape.d_out * rank)
        answer = replace(worst, variances=np.zeros(len(Source)), spikes=None)
        return answer.plus(Source.FIRST_ROUND, worst.variance * share).plus(
            Source.ENCRYPTION, self._unit(i, self._encryption_std())
        )


_Alike = list[tuple[int, tuple[tuple[int, int], ...]]]
"""Of each class of values: its first value, and the classes that this reads, with how often."""


def _alike(program: Program, values: Sequence[ValueInfo]) -> tuple[list[int], _Alike]:
    """The class of every value, and of each class its first value and the classes that this reads, with how often.

    A value's class is determined by the operation, by level and scale, and by the operands' classes. Which numbers or
    plaintexts are meant does not matter, since only sizes are followed; whether a sum has one value twice does.
    """
    numbers: dict[tuple[object, ...], int] = {}
    classes: list[int] = []
    alike: _Alike = []
    for i, (op, info) in enumerate(zip(program.ops, values, strict=True)):
        if len(op.args) == 1:
            operands: tuple[tuple[int, int], ...] = ((classes[op.args[0]], 1),)
        else:
            operands = tuple(Counter(map(classes.__getitem__, op.args)).items())
        kept = len(op.positions) if op.kind is OpKind.SANITIZE else 0
        doubled = op.kind is OpKind.ADD and op.args[0] == op.args[1]
        key = (op.kind, op.role, op.steps, op.bits, op.low_bits, kept, doubled, info.level, info.scale_bits, operands)
        number = numbers.setdefault(key, len(alike))
        if number == len(alike):
            alike.append((i, operands))
        classes.append(number)
    return classes, alike


def merges(program: Program) -> bool:
    """Whether only one product lies between inputs and results."""
    depths: list[int] = []
    for op in program.ops:
        depths.append(max(map(depths.__getitem__, op.args), default=0) + (op.kind in PRODUCTS))
    return max((depths[output] for output in program.results), default=0) == 1
