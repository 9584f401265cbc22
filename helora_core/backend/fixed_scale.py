"""Scales of any size on a library that has one for all its plaintexts.

Such a library encodes a value v as the integer v·u, where u is its *unit*. Given v·s/u instead, it makes the integer
v·s, which is v at the scale s; and nothing that it does to integers afterwards depends on what it takes their scale to
be. So the library is left to believe that everything has the scale u, and what the scale really is stands here, beside
the ciphertext: scales multiply, and a rescale divides by the prime that it drops, exactly as in a library that has
scales of its own. Where s/u is a power of two, which every scale of a plan is, nothing is rounded.

A plugin wraps its two roles in ``ScaledDecryptor`` and ``ScaledEvaluator``, and claims ``free_plaintext_scale``.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import (
    SLOTS,
    Ciphertext,
    CiphertextCodec,
    Decryptor,
    Evaluator,
    Plaintext,
    SupportsDot,
    SupportsHoisting,
    SupportsKeyExport,
    SupportsPublicKey,
    Values,
)
from helora_core.backend.values import check_scale
from helora_core.errors import CorruptPayload, ForeignCiphertext, LevelMismatch, PrecisionLost, ScaleMismatch
from helora_core.params.ckks import CKKSParams

_SCALE = struct.Struct("<d")

Role = TypeVar("Role", bound=CiphertextCodec)


@dataclass(frozen=True, eq=False)
class ScaledCiphertext:
    """A library's ciphertext, and the scale of its integers."""

    data: Ciphertext
    scale: float


@dataclass(frozen=True, eq=False)
class ScaledPlaintext:
    """A library's plaintext for ciphertexts at ``level``, and the scale of its integers."""

    data: Plaintext
    level: int
    scale: float


class _Scaled(Generic[Role]):
    """What both roles share.

    Args:
        role: The library's own, which takes and gives the scale ``unit`` only and never compares scales.
        params: As ``Backend.resolve`` returned them: rescales divide by their primes.
        unit: The library's one scale.
        who: The plugin, for errors.
    """

    def __init__(self, role: Role, params: CKKSParams, unit: float, *, who: str) -> None:
        self.key_id = role.key_id
        self._role = role
        self._params = params
        self._unit = unit
        self._who = who

    def level(self, ciphertext: ScaledCiphertext) -> int:
        """Rescales still possible."""
        return self._role.level(self._data(ciphertext))

    def scale(self, ciphertext: ScaledCiphertext) -> float:
        """Exact scale."""
        self._data(ciphertext)
        return ciphertext.scale

    def serialize(self, ciphertext: ScaledCiphertext) -> bytes:
        """The scale, as a little-endian double, and the library's bytes."""
        return _SCALE.pack(self.scale(ciphertext)) + self._role.serialize(ciphertext.data)

    def deserialize(self, payload: bytes) -> ScaledCiphertext:
        """Read what ``serialize`` wrote.

        Raises:
            CorruptPayload: The bytes are not a ciphertext of these parameters, or of no scale that one can have.
        """
        head = payload[: _SCALE.size]
        scale = _SCALE.unpack(head)[0] if len(head) == _SCALE.size else math.nan
        # Not even 1 at this scale would fit: no ciphertext of these parameters has it.
        if not 0 < scale < 2.0 ** min(self._params.data_modulus_bits, 1023):
            raise CorruptPayload(
                f"{self._who}: {len(payload)} bytes are not a ciphertext with its scale.", hint="Send it again."
            )
        return ScaledCiphertext(self._role.deserialize(payload[_SCALE.size :]), scale)

    def _data(self, ciphertext: ScaledCiphertext) -> Ciphertext:
        if not isinstance(ciphertext, ScaledCiphertext):
            raise ForeignCiphertext(
                f"{self._who}: this is no ciphertext of this backend.",
                hint="Use ciphertexts of the client whose evaluation keys this server holds.",
            )
        return ciphertext.data

    def _in_units(self, values: Values, scale: float, who: str) -> Values:
        """Values that are the same integers at the library's scale.

        Raises:
            InvalidInput: The scale is none.
            PrecisionLost: A finite value is beyond float64 at this scale.
        """
        check_scale(scale, who=f"{self._who} {who}")
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "fc":
            return values  # for the library's own check to refuse
        with np.errstate(over="ignore", invalid="ignore"):
            scaled: Values = values * (scale / self._unit)
        if not np.isfinite(scaled).all() and np.isfinite(values).all():
            raise PrecisionLost(
                f"{self._who} {who}: values at scale 2^{math.log2(scale):.1f} do not fit any modulus.",
                hint="Use smaller values or scales.",
            )
        return scaled


