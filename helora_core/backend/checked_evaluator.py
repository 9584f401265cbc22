"""A library's evaluator with core's checks before every operation; see ``helora_core.backend.checked``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from helora_core.backend import checks
from helora_core.backend.capabilities import Encoding
from helora_core.backend.checked import CheckedEncoder, CheckedRole
from helora_core.backend.handles import Ciphertext, Plaintext
from helora_core.backend.ntt import Residues
from helora_core.backend.protocol import (
    SLOTS,
    Evaluator,
    Sanitizing,
    SupportsDot,
    SupportsHoisting,
    SupportsPreparedZeros,
    SupportsPublicKey,
    SupportsSanitize,
    Values,
)
from helora_core.backend.short_results import (
    ALL_KEPT,
    LowBits,
    SupportsShortening,
    check_low_bits,
    check_shortenable,
)


class CheckedEvaluator(CheckedRole):
    """The server's role.

    Attributes:
        hoists: Whether the library rotates by many steps at once.
        fuses: Whether the library adds up products itself.
        sanitizes: Whether the library sanitises itself.
        shortens: Whether the library drops low bits.
        steps: The rotation steps that it has keys for.
        library: The library's own evaluator, without checks, for programs that have been checked as a whole.
    """

    def __init__(self, library: Evaluator, encoder: CheckedEncoder) -> None:
        super().__init__(library, encoder)
        self.library = library
        self._family = encoder.family
        self._slots = self.params.slots
        self.steps = frozenset(library.rotation_steps)
        # If the library has one scale and no unit, a prime counts as its nominal power of two.
        nominal = (2.0**self.params.scale_bits,) * len(self.params.data_bits)
        self._divisors = self.params.data_primes if encoder.capabilities.free_plaintext_scale else nominal
        self._largest = checks.largest_scales(self.params)
        self.hoists = isinstance(library, SupportsHoisting)
        self.fuses = isinstance(library, SupportsDot)
        self.sanitizes = isinstance(library, SupportsSanitize) and encoder.capabilities.sanitizing
        self.shortens = isinstance(library, SupportsShortening) and encoder.capabilities.short_results

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        """Encrypt with the public key at the highest level; raises what ``CheckedDecryptor.encrypt`` does.

        Raises:
            CapabilityMissing: The backend or its keys have no public key.
        """
        library = self._with_public_key("encrypt_public")
        level = self.params.max_level
        values, library_scale = self.encoder.library_values(values, level, scale, encoding, "encrypt_public")
        data = library.encrypt_public(values, scale=library_scale, encoding=encoding)
        return Ciphertext(data, self.key_id, level, scale)

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Sum.

        Raises:
            ScaleMismatch, LevelMismatch, ForeignCiphertext: The operands cannot be combined.
        """
        self._check_pair(left, right, "add")
        return Ciphertext(self.library.add(left.data, right.data), self.key_id, left.level, left.scale)

    def sub(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Difference; raises what ``add`` does."""
        self._check_pair(left, right, "sub")
        return Ciphertext(self.library.sub(left.data, right.data), self.key_id, left.level, left.scale)

    def negate(self, ciphertext: Ciphertext) -> Ciphertext:
        """Negative.

        Raises:
            ForeignCiphertext: It was made with other keys.
        """
        data = self.library.negate(self._own(ciphertext, "negate"))
        return Ciphertext(data, self.key_id, ciphertext.level, ciphertext.scale)

    def add_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Sum with a plaintext; raises what ``add`` does."""
        self._check_plain(ciphertext, plaintext, "add_plain")
        if ciphertext.scale != plaintext.scale and self._explicit:
            self._unlike(ciphertext, plaintext, "add_plain")
        data = self.library.add_plain(ciphertext.data, plaintext.data)
        return Ciphertext(data, self.key_id, ciphertext.level, ciphertext.scale)

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Product with a plaintext; scales multiply, the level stays.

        Raises:
            LevelMismatch, ForeignCiphertext: The operands cannot be combined.
            PrecisionLost: The product's scale does not fit the modulus.
        """
        scale = self._product_scale(ciphertext, plaintext, "multiply_plain")
        data = self.library.multiply_plain(ciphertext.data, plaintext.data)
        return Ciphertext(data, self.key_id, ciphertext.level, scale)

    def dot_plain(self, ciphertexts: Sequence[Ciphertext], plaintexts: Sequence[Plaintext]) -> Ciphertext:
        """Σ ciphertexts[i] · plaintexts[i], for evaluators that fuse; raises what products and sums do."""
        first = ciphertexts[0]
        scale = self._product_scale(first, plaintexts[0], "dot_plain")
        for ciphertext, plaintext in zip(ciphertexts, plaintexts, strict=True):
            other = self._product_scale(ciphertext, plaintext, "dot_plain")
            if self._explicit and (other != scale or ciphertext.level != first.level):
                checks.unlike(f"{self.who}: dot_plain", (first.level, ciphertext.level), (scale, other))
        many = [each.data for each in ciphertexts]
        data = self.library.dot_plain(many, [each.data for each in plaintexts])  # type: ignore[attr-defined]
        return Ciphertext(data, self.key_id, first.level, scale)

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        """Rotate left by ``steps``, modulo the number of slots; for 0 the library is not called.

        Raises:
            MissingRotationKey: No key was made for exactly this step.
            ForeignCiphertext: It was made with other keys.
        """
        data = self._own(ciphertext, "rotate")
        steps %= self._slots
        if steps == 0:
            return ciphertext
        if steps not in self.steps:
            checks.no_rotation_key(self.who, steps)
        return Ciphertext(self.library.rotate(data, steps), self.key_id, ciphertext.level, ciphertext.scale)

    def rotate_many(self, ciphertext: Ciphertext, steps: Sequence[int]) -> list[Ciphertext]:
        """``[rotate(ciphertext, step) for step in steps]``, cheaper where the library hoists."""
        if not self.hoists:
            return [self.rotate(ciphertext, step) for step in steps]
        data = self._own(ciphertext, "rotate_many")
        taken = [step % self._slots for step in steps]
        moving = [step for step in taken if step]
        for step in moving:
            if step not in self.steps:
                checks.no_rotation_key(self.who, step)
        if not moving:
            return [ciphertext] * len(taken)
        rotated = iter(self.library.rotate_many(data, moving))  # type: ignore[attr-defined]
        key_id, level, scale = self.key_id, ciphertext.level, ciphertext.scale
        return [Ciphertext(next(rotated), key_id, level, scale) if step else ciphertext for step in taken]

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        """Divide by the last prime, which lowers the level by one and divides the scale by that prime.

        Raises:
            LevelExhausted: The ciphertext is at level 0.
            ForeignCiphertext: It was made with other keys.
        """
        data = self._own(ciphertext, "rescale")
        if not self._explicit:
            return Ciphertext(self.library.rescale(data), self.key_id, ciphertext.level, ciphertext.scale)
        level = ciphertext.level
        if level == 0:
            checks.no_level_left(self.who)
        return Ciphertext(self.library.rescale(data), self.key_id, level - 1, ciphertext.scale / self._divisors[level])

    def sanitize_many(self, ciphertexts: Sequence[Ciphertext], how: Sequence[Sanitizing]) -> list[Ciphertext]:
        """Sanitise by the library's own operation; only if it ``sanitizes``.

        Raises:
            CapabilityMissing: The keys have no public key.
            ForeignCiphertext: A ciphertext was made with other keys.
        """
        self._with_public_key("sanitize")
        many = [self._own(each, "sanitize") for each in ciphertexts]
        made = self.library.sanitize_many(many, how)  # type: ignore[attr-defined]
        clean = []
        for data, before, asked in zip(made, ciphertexts, how, strict=True):
            level, scale = before.level - asked.dropped, before.scale
            if level < 0:
                checks.no_level_left(f"{self.who} sanitize")
            for divisor in self._divisors[before.level : level : -1]:
                scale /= divisor
            clean.append(Ciphertext(data, self.key_id, level, scale))
        return clean

    def shortened(self, ciphertext: Ciphertext, low_bits: LowBits) -> Ciphertext:
        """A clean result without so many low bits of its two polynomials; as it is if the library keeps them all.

        Raises:
            InvalidInput: It is not at level 0, or its base prime has no more bits than that.
            ForeignCiphertext: It was made with other keys.
        """
        data = self._own(ciphertext, "shortened")
        if not self.shortens or low_bits == ALL_KEPT:
            return ciphertext
        check_shortenable(ciphertext.level, low_bits, self.params, who=f"{self.who} shortened")
        shorter = self.library.shortened(data, low_bits)  # type: ignore[attr-defined]
        return Ciphertext(shorter, self.key_id, ciphertext.level, ciphertext.scale)

    def deserialize(self, payload: bytes) -> Ciphertext:
        """Read what a client's ``serialize`` wrote.

        Raises:
            CorruptPayload: The bytes are not a ciphertext of these parameters, or one that lost bits.
        """
        ciphertext = super().deserialize(payload)
        check_low_bits(self.low_bits(ciphertext), ALL_KEPT, who=self.who)
        return ciphertext

    def uniform_mask(self, ciphertext: Ciphertext) -> tuple[Ciphertext, Residues]:
        """Mask by the library's own operation; raises what ``sanitize_many`` does."""
        self._with_public_key("uniform_mask")
        own = self._own(ciphertext, "uniform_mask")
        data, added = self.library.uniform_mask(own)  # type: ignore[attr-defined]
        return Ciphertext(data, self.key_id, ciphertext.level, ciphertext.scale), added

    def prepare_zeros(self, level: int, count: int) -> int:
        """Encrypt zeros ahead of time; returns how many are ready, which is none if the library cannot.

        Raises:
            LevelExhausted: There is no such level.
            CapabilityMissing: The keys have no public key.
        """
        library = self.library
        if not self.sanitizes or not isinstance(library, SupportsPreparedZeros):
            return 0
        if not 0 <= level <= self.params.max_level:
            checks.no_such_level(f"{self.who} prepare_zeros", level, self.params.max_level)
        self._with_public_key("prepare_zeros")
        return library.prepare_zeros(level, count)

    def _with_public_key(self, what: str) -> SupportsPublicKey:
        library = self.library
        if not isinstance(library, SupportsPublicKey) or not library.has_public_key:
            checks.no_public_key(f"{self.who} {what}")
        return library

    def _check_pair(self, left: Ciphertext, right: Ciphertext, what: str) -> None:
        key_id = self.key_id
        if (
            left.__class__ is not Ciphertext
            or right.__class__ is not Ciphertext
            or left.key_id != key_id
            or right.key_id != key_id
        ):
            checks.foreign(f"{self.who} {what}")
        if self._explicit and (left.level != right.level or left.scale != right.scale):
            self._unlike(left, right, what)

    def _check_plain(self, ciphertext: Ciphertext, plaintext: Plaintext, what: str) -> None:
        if ciphertext.__class__ is not Ciphertext or ciphertext.key_id != self.key_id:
            checks.foreign(f"{self.who} {what}")
        if plaintext.__class__ is not Plaintext or (
            plaintext.family is not self._family and plaintext.family != self._family
        ):
            checks.foreign_plaintext(f"{self.who} {what}")
        if ciphertext.level != plaintext.level and self._explicit:
            self._unlike(ciphertext, plaintext, what)

    def _product_scale(self, ciphertext: Ciphertext, plaintext: Plaintext, what: str) -> float:
        self._check_plain(ciphertext, plaintext, what)
        scale = ciphertext.scale * plaintext.scale
        if not self._explicit:
            return ciphertext.scale
        if scale >= self._largest[ciphertext.level]:
            checks.too_large_a_product(f"{self.who} {what}", ciphertext.scale, plaintext.scale, plaintext.level)
        return scale

    def _unlike(self, left: Ciphertext, right: Ciphertext | Plaintext, what: str) -> NoReturn:
        checks.unlike(f"{self.who}: {what}", (left.level, right.level), (left.scale, right.scale))
