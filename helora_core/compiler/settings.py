"""Parameters and scales of a plan, chosen together: what is scaled up must be rescaled or fit the modulus."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.compiler.checks import ANSWER_SPARE_BITS, Scales
from helora_core.errors import InsecureParameters, InvalidParameters, SlotOverflow
from helora_core.packing.protocol import ModulusUse, Packing
from helora_core.params.choose import MAX_SCALE_BITS, Requirement, choose_params
from helora_core.params.ckks import CKKSParams
from helora_core.params.flat import FlatRequirement, choose_flat_params, plaintext_bits
from helora_core.params.masked import (
    HEADROOM_BITS,
    LEAST_HEADROOM_BITS,
    MaskedRequirement,
    choose_masked_params,
    masked_scales,
)
from helora_core.params.security import DEFAULT_SECURITY_BITS, DEFAULT_TABLE

DEFAULT_PRECISION_BITS = 12.0

SLOT_WEIGHT_BITS = 26
"""Scale of weights in slots: rounding costs about 0.29·√N/2^26 a slot, 12 bits of a weight of 0.01 at N=8192."""

COEFFICIENT_WEIGHT_BITS = 18
"""Scale of weights as coefficients or numbers, whose rounding has no √N."""


_FINER_BITS = (0, 5, 10)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan runs under.

    Attributes:
        params: Nominal parameters (a backend resolves them to primes).
        scales: log2 of the scales of input and plaintexts.
        rescales: Whether the program rescales at all.
    """

    params: CKKSParams
    scales: Scales
    rescales: bool


def settings_given(packing: Packing, params: CKKSParams) -> Settings:
    """Settings for parameters that the caller chose: each rescale brings the scale back to the input's.

    Raises:
        InvalidParameters: They have too few levels for the packing, or no prime to mask modulo it.
    """
    if packing.modulus_use is ModulusUse.MASKED:
        return _masked(params)
    if params.max_level < packing.depth:
        raise InvalidParameters(
            f"Packing {packing.name} rescales {packing.depth} times; the parameters have {params.max_level} levels.",
            hint=f"Use parameters with at least {packing.depth + 1} data primes.",
        )
    dropped = params.data_bits[::-1]
    scales = Scales(input_bits=params.scale_bits, down_bits=dropped[0], up_bits=dropped[min(1, params.max_level)])
    return Settings(params=params, scales=scales, rescales=True)


def _masked(params: CKKSParams, headroom_bits: int = HEADROOM_BITS) -> Settings:
    """``up`` is encoded finer than its grid, by what the client's answers are smaller than their modulus."""
    bits = masked_scales(params, headroom_bits)
    scales = Scales(input_bits=bits.input_bits, down_bits=bits.down_bits, up_bits=bits.up_bits + ANSWER_SPARE_BITS)
    return Settings(params=params, scales=scales, rescales=True)


def settings_options(
    shape: ModuleShape,
    packing: Packing,
    *,
    ring_degree: int | None = None,
    precision_bits: float = DEFAULT_PRECISION_BITS,
    security_bits: int = DEFAULT_SECURITY_BITS,
    table: str = DEFAULT_TABLE,
    sanitize_bits: int | None = None,
    free_scales: bool = True,
) -> Iterator[Settings]:
    """Settings to try one after the other until a plan is precise enough: the cheapest first.

    Small weights (those of a merged matrix, say) want a larger scale than usual, and then perhaps a larger ring.

    Raises:
        SlotOverflow, InvalidParameters, InsecureParameters: Nothing will do at all.
    """
    tried: list[Settings] = []
    for ring in (ring_degree,) if ring_degree else (None, 2, 4):
        for finer_bits in _FINER_BITS:
            degree = ring if ring is None or ring_degree else ring * tried[0].params.ring_degree
            try:
                settings = settings_for(
                    shape,
                    packing,
                    ring_degree=degree,
                    precision_bits=precision_bits,
                    security_bits=security_bits,
                    table=table,
                    sanitize_bits=sanitize_bits,
                    free_scales=free_scales,
                    finer_bits=finer_bits,
                )
            except (SlotOverflow, InvalidParameters, InsecureParameters):
                if not tried:
                    raise
                continue
            if settings not in tried:
                tried.append(settings)
                yield settings


def settings_for(
    shape: ModuleShape,
    packing: Packing,
    *,
    ring_degree: int | None = None,
    precision_bits: float = DEFAULT_PRECISION_BITS,
    security_bits: int = DEFAULT_SECURITY_BITS,
    table: str = DEFAULT_TABLE,
    sanitize_bits: int | None = None,
    free_scales: bool = True,
    finer_bits: int = 0,
) -> Settings:
    """Choose parameters and scales for a packing.

    Args:
        shape, packing, ring_degree, precision_bits, security_bits, table, sanitize_bits, free_scales: As of
            ``compile_plan``.
        finer_bits: Make scales larger by this many bits: of weights, or of all where each rescale brings it back.

    Raises:
        SlotOverflow, InvalidParameters, InsecureParameters: As ``choose_params`` does.
    """
    if packing.modulus_use is ModulusUse.MASKED:
        # Weights cannot be finer without the base prime's headroom.
        headroom_bits = LEAST_HEADROOM_BITS if finer_bits else HEADROOM_BITS
        masked = MaskedRequirement(
            slots=packing.min_slots(shape),
            headroom_bits=headroom_bits,
            flood_bits=sanitize_bits or 0,
            precision_bits=precision_bits,
            security_bits=security_bits,
            table=table,
            ring_degree=ring_degree,
        )
        return _masked(choose_masked_params(masked), headroom_bits)
    if not free_scales or (packing.modulus_use is ModulusUse.LEVELS and sanitize_bits is None):
        params = choose_params(
            Requirement(
                depth=packing.depth,
                slots=packing.min_slots(shape),
                rotates=packing.rotates,
                precision_bits=precision_bits,
                security_bits=security_bits,
                table=table,
                ring_degree=ring_degree,
                max_scale_bits=MAX_SCALE_BITS + finer_bits,
            )
        )
        return settings_given(packing, params)
    weight_bits = SLOT_WEIGHT_BITS if packing.encoding is Encoding.SLOTS else COEFFICIENT_WEIGHT_BITS
    weight_bits += finer_bits
    params = choose_flat_params(
        FlatRequirement(
            weight_bits=weight_bits * packing.depth,
            slots=packing.min_slots(shape),
            rotates=packing.rotates,
            coefficients=packing.encoding is Encoding.COEFFICIENTS,
            flood_bits=sanitize_bits or 0,
            precision_bits=precision_bits,
            security_bits=security_bits,
            table=table,
            ring_degree=ring_degree,
        )
    )
    weight_bits = plaintext_bits(params) // packing.depth
    scales = Scales(input_bits=params.scale_bits, down_bits=weight_bits, up_bits=weight_bits)
    return Settings(params=params, scales=scales, rescales=False)
