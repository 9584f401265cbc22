"""Parameters and scales of a plan, chosen together: scaled values must be rescaled or fit the modulus.

The smallest sufficient scales follow from the bounds of ``helora_core.compiler.error_flow``, solved the other way
round; the compiled plan is checked with those bounds themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.backend.coefficient_noise import LARGEST_NORMAL
from helora_core.compiler.ahead import params_ahead, settings_under
from helora_core.compiler.checks import Scales
from helora_core.compiler.error_flow import MEAN_ROUNDING_SLACK, rounding_slack
from helora_core.compiler.precision import normal_tail
from helora_core.compiler.request import PlanRequest
from helora_core.compiler.signal import expected_delta
from helora_core.errors import HeloraError, InsecureParameters, InvalidParameters, SlotOverflow
from helora_core.packing.protocol import ModulusUse, Packing
from helora_core.params import noise
from helora_core.params.choose import Requirement, choose_params
from helora_core.params.ckks import CKKSParams
from helora_core.params.flat import FlatRequirement, FlatScales, choose_flat
from helora_core.params.masked import MaskedRequirement, MaskedScales, choose_masked, scales_within
from helora_core.privacy.floods import flood_deviation_bits, mask_deviation_bits

_NOISE_SHARE_BITS, _DOWN_SHARE_BITS, _UP_SHARE_BITS = 0.6, 1.7, 5.0

_Z_SHARE_BITS, _DIVIDED_DOWN_SHARE_BITS, _DIVIDED_UP_SHARE_BITS = 1.0, 1.4, 2.3

_MASK_ROOM_BITS = 2.7
"""Bits for a mask, the message next to it, and the sign."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters and scales that a plan runs under.

    Attributes:
        params: Nominal parameters (a backend resolves them to primes).
        scales: log2 of the scales of input and plaintexts.
        rescales: Whether the program rescales at all.
        dropped: Levels by which clean results are divided down before they are sent.
        low_bits: Low bits of their two polynomials that are not sent then, or of those of correlations; empty for none.
    """

    params: CKKSParams
    scales: Scales
    rescales: bool
    dropped: int = 0
    low_bits: tuple[int, ...] = ()


def settings_given(packing: Packing, params: CKKSParams) -> Settings:
    """Settings for parameters that the caller chose: each rescale restores the input's scale.

    Raises:
        InvalidParameters: They have too few levels for the packing, or too few bits to mask.
    """
    if packing.modulus_use in (ModulusUse.MASKED, ModulusUse.DIVIDED):
        return _masked(params, scales_within(params))
    if params.max_level < packing.depth:
        raise InvalidParameters(
            f"Packing {packing.name} rescales {packing.depth} times; the parameters have {params.max_level} levels.",
            hint=f"Use parameters with at least {packing.depth + 1} data primes.",
        )
    dropped = params.data_bits[::-1]
    scales = Scales(input_bits=params.scale_bits, down_bits=dropped[0], up_bits=dropped[min(1, params.max_level)])
    return Settings(params=params, scales=scales, rescales=True)


def settings_within(request: PlanRequest, packing: Packing, params: CKKSParams) -> Settings:
    """Settings of a request for parameters that the caller chose.

    Raises:
        InvalidParameters: They do not suit the packing.
    """
    if packing.modulus_use is ModulusUse.CORRELATED:
        found = settings_under(packing, request.shape, params, request.constraints.sanitize_bits or 0)
        return Settings(params=found.params, scales=found.scales, rescales=False, low_bits=found.low_bits)
    return settings_given(packing, params)


def _masked(params: CKKSParams, found: MaskedScales) -> Settings:
    scales = Scales(input_bits=found.input_bits, down_bits=found.down_bits, up_bits=found.up_bits)
    return Settings(params=params, scales=scales, rescales=True)


@dataclass(frozen=True)
class _Wanted:
    """The smallest scales at which a packing's errors are small enough."""

    request: PlanRequest
    packing: Packing

    @property
    def shape(self) -> ModuleShape:
        """The module's shape."""
        return self.request.shape

    @property
    def flood_bits(self) -> int:
        """Statistical distance to which results are flooded; 0 for none."""
        return self.request.constraints.sanitize_bits or 0

    @cached_property
    def _coefficients(self) -> bool:
        return self.packing.encoding is Encoding.COEFFICIENTS

    @cached_property
    def _products(self) -> int:
        """Products under encryption between input and result."""
        return 1 if self.packing.client_finishes else self.packing.depth

    @cached_property
    def absolute_bits(self) -> float:
        """−log2 of the largest error that keeps the precision."""
        return self.request.constraints.target_bits - math.log2(expected_delta(self.shape))

    def flat(self, ring_degree: int, data_bits: tuple[int, ...], special_bits: tuple[int, ...]) -> FlatScales:
        """Two thirds of the error are noise, or flood; the rest is the rounding of weights, nearly all of it
        those of ``down``: masks leave those of ``up`` more bits than they need.
        """
        share = self.absolute_bits + _NOISE_SHARE_BITS
        down = self.shape.d_in * (1 if self._merged else self.shape.rank) * self._slack(self.shape.d_in)
        up = self.shape.rank * self._slack(self.shape.rank)
        return FlatScales(
            input_bits=math.ceil(share + math.log2(self._noise(ring_degree, data_bits, sum(special_bits)))),
            down_bits=math.ceil(
                self.absolute_bits + _DOWN_SHARE_BITS + math.log2(down * self._rounding(ring_degree)) / 2
            ),
            up_bits=(
                math.ceil(self.absolute_bits + _UP_SHARE_BITS + math.log2(up * self._rounding(ring_degree)) / 2)
                if self._products > 1
                else 0
            ),
        )

    @cached_property
    def _merged(self) -> bool:
        return self._products == 1 and not self.packing.client_finishes

    def _rounding(self, ring_degree: int) -> float:
        """δ² of a weight, in units of its plaintext."""
        return 1 / 4 if self._coefficients else noise.slot_encoding_std(ring_degree) ** 2

    def _slack(self, terms: int) -> float:
        return 1.0 if self._coefficients else rounding_slack(terms)

    def _noise(self, ring_degree: int, data_bits: tuple[int, ...], special_bits: int) -> float:
        """Bound on the noise or flood of a result, in units of the input's encoding."""
        model = self.request.traits.noise_model
        public = model.public_encryption
        std = noise.public_encryption_std(ring_degree) if public else noise.encryption_std(ring_degree)
        if self.packing.rotates:
            switched = noise.keyswitch_worst_std(
                ring_degree,
                data_bits,
                special_bits,
                floors=model.keyswitch_floors,
                centred=model.centred_digits,
            )
            std = math.hypot(std, switched)
        places = math.sqrt(ring_degree / 2)
        if self._coefficients:
            # All other rows of a plaintext are multiplied by the noise as well.
            std *= math.sqrt(min(self.shape.rank, ring_degree)) / places
        tail = normal_tail(ring_degree * self.shape.d_out)
        if not self.flood_bits:
            return tail * std
        norm = math.sqrt(ring_degree) * std / (1.0 if self._coefficients else places)
        flood = 2.0 ** flood_deviation_bits(norm, self.flood_bits)
        return tail * flood * (1.0 if self._coefficients else places)

    def mask_bits(self, ring_degree: int) -> int:
        """Bits that the input and ``down`` scales must leave in the modulus, so that masks of other slots fit."""
        if self._coefficients or not self.flood_bits:
            return 0
        terms = self.shape.rank if self._products > 1 else self.shape.d_in
        terms = 1 << (terms - 1).bit_length()  # layouts pad to this
        content = math.sqrt(ring_degree * terms * self._rounding(ring_degree) * MEAN_ROUNDING_SLACK)
        deviation = mask_deviation_bits(content, self.flood_bits) - math.log2(ring_degree / 2) / 2
        return math.ceil(deviation + math.log2(LARGEST_NORMAL) + _MASK_ROOM_BITS)

    def masked(self, ring_degree: int) -> MaskedScales:
        """The first round's noise is that of a rescale, and becomes part of Δ."""
        share = self.absolute_bits + _NOISE_SHARE_BITS
        rescale = noise.rescale_std(ring_degree) / math.sqrt(ring_degree / 2)
        tail = normal_tail(ring_degree * self.shape.d_out)
        bound = tail * 2 * rescale
        if self.flood_bits:
            seen = math.sqrt(min(self.shape.d_out, ring_degree))
            bound = tail * 2.0 ** flood_deviation_bits(2 * seen * rescale, self.flood_bits)
        return MaskedScales(
            input_bits=0,
            z_bits=math.ceil(share + math.log2(bound)),
            down_bits=math.ceil(share + 2 + math.log2(self.shape.d_in * self.shape.rank / 4) / 2),
            up_bits=math.ceil(share + 2 + math.log2(self.shape.rank / 4) / 2),
        )

    def divided(self, ring_degree: int) -> MaskedScales:
        """Half of the error is the noise of the rescale, or the flood above it; the rest is the rounding of numbers, of
        ``up`` least, whose bits lengthen the primes that stay.
        """
        rescale = noise.rescale_std(ring_degree) / math.sqrt(ring_degree / 2)
        bound = normal_tail(ring_degree * self.shape.d_out) * rescale
        if self.flood_bits:
            flood = flood_deviation_bits(math.sqrt(ring_degree) * rescale, self.flood_bits)
            bound *= 2.0**flood / rescale
        down, up = self.shape.d_in * self.shape.rank / 4, self.shape.rank / 4
        return MaskedScales(
            input_bits=0,
            z_bits=math.ceil(self.absolute_bits + _Z_SHARE_BITS + math.log2(bound)),
            down_bits=math.ceil(self.absolute_bits + _DIVIDED_DOWN_SHARE_BITS + math.log2(down) / 2),
            up_bits=math.ceil(self.absolute_bits + _DIVIDED_UP_SHARE_BITS + math.log2(up) / 2),
        )


