"""Controls: honest backends that can do less, or do it otherwise: the kit asks of them what they claim, and no more."""

from __future__ import annotations

from collections.abc import Collection

from doubles.honest import HonestBackend, HonestDecryptor, HonestEvaluator
from helora_core.backend.capabilities import Capabilities, Encoding, RescaleMode
from helora_core.errors import CapabilityMissing
from helora_core.params.ckks import CKKSParams
from helora_numpy.backend import EmulatedCiphertext as Ciphertext
from helora_numpy.backend import EmulatedPlaintext as Plaintext


class LeastBackend(HonestBackend):
    """The least that a backend can be: real slots, and nothing optional."""

    capabilities = Capabilities(encodings=frozenset({Encoding.SLOTS}))

    class evaluator_type(HonestEvaluator):  # noqa: N801
        rotate_many = None
        encrypt_public = None

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[HonestDecryptor, HonestEvaluator]:
        if public_key or seed is not None:
            raise CapabilityMissing("double: no public key and no seed.", hint="Ask for neither.")
        return super().generate_keys(params, rotation_steps)


class AutomaticBackend(HonestBackend):
    """A library that rescales products by itself and brings operands to one level, as OpenFHE's automatic modes do."""

    capabilities = Capabilities(
        encodings=HonestBackend.capabilities.encodings,
        rescale=RescaleMode.AUTOMATIC,
        free_plaintext_scale=False,
        public_key=True,
        hoisting=True,
        seeded_keys=True,
    )

    class evaluator_type(HonestEvaluator):  # noqa: N801
        def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
            if isinstance(plaintext, Plaintext) and self._own(ciphertext).level < plaintext.level:
                plaintext = Plaintext(plaintext.values, ciphertext.level, plaintext.scale)
            product = super().multiply_plain(ciphertext, plaintext)
            rescaled = super().rescale(product)
            return Ciphertext(rescaled.values, rescaled.level, ciphertext.scale, self.key_id)

        def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
            return super().add(*self._aligned(left, right))

        def sub(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
            return super().sub(*self._aligned(left, right))

        def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
            return self._own(ciphertext)

        def _aligned(self, left: Ciphertext, right: Ciphertext) -> list[Ciphertext]:
            level = min(self._own(left).level, self._own(right).level)
            return [Ciphertext(each.values, level, each.scale, each.key_id) for each in (left, right)]
