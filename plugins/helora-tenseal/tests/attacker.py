"""A curious client: what the holder of the secret key can compute from SEAL's polynomials, which she sees on both ends.

SEAL keeps ciphertexts of CKKS in NTT form: a product with a plaintext is one product modulo a prime for each residue,
and so is the division that undoes it. The residues of a factor are read as SEAL's own plaintext and decoded by SEAL.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import tenseal.sealapi as seal
from numpy.typing import NDArray

from helora_core.params.ckks import CKKSParams
from helora_tenseal.context import Context
from helora_tenseal.seal_bytes import load, saved

Residues = NDArray[np.object_]
"""Python integers, shape (primes, N): a polynomial in NTT form."""

_HEADER = struct.Struct("<HBBBBHQ")
"""Magic number, its own size, version, compression, nothing, and the size of everything."""
_UNCOMPRESSED = 0


def polynomial(ciphertext: Any, which: int, primes: int) -> Residues:
    """c₀ or c₁ of a SEAL ciphertext."""
    degree = ciphertext.poly_modulus_degree()
    words = ciphertext.dyn_array()
    first = which * primes * degree
    return np.array([words[i] for i in range(first, first + primes * degree)], dtype=object).reshape(primes, degree)


def quotient(result: Residues, sent: Residues, params: CKKSParams) -> Residues:
    """What ``sent`` was multiplied by, if ``result`` is a product with it; noise modulo the primes otherwise."""
    rows = zip(result, sent, params.data_primes, strict=False)
    return np.array(
        [[int(a) * pow(int(b), -1, q) % q for a, b in zip(over, under, strict=True)] for over, under, q in rows],
        dtype=object,
    )


def residues(plaintext: Any, primes: int, degree: int) -> Residues:
    """An encoded SEAL plaintext's."""
    return np.array([plaintext[i] for i in range(primes * degree)], dtype=object).reshape(primes, degree)


def decoded(polynomial: Residues, context: Context, scale: float) -> NDArray[np.float64]:
    """The real slots of a polynomial in NTT form, by SEAL's own decoder."""
    level = len(polynomial) - 1
    words = np.array(polynomial.ravel(), dtype=np.uint64)
    version = saved(_any_plaintext(context).save)[3:5]
    data = struct.pack("<Q", words.size) + words.tobytes()
    body = (
        struct.pack("<4Q", *context.parms_ids[level]) + struct.pack("<Qd", words.size, scale) + _framed(data, version)
    )
    plaintext = seal.Plaintext()
    load(_framed(body, version), lambda path: plaintext.load(context.seal, path))
    return np.array(context.encoder.decode_double(plaintext))


def _any_plaintext(context: Context) -> Any:
    plaintext = seal.Plaintext()
    context.encoder.encode(1.0, context.parms_ids[0], 1024.0, plaintext)
    return plaintext


def _framed(body: bytes, version: bytes) -> bytes:
    return _HEADER.pack(0xA15E, _HEADER.size, *version, _UNCOMPRESSED, 0, _HEADER.size + len(body)) + body