def settings_options(request: PlanRequest, packing: Packing) -> Iterator[Settings]:
    """Settings to try one after the other until a plan is precise enough: the cheapest first.

    The bounds that they are chosen by are those of the plan up to what its layout adds (padding, the number of
    results), so targets a few bits higher are tried if need be. They are also larger than the plan's by up to three
    bits, in which a smaller ring or one prime less may be found; those are tried before.

    Raises:
        SlotOverflow, InvalidParameters, InsecureParameters: No settings suffice.
    """
    plain: Settings | None = None
    refusal: HeloraError | None = None
    tried: list[Settings] = []
    try:
        plain = settings_for(request, packing)
    except _NO_SETTINGS as error:
        refusal = error
    for extra_bits in (*_FEWER_BITS, *_MORE_BITS):
        target_bits = request.constraints.target_bits + extra_bits
        if target_bits < 0:
            continue
        try:
            settings = settings_for(request.within(target_bits=target_bits), packing)
        except _NO_SETTINGS:
            continue
        cheaper = plain is None or _size(settings) < _size(plain)
        if settings not in tried and (extra_bits >= 0 or cheaper):
            tried.append(settings)
            yield settings
    if refusal is not None:
        raise refusal


_NO_SETTINGS = (SlotOverflow, InvalidParameters, InsecureParameters)
_FEWER_BITS, _MORE_BITS = (-3, -2, -1), (0, 1, 2, 4, 8)


