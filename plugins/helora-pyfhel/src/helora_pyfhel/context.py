"""Pyfhel objects: SEAL's parameters, levels and encoders. Nothing else here imports the library.

Pyfhel tracks levels in ``mod_level``, which ``multiply_plain`` raises and ``rescale_to_next`` does not, and does not
serialise it. The truth is in SEAL's ciphertext, whose size Pyfhel tells: 16·N bytes for each prime left, and a header.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from typing import Any

import msgspec

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Values
from helora_core.errors import BackendUnavailable, InvalidParameters
from helora_core.params.ckks import CKKSParams

WHO = "helora-pyfhel"


@functools.cache
def library() -> Any:
    """The module ``Pyfhel``, imported when first asked for.

    Raises:
        BackendUnavailable: It is missing or does not load.
    """
    try:
        return importlib.import_module("Pyfhel")
    except Exception as error:  # a shared object that does not load may raise anything
        raise BackendUnavailable(
            f"{WHO}: the library Pyfhel cannot be imported ({type(error).__name__}: {error}).",
            hint="Install it again for this Python and NumPy: pip install --force-reinstall 'helora-pyfhel[native]'.",
        ) from error


@functools.cache
def _keyless_class() -> Any:
    """A class of Pyfhel objects that refuse to decrypt.

    With a public key and no secret one, Pyfhel's own follow a null pointer, and the process dies.
    """

    def refuse(pyfhel: object, *args: object, **options: object) -> object:
        raise RuntimeError("there is no secret key")

    base = library().Pyfhel
    return type("KeylessPyfhel", (base,), {name: refuse for name in dir(base) if name.startswith("decrypt")})


def pyfhel_object(params: CKKSParams, chain: dict[str, list[int]], *, keyed: bool = False) -> Any:
    """A Pyfhel object for a chain of primes, given as ``qi`` (the primes) or ``qi_sizes`` (their bit lengths).

    One that is not ``keyed`` must not be given a secret key, and could not decrypt with it.

    Security is judged by the core on resolved parameters before keys are made; ``sec=0`` turns SEAL's check of the 2018
    table off. The default scale is never used, but Pyfhel warns of one that is not a prime's, and of any if there is
    only one prime.

    Raises:
        InvalidParameters: SEAL cannot realise them.
    """
    pyfhel = library().Pyfhel() if keyed else _keyless_class()()
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
        raise InvalidParameters(
            f"{WHO}: SEAL cannot realise primes of {[*params.data_bits, *params.special_bits]} bits at ring degree "
            f"{params.ring_degree} ({status}).",
            hint="Use fewer primes of one length, or longer ones, as choose_params does.",
        )
    return pyfhel


@functools.lru_cache(maxsize=64)
def resolve(params: CKKSParams) -> CKKSParams:
    """Fill in the primes that SEAL chooses.

    Raises:
        InvalidParameters: SEAL cannot realise the parameters.
    """
    if len(params.special_bits) != 1 and (params.special_bits or params.max_level):
        raise InvalidParameters(
            f"{WHO}: SEAL uses exactly one special prime, not {len(params.special_bits)}.",
            hint="Give one entry in special_bits; only a chain of a single data prime can do without.",
        )
    primes = tuple(pyfhel_object(params, {"qi_sizes": [*params.data_bits, *params.special_bits]}).qi)
    data = len(params.data_bits)
    return msgspec.structs.replace(params, data_primes=primes[:data], special_primes=primes[data:])


class Context:
    """What Pyfhel can do for some parameters without a key.

    Attributes:
        params: The resolved parameters; those given are resolved if need be.
        pyfhel: The Pyfhel object of the whole chain. It holds no key until some are loaded into it. (Its key generator,
            which nobody uses, has a secret of its own that no key or ciphertext was ever made with.)
    """

    def __init__(self, params: CKKSParams) -> None:
        self.params = params if params.data_primes else resolve(params)
        self.pyfhel = self._for_level(params.max_level)
        self._encoders = {params.max_level: self.pyfhel}

    def _for_level(self, level: int) -> Any:
        return pyfhel_object(self.params, {"qi": [*self.params.data_primes[: level + 1], *self.params.special_primes]})

    def encode(self, values: Values, level: int, scale: float, encoding: Encoding) -> Any:
        """A PyPtxt of contiguous, writable values (float64, or complex128 for complex slots).

        Pyfhel encodes at the highest level only. An object whose chain ends at ``level`` has that level as its highest;
        SEAL knows levels by a hash of their primes, so that both chains mean the same by it.

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

    def copied(self, ciphertext: Any) -> Any:
        """A copy, for operations to alter: Pyfhel's own out-of-place forms copy as well."""
        return library().PyCtxt(copy_ctxt=ciphertext)

    def read(self, payload: bytes) -> Any:
        """The PyCtxt of these bytes; raises what SEAL and Cython make of bytes that are none."""
        return library().PyCtxt(pyfhel=self.pyfhel, bytestring=payload)
