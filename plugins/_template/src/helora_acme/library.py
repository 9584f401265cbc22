"""Every call of the library, one per method. So far they emulate: nothing is encrypted.

The marks stand where calls of the library belong, numbered in the recommended order. Arguments and results are the
library's own objects, and no other code looks inside them. Core refuses bad input before it gets here, and turns
exceptions raised here on bad bytes into refusals.
"""

from __future__ import annotations

import math
import secrets
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.primes import distinct_ntt_primes
from helora_core.backend.protocol import Values
from helora_core.params import noise
from helora_core.params.ckks import CKKSParams

# FILL IN 11: claim what else the library can do; the laws about it then run
CAPABILITIES = Capabilities(encodings=frozenset({Encoding.SLOTS}))


def primes(params: CKKSParams) -> tuple[int, ...]:
    """The primes that the library really uses: data primes, base first, then the special ones.

    Raises:
        ValueError: The library cannot realise the parameters.
    """
    # FILL IN 2: the primes that the library takes, asked of the library
    return distinct_ntt_primes(params.data_bits + params.special_bits, params.ring_degree)


class Library:
    """The library at certain parameters. It holds no key: keys are arguments."""

    def __init__(self, params: CKKSParams) -> None:
        # FILL IN 3: the library's context and encoder for params.ring_degree and the primes above
        self._params = params
        self._rng = np.random.default_rng()

    def secret_key(self) -> Any:
        """A fresh secret key."""
        return secrets.token_bytes(32)  # FILL IN 3: the library's secret key

    def encode(self, values: Values, encoding: Encoding, level: int, scale: float) -> Any:
        """A plaintext for ciphertexts at ``level``. Missing values are zeros."""
        # FILL IN 4: the library's encoder
        slots = np.zeros(self._params.slots)
        slots[: values.size] = values
        plaintext = _Emulated(slots, level, scale)
        return self._noisy(plaintext, noise.slot_encoding_std(self._params.ring_degree))

    def decode(self, plaintext: Any, encoding: Encoding) -> Values:
        """All N/2 slots, as float64."""
        return np.array(plaintext.slots)  # FILL IN 4: the library's decoder, all slots of it

    def encrypt(self, secret_key: Any, plaintext: Any) -> Any:
        """A ciphertext of the plaintext's level and scale, with fresh randomness."""
        # FILL IN 5: the library's encryption, with the secret key where it can, else with a public key made of it
        return self._noisy(plaintext, noise.encryption_std(self._params.ring_degree))

    def decrypt(self, secret_key: Any, ciphertext: Any) -> Any:
        """A plaintext."""
        return ciphertext  # FILL IN 5: the library's decryption

    def level(self, ciphertext: Any) -> int:
        """Rescales still possible, from what the library says."""
        return int(ciphertext.level)  # FILL IN 6: the library's level; some count from the other end

    def scale(self, ciphertext: Any) -> float:
        """The exact scale, as the library tracks it."""
        return float(ciphertext.scale)  # FILL IN 6: the library's scale, not its logarithm

    def to_bytes(self, ciphertext: Any) -> bytes:
        """Bytes of a ciphertext, level and scale included."""
        # FILL IN 6: the library's serialisation
        slots: bytes = ciphertext.slots.astype("<f8").tobytes()
        return _HEADER.pack(ciphertext.level, ciphertext.scale) + slots

    def from_bytes(self, payload: bytes) -> Any:
        """A ciphertext of these parameters. Other bytes may raise any exception, but must not crash the process."""
        # FILL IN 6: the library's deserialisation
        if len(payload) != _HEADER.size + 8 * self._params.slots:
            raise ValueError(f"{len(payload)} bytes")
        level, scale = _HEADER.unpack_from(payload)
        slots = np.frombuffer(payload, "<f8", offset=_HEADER.size)
        if not np.isfinite(slots).all():
            raise ValueError("slots are not finite")
        return _Emulated(slots, level, scale)

    def add(self, left: Any, right: Any) -> Any:
        """Sum. Here and below, operands have the same level and scale where they must, and must not be changed."""
        return _Emulated(left.slots + right.slots, left.level, left.scale)  # FILL IN 7: the library's sum

    def sub(self, left: Any, right: Any) -> Any:
        """Difference."""
        return _Emulated(left.slots - right.slots, left.level, left.scale)  # FILL IN 7: the library's difference

    def negate(self, ciphertext: Any) -> Any:
        """Negative."""
        return _Emulated(-ciphertext.slots, ciphertext.level, ciphertext.scale)  # FILL IN 7: the library's negative

    def add_plain(self, ciphertext: Any, plaintext: Any) -> Any:
        """Sum with a plaintext."""
        return self.add(ciphertext, plaintext)  # FILL IN 7: the library's sum with a plaintext

    def multiply_plain(self, ciphertext: Any, plaintext: Any) -> Any:
        """Product with a plaintext: scales multiply, the level stays."""
        # FILL IN 8: the library's product, without a rescale; a plaintext of zeros is no exception
        scale = ciphertext.scale * plaintext.scale
        return _Emulated(ciphertext.slots * plaintext.slots, ciphertext.level, scale)

    def rescale(self, ciphertext: Any) -> Any:
        """One level less, the scale divided by the level's prime."""
        # FILL IN 9: the library's rescale
        scale = ciphertext.scale / self._params.data_primes[ciphertext.level]
        rescaled = _Emulated(ciphertext.slots, ciphertext.level - 1, scale)
        return self._noisy(rescaled, noise.rescale_std(self._params.ring_degree))

    def rotation_key(self, secret_key: Any, steps: int) -> bytes:
        """Bytes of the key for a rotation to the left by exactly ``steps``, 1 to N/2 - 1."""
        return secrets.token_bytes(32)  # FILL IN 10: the library's key for this step alone

    def read_rotation_key(self, payload: bytes) -> Any:
        """The key that ``rotation_key`` wrote. Other bytes may raise any exception."""
        return payload  # FILL IN 10: the library's key from its bytes

    def rotate(self, ciphertext: Any, steps: int, rotation_key: Any) -> Any:
        """Move slot i + steps to slot i."""
        # FILL IN 10: the library's rotation to the left, with one key switch
        rotated = _Emulated(np.roll(ciphertext.slots, -steps), ciphertext.level, ciphertext.scale)
        bits, special_bits = self._params.data_bits[: ciphertext.level + 1], sum(self._params.special_bits)
        std = noise.keyswitch_std(self._params.ring_degree, bits, special_bits or max(bits))
        rounding = noise.rescale_std(self._params.ring_degree)
        # Half of the digits' noise in most slots: three quarters of its square are in the few where their mean is large.
        return self._noisy(rotated, math.hypot(math.sqrt(std**2 - rounding**2) / 2, rounding))

    def _noisy(self, emulated: _Emulated, std: float) -> _Emulated:
        slots = emulated.slots + self._rng.normal(0.0, std / emulated.scale, emulated.slots.size)
        return _Emulated(slots, emulated.level, emulated.scale)


# The rest belongs to the emulation; delete it when nothing uses it any more.

_HEADER = struct.Struct("<id")


@dataclass(frozen=True, eq=False)
class _Emulated:
    """A plaintext or a "ciphertext": its slots in the clear."""

    slots: Values
    level: int
    scale: float
