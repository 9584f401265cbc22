"""A library's roles with core's checks before every call. Sessions never hold a role without them.

Core tracks levels and scales itself: those of a result follow from those of its operands, so that no check has to ask
the library. ``level`` and ``scale`` do ask the library, if it tracks them, and the kit compares its answers with core's
records. Under automatic rescaling core keeps no records, and operands of any level and scale may be combined.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from helora_core.backend import checks
from helora_core.backend.capabilities import Capabilities, Encoding, RescaleMode
from helora_core.backend.handles import Ciphertext, Family, Plaintext
from helora_core.backend.protocol import (
    SLOTS,
    CiphertextCodec,
    Decryptor,
    Encoder,
    SupportsKeyExport,
    SupportsMany,
    Values,
)
from helora_core.backend.short_results import ALL_KEPT, LowBits, SupportsShortResults
from helora_core.backend.values import check_encoding
from helora_core.errors import CapabilityMissing, CorruptPayload, PrecisionLost
from helora_core.params.ckks import CKKSParams

_SCALE = struct.Struct("<d")


class CheckedEncoder:
    """An ``Encoder`` that refuses values that cannot be encoded.

    Args:
        library: The library's encoder.
        params: The resolved parameters.
        capabilities: The backend's capabilities.
        family: The family of its plaintexts.
        unit: The library's only scale, if core is to track other scales beside it (see ``HasUnit``); otherwise None.
    """

    def __init__(
        self, library: Encoder, params: CKKSParams, capabilities: Capabilities, family: Family, unit: float | None
    ) -> None:
        self.params = params
        self.capabilities = capabilities
        self.family = family
        self.who = family[1]
        self.unit = unit
        self._library = library

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
        """A plaintext for ciphertexts at ``level``; raises what ``checks.check_encodable`` does."""
        values, library_scale = self.library_values(values, level, scale, encoding, "encode")
        data = self._library.encode(values, level=level, scale=library_scale, encoding=encoding)
        return Plaintext(data, level, scale, self.family)

    def library_values(
        self, values: Values, level: int, scale: float, encoding: Encoding, what: str
    ) -> tuple[Values, float]:
        """The values and scale to give to the library. One with a unit gets the same integers at its only scale."""
        who = f"{self.who} {what}"
        checks.check_encodable(values, level, scale, encoding, self.params, self.capabilities, who=who)
        if self.unit is None:
            return values, scale
        with np.errstate(over="ignore", invalid="ignore"):
            scaled: Values = values * (scale / self.unit)
        if not np.isfinite(scaled).all():
            raise PrecisionLost(
                f"{who}: values at scale 2^{math.log2(scale):.1f} do not fit any modulus.",
                hint="Use smaller values or scales.",
            )
        return scaled, self.unit


class CheckedRole:
    """The base of both roles."""

    def __init__(self, library: CiphertextCodec, encoder: CheckedEncoder) -> None:
        self.key_id = library.key_id
        self.encoder = encoder
        self.params = encoder.params
        self.who = encoder.who
        self._unit = encoder.unit
        self._explicit = encoder.capabilities.rescale is RescaleMode.EXPLICIT
        self._codec = library
        self._short = library if isinstance(library, SupportsShortResults) else None

    def level(self, ciphertext: Ciphertext) -> int:
        """Rescales still possible, as the library tracks it."""
        return self._codec.level(self._own(ciphertext, "level"))

    def scale(self, ciphertext: Ciphertext) -> float:
        """Exact scale, as the library tracks it, or as core does if the library has one scale for everything."""
        data = self._own(ciphertext, "scale")
        return self._codec.scale(data) if self._unit is None else ciphertext.scale

    def low_bits(self, ciphertext: Ciphertext) -> LowBits:
        """Low bits that its two polynomials have lost; none if the library keeps them all."""
        data = self._own(ciphertext, "low_bits")
        return ALL_KEPT if self._short is None else self._short.low_bits(data)

    def serialize(self, ciphertext: Ciphertext) -> bytes:
        """The library's bytes, preceded by the scale, a little-endian double, if the library does not track it."""
        payload = self._codec.serialize(self._own(ciphertext, "serialize"))
        return payload if self._unit is None else _SCALE.pack(ciphertext.scale) + payload

    def deserialize(self, payload: bytes) -> Ciphertext:
        """Read what ``serialize`` wrote.

        Raises:
            CorruptPayload: The bytes are not a ciphertext of these parameters.
        """
        scale = math.nan
        if self._unit is not None:
            if len(payload) < _SCALE.size:
                raise CorruptPayload(
                    f"{self.who}: {len(payload)} bytes are not a ciphertext with its scale.", hint="Send it again."
                )
            (scale,) = _SCALE.unpack_from(payload)
            payload = payload[_SCALE.size :]
        data = checks.read(functools.partial(self._codec.deserialize, payload), "a ciphertext", who=self.who)
        level = checks.read(functools.partial(self._codec.level, data), "a ciphertext", who=self.who)
        scale = self._codec.scale(data) if self._unit is None else scale
        if self._explicit:
            checks.check_read(level, scale, self.params, who=self.who)
        return Ciphertext(data, self.key_id, level, scale)

    def _own(self, ciphertext: Ciphertext, what: str) -> Any:
        """The library's object, after checking that it belongs to these keys."""
        if ciphertext.__class__ is not Ciphertext or ciphertext.key_id != self.key_id:
            checks.foreign(f"{self.who} {what}")
        return ciphertext.data


