"""Controls: honest backends that can do less, or do it differently: the kit tests what they claim, and no more."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from doubles.honest import HonestBackend, HonestDecryptor, HonestEncoder, HonestEvaluator
from helora_core.backend import residues
from helora_core.backend.capabilities import Capabilities, Encoding, RescaleMode
from helora_core.backend.coefficient_noise import normal_in_slots, normal_integers
from helora_core.backend.ntt import Residues
from helora_core.backend.protocol import SLOTS, Sanitizing, Values
from helora_core.errors import CapabilityMissing
from helora_core.params import noise
from helora_core.params.ckks import CKKSParams
from helora_numpy import polynomials
from helora_numpy.backend import EmulatedCiphertext as Ciphertext
from helora_numpy.backend import EmulatedPlaintext as Plaintext


class LeastBackend(HonestBackend):
    """The least that a backend can be: real slots, and nothing optional."""

    capabilities = Capabilities(encodings=frozenset({Encoding.SLOTS}))
    prepare = None
    batch_key = None

    class evaluator_type(HonestEvaluator):  # noqa: N801
        rotate_many = None
        encrypt_public = None
        shortened = None


class AutomaticBackend(HonestBackend):
    """A library that rescales products by itself and brings operands to one level, as OpenFHE's automatic modes do."""

    capabilities = Capabilities(
        encodings=HonestBackend.capabilities.encodings - {Encoding.INTEGERS},
        rescale=RescaleMode.AUTOMATIC,
        free_plaintext_scale=False,
        public_key=True,
        hoisting=True,
        seeded_keys=True,
    )
    prepare = None
    batch_key = None

    class evaluator_type(HonestEvaluator):  # noqa: N801
        shortened = None

        def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
            if ciphertext.level < plaintext.level:
                plaintext = Plaintext(plaintext.values, ciphertext.level, plaintext.scale)
            product = super().multiply_plain(ciphertext, plaintext)
            rescaled = super().rescale(product)
            return Ciphertext(rescaled.values, rescaled.level, ciphertext.scale)

        def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
            return super().add(*self._aligned(left, right))

        def sub(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
            return super().sub(*self._aligned(left, right))

        def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
            return ciphertext

        def _aligned(self, left: Ciphertext, right: Ciphertext) -> list[Ciphertext]:
            level = min(left.level, right.level)
            return [Ciphertext(each.values, level, each.scale) for each in (left, right)]


class SanitizingBackend(HonestBackend):
    """A library whose server sanitises by itself."""

    capabilities = msgspec.structs.replace(HonestBackend.capabilities, sanitizing=True)

    class evaluator_type(HonestEvaluator):  # noqa: N801
        def sanitize_many(self, ciphertexts: Sequence[Ciphertext], how: Sequence[Sanitizing]) -> list[Ciphertext]:
            made = []
            for ciphertext, each in zip(ciphertexts, how, strict=True):
                clean = self._sanitized(ciphertext, each)
                for _ in range(each.dropped):
                    clean = self.rescale(clean)
                made.append(clean)
            return made

        def uniform_mask(self, ciphertext: Ciphertext) -> tuple[Ciphertext, Residues]:
            mask = residues.uniform(self.params.data_primes[: ciphertext.level + 1], self.params.ring_degree)
            return self._plus(self._rerandomized(ciphertext), mask), mask

        def _sanitized(self, ciphertext: Ciphertext, how: Sanitizing) -> Ciphertext:
            n, primes = self.params.ring_degree, self.params.data_primes[: ciphertext.level + 1]
            flood = normal_integers(n, how.flood_bits)
            readable = np.zeros(n // 2 if how.encoding is SLOTS else n, dtype=bool)
            readable[list(range(readable.size) if how.keep is None else how.keep)] = True
            if how.encoding is SLOTS:
                added = flood.plus(normal_in_slots(n, how.mask_bits, readable, 5)).residues(primes)
            else:
                added = np.where(readable, flood.residues(primes), residues.uniform(primes, n))
            return self._plus(self._rerandomized(ciphertext), added)

        def _rerandomized(self, ciphertext: Ciphertext) -> Ciphertext:
            n, top = self.params.ring_degree, ciphertext.level == self.params.max_level
            std = noise.public_encryption_std(n) if top else noise.rescale_std(n)
            return self._like(ciphertext, self._noisy(ciphertext.values, std, ciphertext.scale))

        def _plus(self, ciphertext: Ciphertext, rows: Residues) -> Ciphertext:
            total = polynomials.add(self._exact(ciphertext), polynomials.transformed(rows, self.params), self.params)
            return self._like(ciphertext, total)


class OneScaleBackend(HonestBackend):
    """A library with one scale for all plaintexts, which core keeps others beside: a ``HasUnit``."""

    UNIT = 2.0**20  # which fits the shortest modulus that the kit has
    capabilities = msgspec.structs.replace(
        HonestBackend.capabilities,
        encodings=HonestBackend.capabilities.encodings - {Encoding.INTEGERS},
        programs=False,
        short_results=False,
        correlations=False,
    )
    prepare = None
    batch_key = None

    class encoder_type(HonestEncoder):  # noqa: N801
        def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
            return super().encode(values, level=level, scale=_the_only(scale), encoding=encoding)

    class decryptor_type(HonestDecryptor):  # noqa: N801
        def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
            return super().encrypt(values, scale=_the_only(scale), encoding=encoding)

    class evaluator_type(HonestEvaluator):  # noqa: N801
        shortened = None

        def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
            return super().encrypt_public(values, scale=_the_only(scale), encoding=encoding)

        def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
            """The product of the integers, which is called one of the only scale as everything is."""
            return self._like(ciphertext, ciphertext.values * (plaintext.values * OneScaleBackend.UNIT))

        def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
            lower = super().rescale(ciphertext)
            return self._like(lower, lower.values * (lower.scale / OneScaleBackend.UNIT), scale=OneScaleBackend.UNIT)

    def unit(self, params: CKKSParams) -> float:
        return self.UNIT


def _the_only(scale: float) -> float:
    if scale != OneScaleBackend.UNIT:
        raise CapabilityMissing("double: there is one scale.", hint="Ask for that.")
    return scale
