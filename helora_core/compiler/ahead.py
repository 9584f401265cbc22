"""Parameters, scales and low bits of plans that run ahead of time: there is little to choose.

The modulus is a machine word times the data primes, whose product q₁ hides the noise. Nothing else depends on it, so
one chain for each ring is all there is: 2^148 at a ring of 8192, where every table allows it, and 2^105 at 4096.
"""

from __future__ import annotations

from typing import NamedTuple

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.checks import Scales
from helora_core.compiler.grid import chosen_grid, grid_scales, switching_bits
from helora_core.errors import InvalidParameters
from helora_core.packing.protocol import AheadOfTime, Packing
from helora_core.params.ckks import WRAP_BITS, CKKSParams
from helora_core.params.security import load_table, require_secure

_LONG, _SHORT = (42, 42), (41,)

_CHAINS = {4096: _SHORT, 8192: _LONG, 16384: _LONG}
"""Data primes by ring. One prime is too few to hide noise by a flood."""

RINGS_AHEAD = tuple(_CHAINS)

_USUAL_RINGS = (8192, 16384)
"""Rings that are taken unless another is asked for."""


class AheadSettings(NamedTuple):
    """What ``Settings`` says of such a plan."""

    params: CKKSParams
    scales: Scales
    low_bits: tuple[int, ...]


def params_ahead(packing: Packing, *, ring_degree: int | None, security_bits: int, table: str) -> CKKSParams:
    """The parameters of the smallest usual ring that is secure, or of the one asked for.

    Raises:
        InvalidParameters: There are none for this ring.
        InsecureParameters: They are not secure in the ring asked for, or in any.
    """
    allowed = [n for n, chain in _CHAINS.items() if len(chain) > 1 or not is_exact(packing)]
    if ring_degree is not None and ring_degree not in allowed:
        raise InvalidParameters(
            f"Packing {packing.name} has no parameters for a ring of {ring_degree}.",
            hint=f"Use one of {', '.join(map(str, allowed[:-1]))} or {allowed[-1]}, or leave the choice to the plan.",
        )
    limits = load_table(table)
    rings = _USUAL_RINGS if ring_degree is None else (ring_degree,)
    chains = [chain_ahead(n) for n in rings]
    secure = (each for each in chains if each.modulus_bits <= limits.limit(each.ring_degree, security_bits))
    params = next(secure, chains[-1])
    require_secure(params, security_bits=security_bits, table=table)
    return params


def chain_ahead(ring_degree: int) -> CKKSParams:
    """The parameters for one of ``RINGS_AHEAD``, whether or not they are secure."""
    data_bits = _CHAINS[ring_degree]
    return CKKSParams(
        ring_degree=ring_degree,
        data_bits=data_bits,
        special_bits=(),
        scale_bits=sum(data_bits),  # of numbers modulo the wrap limb: modules of all grids have equal parameters
        wrap_bits=WRAP_BITS,
    )


def settings_under(packing: Packing, shape: ModuleShape, params: CKKSParams, hidden_bits: int) -> AheadSettings:
    """Scales and low bits under given parameters.

    Args:
        packing: The packing.
        shape: The module's shape.
        params: Nominal parameters.
        hidden_bits: Statistical distance that is asked for.

    Raises:
        InvalidParameters: The parameters have no wrap limb, or special primes, or one data prime where it takes two.
    """
    if not params.wrap_bits or params.special_bits or (is_exact(packing) and len(params.data_bits) < 2):
        raise InvalidParameters(
            f"Packing {packing.name} needs a wrap limb, {'two' if is_exact(packing) else 'one or more'} data primes, "
            "and no special ones.",
            hint="Leave the choice of parameters to the plan.",
        )
    grid = chosen_grid(shape)
    low_bits = () if is_exact(packing) else switching_bits(shape, grid, params, hidden_bits)
    return AheadSettings(params, grid_scales(grid, params), low_bits)


def is_exact(packing: Packing) -> bool:
    """Whether results are exact integers.

    Raises:
        InvalidParameters: The packing does not say.
    """
    if not isinstance(packing, AheadOfTime):
        raise InvalidParameters(
            f"Packing {packing.name} runs ahead of time but does not say whether results are exact.",
            hint="Give it an attribute `exact`, as helora_core.packing.protocol.AheadOfTime has.",
        )
    return packing.exact
