"""Pyfhel objects: SEAL's parameters, levels and encoders.

Pyfhel tracks levels in ``mod_level``, which ``multiply_plain`` raises and ``rescale_to_next`` does not, and does not
serialise it. The true level follows from the size of SEAL's ciphertext: 16·N bytes for each prime left, and a header.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

from Pyfhel import Pyfhel

from helora_core.backend.base import with_primes
from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Values
from helora_core.params.ckks import CKKSParams


def _refuse(pyfhel: object, *args: object, **options: object) -> object:
    raise RuntimeError("there is no secret key")


_Keyless = type("KeylessPyfhel", (Pyfhel,), {name: _refuse for name in dir(Pyfhel) if name.startswith("decrypt")})
"""Pyfhel objects that refuse to decrypt: with a public key and no secret one, Pyfhel's own follow a null pointer, and
the process dies."""


def pyfhel_object(params: CKKSParams, chain: dict[str, list[int]], *, keyed: bool = False) -> Any:
    """A Pyfhel object for a chain of primes, given as ``qi`` (the primes) or ``qi_sizes`` (their bit lengths).

    An object that is not ``keyed`` must not be given a secret key, and could not decrypt with it.

    Security is judged by the core on resolved parameters before keys are made; ``sec=0`` turns SEAL's check of the 2018
    table off. The default scale is never used, but Pyfhel warns of one that is not a prime's, and of any if there is
    only one prime.

    Raises:
        ValueError: SEAL cannot realise them.
    """
    pyfhel = (Pyfhel if keyed else _Keyless)()
    try:
        with warnings.catch_warnings():
            if not params.special_bits:
                warnings.simplefilter("ignore")
            status = pyfhel.contextGen(
                scheme="ckks",
                n=params.ring_degree,
                sec=0,
                scale_bits=(params.data_bits + params.special_bits)[-1],
                **chain,
            )
    except (ValueError, RuntimeError) as error:
        status = str(error)
    if not status.startswith("success"):
        bits = [*params.data_bits, *params.special_bits]
        raise ValueError(f"SEAL cannot realise primes of {bits} bits at ring degree {params.ring_degree} ({status})")
    return pyfhel


@functools.lru_cache(maxsize=64)
def resolve(params: CKKSParams) -> CKKSParams:
    """Fill in the primes that SEAL chooses.

    Raises:
        ValueError: SEAL cannot realise the parameters.
    """
    if len(params.special_bits) != 1 and (params.special_bits or params.max_level):
        raise ValueError(f"SEAL uses exactly one special prime, not {len(params.special_bits)}")
    return with_primes(params, pyfhel_object(params, {"qi_sizes": [*params.data_bits, *params.special_bits]}).qi)


class Context:
    """Pyfhel's operations for some parameters that need no key.

    Attributes:
        params: As ``resolve`` returned them.
        pyfhel: The Pyfhel object of the whole chain. It holds no key until some are loaded into it. (Its key generator,
            which is never used, has its own secret, which no key or ciphertext was ever made with.)
    """

    def __init__(self, params: CKKSParams) -> None:
        self.params = params
        self.pyfhel = self._for_level(params.max_level)
        self._encoders = {params.max_level: self.pyfhel}

    def _for_level(self, level: int) -> Any:
        return pyfhel_object(self.params, {"qi": [*self.params.data_primes[: level + 1], *self.params.special_primes]})

    def encode(self, values: Values, level: int, scale: float, encoding: Encoding) -> Any:
        """A PyPtxt of contiguous, writable values (float64, or complex128 for complex slots).

        Pyfhel encodes at the highest level only. An object whose chain ends at ``level`` has that level as its highest;
        SEAL identifies levels by a hash of their primes, so the level is the same in both chains.

        Raises:
            ValueError: The values at this scale do not fit the modulus.
        """
        if level not in self._encoders:
            self._encoders[level] = self._for_level(level)
        encoder = self._encoders[level]
        encode = encoder.encodeComplex if encoding is Encoding.COMPLEX_SLOTS else encoder.encodeFrac
        return encode(values, scale=scale)

    def level(self, ciphertext: Any) -> int:
        """Rescales still possible for a PyCtxt of two polynomials."""
        return int(ciphertext.sizeof_ciphertext("none")) // (16 * self.params.ring_degree) - 1
