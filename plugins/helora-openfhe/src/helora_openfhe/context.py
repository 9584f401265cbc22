"""OpenFHE's parameters and contexts.

OpenFHE takes sizes and picks the primes itself: the first of ``FirstModSize`` bits, the others near
2^``ScalingModSize``, on both sides of it, so that a prime of a 40-bit scale may have 41 bits. ``resolve`` says what it
really picked.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from helora_core.backend.capabilities import RescaleMode
from helora_core.errors import InvalidParameters
from helora_core.params.ckks import CKKSParams
from helora_openfhe.library import openfhe

_AUXILIARY_BITS = 60
"""OpenFHE's fixed size of the special primes of hybrid key switching."""


def _switches_by_special_prime(params: CKKSParams) -> bool:
    """Hybrid key switching, unless the special primes are too short for it.

    Such parameters belong to plans that never switch keys (``choose_params`` reserves a token prime for libraries that
    need one); BV key switching has no special prime at all.
    """
    return sum(params.special_bits) >= max(params.data_bits)


def make_context(params: CKKSParams, rescale: RescaleMode) -> Any:
    """A crypto context for these parameters, without any key.

    Raises:
        InvalidParameters: OpenFHE cannot realise them.
    """
    _check(params)
    wanted = openfhe.CCParamsCKKSRNS()
    # Core judges security on the primes that resolve reports; with a standard set, OpenFHE would pick its own ring.
    wanted.SetSecurityLevel(openfhe.HEStd_NotSet)
    wanted.SetRingDim(params.ring_degree)
    wanted.SetBatchSize(params.slots)
    wanted.SetMultiplicativeDepth(params.max_level)
    wanted.SetFirstModSize(params.data_bits[0])
    wanted.SetScalingModSize(params.scale_bits)
    wanted.SetSecretKeyDist(openfhe.UNIFORM_TERNARY)
    wanted.SetCKKSDataType(openfhe.CKKSDataType.COMPLEX)
    explicit = rescale is RescaleMode.EXPLICIT
    wanted.SetScalingTechnique(openfhe.FIXEDMANUAL if explicit else openfhe.FLEXIBLEAUTO)
    if _switches_by_special_prime(params):
        wanted.SetKeySwitchTechnique(openfhe.HYBRID)
        # One digit a prime, so that one special prime is enough.
        wanted.SetNumLargeDigits(len(params.data_bits))
    else:
        wanted.SetKeySwitchTechnique(openfhe.BV)
    try:
        context = openfhe.GenCryptoContext(wanted)
    except RuntimeError as error:
        raise InvalidParameters(
            f"helora-openfhe: OpenFHE refuses ring degree {params.ring_degree} with primes of {params.data_bits} bits "
            f"({str(error).splitlines()[-1]}).",
            hint="Use fewer or longer primes.",
        ) from error
    for feature in (openfhe.PKE, openfhe.KEYSWITCH, openfhe.LEVELEDSHE):
        context.Enable(feature)
    return context


def _check(params: CKKSParams) -> None:
    later = set(params.data_bits[1:])
    # Resolved parameters state real lengths: a prime just above 2^scale_bits has one bit more.
    if not later <= {params.scale_bits, params.scale_bits + 1}:
        raise InvalidParameters(
            f"helora-openfhe: all data primes but the first are of the scale's {params.scale_bits} bits; "
            f"{sorted(later)} were asked for.",
            hint="Use equal lengths for all data primes but the first, and the same scale_bits.",
        )


def resolve(params: CKKSParams, rescale: RescaleMode) -> CKKSParams:
    """Fill in the primes that OpenFHE picks, and state their real lengths.

    Raises:
        InvalidParameters: OpenFHE cannot realise the parameters.
    """
    data = _data_primes(make_context(params, rescale))
    special: tuple[int, ...] = ()
    if _switches_by_special_prime(params):
        special = (_special_prime(params.ring_degree, data),)
    if len(set(data)) != len(data):
        raise InvalidParameters(
            f"helora-openfhe: OpenFHE has not enough primes of {params.scale_bits} bits for ring degree "
            f"{params.ring_degree}.",
            hint="Use fewer data primes, or longer ones.",
        )
    return msgspec.structs.replace(
        params,
        data_bits=tuple(prime.bit_length() for prime in data),
        special_bits=tuple(prime.bit_length() for prime in special),
        data_primes=data,
        special_primes=special,
    )


def _data_primes(context: Any) -> tuple[int, ...]:
    """The chain, base prime first: the bindings show it only in the serialised context."""
    document = json.loads(openfhe.Serialize(context, openfhe.JSON))
    parameters = document["value0"]["ptr_wrapper"]["data"]["cc"]["ptr_wrapper"]["data"]
    element = parameters["value0"]["value0"]["value0"]["elp"]["ptr_wrapper"]["data"]
    return tuple(int(prime["ptr_wrapper"]["data"]["value0"]["cm"]["v"]) for prime in element["p"])


def _special_prime(ring_degree: int, data: tuple[int, ...]) -> int:
    """The largest prime of 60 bits that is 1 mod 2N and not in the chain: OpenFHE's choice, which it does not show."""
    candidate = (1 << _AUXILIARY_BITS) // (2 * ring_degree) * (2 * ring_degree) + 1
    while candidate >= 1 << _AUXILIARY_BITS or candidate in data or not _is_prime(candidate):
        candidate -= 2 * ring_degree
    return candidate


def _is_prime(number: int) -> bool:
    """Miller-Rabin with the first twelve primes, which decides every number below 3.1e23."""
    odd = number - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        power = pow(base, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True
