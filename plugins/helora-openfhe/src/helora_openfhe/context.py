"""OpenFHE's parameters and contexts.

OpenFHE takes two sizes and picks the primes itself: the first just below 2^``FirstModSize``, the others near
2^``ScalingModSize``, on both sides of it, so that a prime of 40 bits may come out with 41. A chain of other lengths is
replaced by the same total of bits, spread differently, if nothing divides by a single prime. ``resolve`` states what
OpenFHE picked.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from helora_core.backend.base import with_primes
from helora_core.backend.capabilities import RescaleMode
from helora_core.backend.primes import ntt_primes
from helora_core.params.ckks import MAX_PRIME_BITS, CKKSParams
from helora_openfhe.library import openfhe

_AUXILIARY_BITS = 60
"""OpenFHE's fixed size of the special primes of hybrid key switching."""

_LONGEST_OF_ONE_SPECIAL = 56

_LEAST_SCALING_BITS, _MOST_SCALING_BITS = 14, 59
"""OpenFHE's range of ``ScalingModSize``."""


def _switches_by_special_prime(params: CKKSParams) -> bool:
    """Hybrid key switching, unless the special primes are too short for it.

    Such parameters belong to plans that never switch keys (``choose_params`` reserves a token prime for libraries that
    need one); BV key switching has no special prime at all.
    """
    return sum(params.special_bits) >= max(params.data_bits)


class _Sizes(NamedTuple):
    """OpenFHE's settings: log2 of the first prime, and of the others, which is also the scale of its plaintexts."""

    first: int
    scaling: int


def unit_bits(params: CKKSParams) -> int:
    """log2 of OpenFHE's only scale.

    Args:
        params: As ``resolve`` returned them.
    """
    return _sizes_of(params).scaling


def make_context(params: CKKSParams, rescale: RescaleMode, sizes: _Sizes | None = None) -> Any:
    """A crypto context without any key, for parameters that ``resolve`` returned, or for given sizes.

    Raises:
        ValueError: OpenFHE cannot realise them.
    """
    sizes = sizes or _sizes_of(params)
    wanted = openfhe.CCParamsCKKSRNS()
    # Core judges security on the primes that resolve reports; with a standard set, OpenFHE would pick its own ring.
    wanted.SetSecurityLevel(openfhe.HEStd_NotSet)
    wanted.SetRingDim(params.ring_degree)
    wanted.SetBatchSize(params.slots)
    wanted.SetMultiplicativeDepth(params.max_level)
    wanted.SetFirstModSize(sizes.first)
    wanted.SetScalingModSize(sizes.scaling)
    wanted.SetSecretKeyDist(openfhe.UNIFORM_TERNARY)
    wanted.SetCKKSDataType(openfhe.CKKSDataType.COMPLEX)
    explicit = rescale is RescaleMode.EXPLICIT
    wanted.SetScalingTechnique(openfhe.FIXEDMANUAL if explicit else openfhe.FLEXIBLEAUTO)
    if _switches_by_special_prime(params):
        wanted.SetKeySwitchTechnique(openfhe.HYBRID)
        # One digit per prime, so that one special prime is enough.
        wanted.SetNumLargeDigits(len(params.data_bits))
    else:
        wanted.SetKeySwitchTechnique(openfhe.BV)
    try:
        context = openfhe.GenCryptoContext(wanted)
    except RuntimeError as error:
        raise ValueError(
            f"OpenFHE refuses primes of {params.data_bits} bits ({str(error).splitlines()[-1]})"
        ) from error
    for feature in (openfhe.PKE, openfhe.KEYSWITCH, openfhe.LEVELEDSHE):
        context.Enable(feature)
    return context


def resolve(params: CKKSParams, rescale: RescaleMode) -> CKKSParams:
    """Fill in the primes that OpenFHE picks, and state their real lengths.

    Raises:
        ValueError: OpenFHE cannot realise the parameters.
    """
    data: tuple[int, ...] = ()
    asked_bits = sum(params.data_bits)
    for sizes in _options(params, rescale):
        found = _data_primes(make_context(params, rescale, sizes))
        if len(set(found)) != len(found):
            raise ValueError(
                f"OpenFHE does not have enough primes of {sizes.scaling} bits for ring degree {params.ring_degree}"
            )
        data = data or found
        # Primes on both sides of a power of two may multiply to one bit more than asked, which the table may not allow.
        if math.prod(found).bit_length() <= asked_bits:
            data = found
            break
    special = _special_primes(params.ring_degree, data) if _switches_by_special_prime(params) else ()
    return with_primes(params, data + special)


