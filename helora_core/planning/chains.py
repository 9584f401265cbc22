"""The chains of moduli that backends are timed on: one for each number of primes that plans have, ring by ring."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from helora_core.compiler.ahead import RINGS_AHEAD, chain_ahead
from helora_core.compiler.request import USUAL_TRAITS, BackendTraits
from helora_core.params.choose import Requirement, choose_params
from helora_core.params.ckks import MAX_PRIME_BITS, CKKSParams
from helora_core.params.security import DEFAULT_TABLE, load_table

_SHORTEST_PRIME = 20
"""Shorter data primes are of no use."""


def _chain(ring_degree: int, data_bits: tuple[int, ...], special_bits: tuple[int, ...], scale_bits: int) -> CKKSParams:
    return CKKSParams(ring_degree=ring_degree, data_bits=data_bits, special_bits=special_bits, scale_bits=scale_bits)


DEFAULT_CHAINS = (
    _chain(2048, (53,), (), 24),
    _chain(4096, (60,), (), 27),
    _chain(4096, (43, 40), (20,), 22),
    _chain(8192, (60,), (), 27),
    _chain(8192, (60, 60), (17,), 30),
    _chain(8192, (55, 55, 38), (17,), 40),
    _chain(8192, (50, 44), (60,), 40),
    _chain(8192, (47, 44, 44), (55,), 40),
    _chain(8192, (41, 40, 40, 40), (53,), 40),
    _chain(8192, (34, 34, 33, 33, 33), (47,), 33),
    _chain(16384, (60,), (), 27),
    _chain(16384, (50, 44), (60,), 40),
    _chain(16384, (47, 44, 44), (55,), 40),
    _chain(16384, (47, 47, 47, 46), (60,), 40),
)
"""One chain for each number of primes that plans have at these rings, rescaling or not; a wide one; those of masks."""


_CHAINS_OF_SHORT_PRIMES = (
    _chain(2048, (27, 26), (), 24),
    _chain(4096, (50, 50), (), 30),
    _chain(4096, (28, 28, 34), (16,), 28),
    _chain(4096, (37, 34, 34), (), 34),
)
"""Chains that plans have beside those for libraries that are fast with short primes only, or reserve no special one."""


_DEFAULT_RINGS_AHEAD = (4096, 8192)
"""Rings of plans that run ahead of time at 128 bits of security; others are timed where they are asked for."""


def chains_for(
    rings: Collection[int] = (),
    *,
    table: str = DEFAULT_TABLE,
    traits: BackendTraits = USUAL_TRAITS,
    correlations: bool = False,
) -> tuple[CKKSParams, ...]:
    """The chains to calibrate at ``rings``, the default rings if none are given; at other rings those of depth 0 to 2.

    If a security table allows less than a chain has, its data primes are shortened to fit: operations take as long,
    since a residue takes a machine word whatever the prime's length. A library that is slower with long primes gets
    none.

    Args:
        rings: Ring degrees.
        table: Name of the security table that must allow the chains, at 128 bits.
        traits: The traits of the backend.
        correlations: Whether plans can run ahead of time on it: then theirs are among them, as they are.

    Raises:
        InvalidParameters, InsecureParameters: No secure chain exists at a ring.
    """
    chains: list[CKKSParams] = []
    short = traits.longest_prime_bits < MAX_PRIME_BITS
    defaults = [*DEFAULT_CHAINS, *(_CHAINS_OF_SHORT_PRIMES if short else ())]
    for ring_degree in dict.fromkeys(rings or (chain.ring_degree for chain in DEFAULT_CHAINS)):
        known = [chain for chain in defaults if chain.ring_degree == ring_degree]
        chains += known or [_chain(ring_degree, (60,), (), 27), *_rescaling_chains(ring_degree, table)]
    online = [
        _within(_shortened(chain, traits.longest_prime_bits), table)
        for chain in chains
        if not traits.reserves_special or chain.special_bits or not chain.max_level
    ]
    wanted = rings or _DEFAULT_RINGS_AHEAD
    return (*online, *(chain_ahead(n) for n in RINGS_AHEAD if correlations and n in wanted))


def _shortened(chain: CKKSParams, longest: int) -> CKKSParams:
    """The chain without primes that are longer."""
    data_bits, special_bits = (
        tuple(min(bits, longest) for bits in each) for each in (chain.data_bits, chain.special_bits)
    )
    return _chain(chain.ring_degree, data_bits, special_bits, min(chain.scale_bits, longest))


def _rescaling_chains(ring_degree: int, table: str) -> list[CKKSParams]:
    wanted = partial(Requirement, slots=1, rotates=True, precision_bits=0, ring_degree=ring_degree, table=table)
    return [choose_params(wanted(depth=depth)) for depth in (1, 2)]


def _within(chain: CKKSParams, table: str) -> CKKSParams:
    """The chain with data primes that a table allows; unchanged if there are none, so that keys are refused."""
    limit, special, primes = load_table(table).limit(chain.ring_degree, 128), sum(chain.special_bits), chain.data_bits
    total = min(sum(primes), limit - special)
    if total == sum(primes) or total < len(primes) * _SHORTEST_PRIME:
        return chain
    data_bits = tuple(total // len(primes) + (i < total % len(primes)) for i in range(len(primes)))
    return _chain(chain.ring_degree, data_bits, chain.special_bits, min(chain.scale_bits, data_bits[-1]))