def _size(settings: Settings) -> tuple[int, int]:
    """What operations cost by, whatever the lengths of the primes."""
    return settings.params.ring_degree, len(settings.params.data_bits)


def settings_for(request: PlanRequest, packing: Packing) -> Settings:
    """Choose parameters and scales for a packing.

    Raises:
        SlotOverflow, InvalidParameters, InsecureParameters: As ``choose_params`` raises them.
    """
    asked, wanted = request.constraints, _Wanted(request, packing)
    if packing.modulus_use is ModulusUse.CORRELATED:
        level: dict[str, Any] = {"security_bits": asked.security_bits, "table": asked.table}
        params = params_ahead(packing, ring_degree=asked.ring_degree, **level)
        return settings_within(request, packing, params)
    common: dict[str, Any] = {
        "slots": packing.min_slots(request.shape),
        "precision_bits": asked.target_bits,
        "security_bits": asked.security_bits,
        "table": asked.table,
        "ring_degree": asked.ring_degree,
        "longest_prime_bits": request.traits.longest_prime_bits,
        "reserves_special": request.traits.reserves_special,
    }
    if packing.modulus_use is ModulusUse.DIVIDED:
        common |= {"beyond_down_bits": 0, "most_spare_bits": 0}
        requirement = MaskedRequirement(flood_bits=wanted.flood_bits, least=wanted.divided, **common)
        return _masked(*choose_masked(requirement))
    if packing.modulus_use is ModulusUse.MASKED:
        return _masked(*choose_masked(MaskedRequirement(flood_bits=wanted.flood_bits, least=wanted.masked, **common)))
    if not request.traits.free_scales or (packing.modulus_use is ModulusUse.LEVELS and not wanted.flood_bits):
        common["precision_bits"] = max(0.0, wanted.absolute_bits)
        common["noise_model"] = request.traits.noise_model
        params = choose_params(Requirement(depth=packing.depth, rotates=packing.rotates, **common))
        return settings_given(packing, params)
    params, found = choose_flat(
        FlatRequirement(
            rotates=packing.rotates,
            flood_bits=wanted.flood_bits,
            least=wanted.flat,
            mask_bits=wanted.mask_bits,
            **common,
        )
    )
    scales = Scales(input_bits=found.input_bits, down_bits=found.down_bits, up_bits=found.up_bits or found.down_bits)
    return Settings(params=msgspec.structs.replace(params, scale_bits=found.input_bits), scales=scales, rescales=False)