class ScaledDecryptor(_Scaled[Decryptor]):
    """The client's role: a ``Decryptor`` with scales, whose keys can be exported if the library's can."""

    def __init__(self, role: Decryptor, params: CKKSParams, unit: float, *, who: str) -> None:
        super().__init__(role, params, unit, who=who)
        if isinstance(role, SupportsKeyExport):
            self.export_keys = role.export_keys

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> ScaledCiphertext:
        """Encrypt at this scale; raises what the library's role does."""
        scaled = self._in_units(values, scale, "encrypt")
        return ScaledCiphertext(self._role.encrypt(scaled, scale=self._unit, encoding=encoding), scale)

    def decrypt(self, ciphertext: ScaledCiphertext, *, encoding: Encoding = SLOTS) -> Values:
        """Decrypt, at the ciphertext's own scale."""
        values: Values = self._role.decrypt(self._data(ciphertext), encoding=encoding)
        return values * (self._unit / ciphertext.scale)

    def evaluation_keys(self) -> bytes:
        """The library's."""
        return self._role.evaluation_keys()


class ScaledEvaluator(_Scaled[Evaluator]):
    """The server's role: an ``Evaluator`` with scales, and with those optional abilities that the library's has."""

    def __init__(self, role: Evaluator, params: CKKSParams, unit: float, *, who: str) -> None:
        super().__init__(role, params, unit, who=who)
        if isinstance(role, SupportsHoisting):
            self.rotate_many = functools.partial(self._rotate_many, role)
        if isinstance(role, SupportsDot):
            self.dot_plain = functools.partial(self._dot_plain, role)
        if isinstance(role, SupportsPublicKey):
            self.encrypt_public = functools.partial(self._encrypt_public, role)

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> ScaledPlaintext:
        """Encode at this scale; raises what the library's role does."""
        scaled = self._in_units(values, scale, "encode")
        data = self._role.encode(scaled, level=level, scale=self._unit, encoding=encoding)
        return ScaledPlaintext(data, level, scale)

    def add(self, left: ScaledCiphertext, right: ScaledCiphertext) -> ScaledCiphertext:
        """Sum."""
        return self._sum(self._role.add, left, right, "add")

    def sub(self, left: ScaledCiphertext, right: ScaledCiphertext) -> ScaledCiphertext:
        """Difference."""
        return self._sum(self._role.sub, left, right, "sub")

    def _sum(
        self,
        operation: Callable[[Ciphertext, Ciphertext], Ciphertext],
        left: ScaledCiphertext,
        right: ScaledCiphertext,
        who: str,
    ) -> ScaledCiphertext:
        self._same_level(self.level(left), self.level(right), who)
        self._same_scale(left.scale, right.scale, who)
        return ScaledCiphertext(operation(left.data, right.data), left.scale)

    def negate(self, ciphertext: ScaledCiphertext) -> ScaledCiphertext:
        """Negative."""
        return ScaledCiphertext(self._role.negate(self._data(ciphertext)), ciphertext.scale)

    def add_plain(self, ciphertext: ScaledCiphertext, plaintext: ScaledPlaintext) -> ScaledCiphertext:
        """Sum with a plaintext of the same level and scale."""
        self._check_plaintext(ciphertext, plaintext, "add_plain")
        self._same_scale(self.scale(ciphertext), plaintext.scale, "add_plain")
        return ScaledCiphertext(self._role.add_plain(ciphertext.data, plaintext.data), ciphertext.scale)

    def multiply_plain(self, ciphertext: ScaledCiphertext, plaintext: ScaledPlaintext) -> ScaledCiphertext:
        """Product with a plaintext of the same level; scales multiply."""
        scale = self._product_scale(ciphertext, plaintext, "multiply_plain")
        return ScaledCiphertext(self._role.multiply_plain(ciphertext.data, plaintext.data), scale)

    def rotate(self, ciphertext: ScaledCiphertext, steps: int) -> ScaledCiphertext:
        """Rotate left."""
        return ScaledCiphertext(self._role.rotate(self._data(ciphertext), steps), ciphertext.scale)

    def rescale(self, ciphertext: ScaledCiphertext) -> ScaledCiphertext:
        """Divide by the last prime, and the scale with it."""
        level = self.level(ciphertext)
        data = self._role.rescale(ciphertext.data)
        return ScaledCiphertext(data, ciphertext.scale / self._params.data_primes[level])

    def _rotate_many(
        self, role: SupportsHoisting, ciphertext: ScaledCiphertext, steps: Sequence[int]
    ) -> list[ScaledCiphertext]:
        rotated = role.rotate_many(self._data(ciphertext), steps)
        return [ScaledCiphertext(each, ciphertext.scale) for each in rotated]

    def _dot_plain(
        self, role: SupportsDot, ciphertexts: Sequence[ScaledCiphertext], plaintexts: Sequence[ScaledPlaintext]
    ) -> ScaledCiphertext:
        pairs = list(zip(ciphertexts, plaintexts, strict=True))
        first, *others = [self._product_scale(*pair, "dot_plain") for pair in pairs]
        for pair, other in zip(pairs[1:], others, strict=True):
            self._same_level(self.level(pairs[0][0]), self.level(pair[0]), "dot_plain")
            self._same_scale(first, other, "dot_plain")
        data = role.dot_plain([each.data for each, _ in pairs], [each.data for _, each in pairs])
        return ScaledCiphertext(data, first)

    def _encrypt_public(
        self, role: SupportsPublicKey, values: Values, *, scale: float, encoding: Encoding = SLOTS
    ) -> ScaledCiphertext:
        scaled = self._in_units(values, scale, "encrypt_public")
        return ScaledCiphertext(role.encrypt_public(scaled, scale=self._unit, encoding=encoding), scale)

    def _product_scale(self, ciphertext: ScaledCiphertext, plaintext: ScaledPlaintext, who: str) -> float:
        self._check_plaintext(ciphertext, plaintext, who)
        scale = ciphertext.scale * plaintext.scale
        if scale >= math.prod(self._params.data_primes[: plaintext.level + 1]):
            raise PrecisionLost(
                f"{self._who}: a product of scales 2^{math.log2(ciphertext.scale):.1f} and "
                f"2^{math.log2(plaintext.scale):.1f} does not fit the modulus of level {plaintext.level}.",
                hint="Rescale first, or use smaller scales.",
            )
        return scale

    def _check_plaintext(self, ciphertext: ScaledCiphertext, plaintext: ScaledPlaintext, who: str) -> None:
        level = self.level(ciphertext)
        if not isinstance(plaintext, ScaledPlaintext):
            raise ForeignCiphertext(
                f"{self._who}: this is no plaintext of this backend.", hint="Use what this evaluator's encode returned."
            )
        self._same_level(level, plaintext.level, who)

    def _same_level(self, left: int, right: int, who: str) -> None:
        if left != right:
            raise LevelMismatch(
                f"{self._who}: {who} of operands at levels {left} and {right}.",
                hint="Encode plaintexts at the ciphertext's level, and rescale both operands equally often.",
            )

    def _same_scale(self, left: float, right: float, who: str) -> None:
        if left != right:
            raise ScaleMismatch(
                f"{self._who}: {who} of operands with scales 2^{math.log2(left):.6f} and 2^{math.log2(right):.6f}.",
                hint="Bring both operands through the same multiplications and rescales.",
            )