class CheckedDecryptor(CheckedRole):
    """The client's role."""

    def __init__(self, library: Decryptor, encoder: CheckedEncoder) -> None:
        super().__init__(library, encoder)
        self._library = library
        self.evaluation_keys = library.evaluation_keys

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        """Encrypt at the highest level; raises what ``CheckedEncoder.encode`` does."""
        level = self.params.max_level
        values, library_scale = self.encoder.library_values(values, level, scale, encoding, "encrypt")
        return self._fresh(self._library.encrypt(values, scale=library_scale, encoding=encoding), scale)

    def encrypt_many(self, many: Sequence[Values], *, scale: float, encoding: Encoding = SLOTS) -> list[Ciphertext]:
        """Encrypt each vector as ``encrypt`` does, all in one call if the library can."""
        if not isinstance(self._library, SupportsMany):
            return [self.encrypt(values, scale=scale, encoding=encoding) for values in many]
        level = self.params.max_level
        taken = [self.encoder.library_values(values, level, scale, encoding, "encrypt_many") for values in many]
        if not taken:
            return []
        made = self._library.encrypt_many([values for values, _ in taken], scale=taken[0][1], encoding=encoding)
        return [self._fresh(data, scale) for data in made]

    def _fresh(self, data: object, scale: float) -> Ciphertext:
        return Ciphertext(data, self.key_id, self.params.max_level, scale)

    def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding = SLOTS) -> Values:
        """Decrypt to all places of the encoding.

        Raises:
            ForeignCiphertext: It was made with other keys.
            CapabilityMissing: The backend itself does not have this encoding.
        """
        data = self._own(ciphertext, "decrypt")
        check_encoding(encoding, self.encoder.capabilities, who=f"{self.who} decrypt")
        return self._at_scale(self._library.decrypt(data, encoding=encoding), ciphertext)

    def decrypt_many(self, ciphertexts: Sequence[Ciphertext], *, encoding: Encoding = SLOTS) -> list[Values]:
        """Decrypt each ciphertext as ``decrypt`` does, all in one call if the library can."""
        if not isinstance(self._library, SupportsMany):
            return [self.decrypt(ciphertext, encoding=encoding) for ciphertext in ciphertexts]
        many = [self._own(ciphertext, "decrypt_many") for ciphertext in ciphertexts]
        check_encoding(encoding, self.encoder.capabilities, who=f"{self.who} decrypt_many")
        read = self._library.decrypt_many(many, encoding=encoding)
        return [self._at_scale(values, ciphertext) for values, ciphertext in zip(read, ciphertexts, strict=True)]

    def _at_scale(self, values: Values, ciphertext: Ciphertext) -> Values:
        return values if self._unit is None else values * (self._unit / ciphertext.scale)

    def export_keys(self) -> bytes:
        """The keys in the clear, for core to encrypt immediately.

        Raises:
            CapabilityMissing: The backend cannot export keys.
        """
        if not isinstance(self._library, SupportsKeyExport):
            raise CapabilityMissing(
                "ClientSession.export_keys: this backend cannot export its keys.",
                hint="Keep the process, or use a backend that can (numpy, tenseal, pyfhel, openfhe).",
            )
        return self._library.export_keys()