def _sizes_of(resolved: CKKSParams) -> _Sizes:
    """The sizes that gave these primes: the first is below its power of two, the others are next to theirs."""
    first, *later = resolved.data_primes
    if not later:
        return _alone(round(math.log2(first)), resolved.scale_bits)
    scaling = {round(math.log2(prime)) for prime in later}
    return _Sizes(max(round(math.log2(first)), *scaling), max(scaling))


def _alone(first_bits: int, scale_bits: int) -> _Sizes:
    """For one prime, the scale asked for if it is shorter: with equal sizes, OpenFHE would take the next larger one."""
    longest = min(first_bits, MAX_PRIME_BITS) - 1
    return _Sizes(first_bits, scale_bits if _LEAST_SCALING_BITS <= scale_bits <= longest else longest)


def _options(params: CKKSParams, rescale: RescaleMode) -> Iterator[_Sizes]:
    """Sizes that give the chain asked for, the closest first.

    Raises:
        ValueError: There are none.
    """
    if params.data_primes:
        yield _sizes_of(params)
        return
    first, *later = params.data_bits
    if not later:
        yield _alone(first, params.scale_bits)
        return
    total, shortest = sum(params.data_bits), min(later)
    options = [_Sizes(first, shortest)] if shortest == max(later) else []
    # Programs that rescale need each prime to have the length asked for, that of their input's scale. For the others
    # only the modulus matters, and the planner divides it evenly.
    if rescale is RescaleMode.EXPLICIT and params.scale_bits not in later and 0 <= first - shortest <= 1:
        options += [_Sizes(total - len(later) * each, each) for each in range(shortest, _LEAST_SCALING_BITS - 1, -1)]
    possible = [
        sizes
        for sizes in options
        if _LEAST_SCALING_BITS <= sizes.scaling <= min(sizes.first, _MOST_SCALING_BITS)
        and sizes.first <= MAX_PRIME_BITS
    ]
    if rescale is RescaleMode.AUTOMATIC and shortest != params.scale_bits:
        possible = []
    if not possible:
        raise ValueError(
            f"OpenFHE's data primes after the first are of one length, from {_LEAST_SCALING_BITS} to "
            f"{_MOST_SCALING_BITS} bits, no longer than the first"
            f"{', and that of the scale' if rescale is RescaleMode.AUTOMATIC else ''}; {list(params.data_bits)} were "
            f"asked for, with a scale of {params.scale_bits}"
        )
    yield from possible


def _data_primes(context: Any) -> tuple[int, ...]:
    """The chain, base prime first: the bindings expose it only in the serialised context."""
    document = json.loads(openfhe.Serialize(context, openfhe.JSON))
    parameters = document["value0"]["ptr_wrapper"]["data"]["cc"]["ptr_wrapper"]["data"]
    element = parameters["value0"]["value0"]["value0"]["elp"]["ptr_wrapper"]["data"]
    return tuple(int(prime["ptr_wrapper"]["data"]["value0"]["cm"]["v"]) for prime in element["p"])


def _special_primes(ring_degree: int, data: tuple[int, ...]) -> tuple[int, ...]:
    """The largest primes of 60 bits that are 1 mod 2N and not in the chain: OpenFHE's choice, which it does not expose.

    There is one, or two if a data prime has more than 56 bits: a rotation key then has one more limb (seen in OpenFHE
    1.6.1's serialised keys, with first primes of 50 to 60 bits).
    """
    count = 1 if max(data).bit_length() <= _LONGEST_OF_ONE_SPECIAL else 2
    others = (prime for prime in ntt_primes(_AUXILIARY_BITS, ring_degree) if prime not in data)
    return tuple(itertools.islice(others, count))
