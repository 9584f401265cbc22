"""acme as a backend of helora: each method checks, and then makes one call of the library.

There is nothing to fill in here; the library's calls are in ``library``.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any

import msgspec
from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import SLOTS, Values
from helora_core.errors import InvalidParameters
from helora_core.params.ckks import CKKSParams

from helora_acme import checks
from helora_acme.checks import Ciphertext, EvaluationKeys, Plaintext
from helora_acme.library import CAPABILITIES, Library, primes


class _Role:
    """What client and server share. It has no key."""

    def __init__(self, params: CKKSParams, key_id: bytes) -> None:
        self.params = params
        self.key_id = key_id
        self._library = Library(params)

    def level(self, ciphertext: Ciphertext) -> int:
        return self._library.level(self._own(ciphertext))

    def scale(self, ciphertext: Ciphertext) -> float:
        return self._library.scale(self._own(ciphertext))

    def serialize(self, ciphertext: Ciphertext) -> bytes:
        return self._library.to_bytes(self._own(ciphertext))

    def deserialize(self, payload: bytes) -> Ciphertext:
        with checks.reading("a ciphertext"):
            data = self._library.from_bytes(payload)
            checks.check_level_and_scale_exist(self._library.level(data), self._library.scale(data), self.params)
        return Ciphertext(data, self.key_id)

    def _own(self, ciphertext: Ciphertext) -> Any:
        """The library's ciphertext, if it is one of these keys."""
        checks.check_ciphertext(ciphertext, self.key_id)
        return ciphertext.data

    def _encoded(self, values: Values, level: int, scale: float, encoding: Encoding) -> Plaintext:
        checks.check_encodable(values, level, scale, encoding, self.params, CAPABILITIES)
        return Plaintext(self._library.encode(values, encoding, level, scale), level, scale, self.params)


class Decryptor(_Role):
    """The client's role: it alone has the secret key."""

    def __init__(self, params: CKKSParams, rotation_steps: Collection[int]) -> None:
        super().__init__(params, secrets.token_bytes(16))
        self._secret_key = self._library.secret_key()
        keys = {steps: self._library.rotation_key(self._secret_key, steps) for steps in sorted(rotation_steps)}
        self._evaluation_keys = msgspec.msgpack.encode(EvaluationKeys(params, self.key_id, keys))

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        plaintext = self._encoded(values, self.params.max_level, scale, encoding)
        return Ciphertext(self._library.encrypt(self._secret_key, plaintext.data), self.key_id)

    def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding = SLOTS) -> Values:
        plaintext = self._library.decrypt(self._secret_key, self._own(ciphertext))
        return self._library.decode(plaintext, encoding)

    def evaluation_keys(self) -> bytes:
        return self._evaluation_keys


class Evaluator(_Role):
    """The server's role: it is made of what the client sent, and of nothing else."""

    def __init__(self, params: CKKSParams, keys: EvaluationKeys) -> None:
        super().__init__(params, keys.key_id)
        with checks.reading("evaluation keys"):
            read = self._library.read_rotation_key
            self._rotation_keys = {steps: read(payload) for steps, payload in keys.rotation_keys.items()}

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
        return self._encoded(values, level, scale, encoding)

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        self._check_alike(left, right)
        return self._result(self._library.add(left.data, right.data))

    def sub(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        self._check_alike(left, right)
        return self._result(self._library.sub(left.data, right.data))

    def negate(self, ciphertext: Ciphertext) -> Ciphertext:
        return self._result(self._library.negate(self._own(ciphertext)))

    def add_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        checks.check_plaintext(plaintext, self.params)
        checks.check_levels(self.level(ciphertext), plaintext.level)
        checks.check_scales(self.scale(ciphertext), plaintext.scale)
        return self._result(self._library.add_plain(ciphertext.data, plaintext.data))

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        checks.check_plaintext(plaintext, self.params)
        checks.check_levels(self.level(ciphertext), plaintext.level)
        checks.check_fits(self.scale(ciphertext) * plaintext.scale, plaintext.level, self.params)
        return self._result(self._library.multiply_plain(ciphertext.data, plaintext.data))

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        checks.check_can_rescale(self.level(ciphertext))
        return self._result(self._library.rescale(ciphertext.data))

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        data = self._own(ciphertext)
        steps %= self.params.slots
        if steps == 0:
            return ciphertext
        checks.check_has_key(steps, self._rotation_keys)
        return self._result(self._library.rotate(data, steps, self._rotation_keys[steps]))

    def _check_alike(self, left: Ciphertext, right: Ciphertext) -> None:
        checks.check_levels(self.level(left), self.level(right))
        checks.check_scales(self.scale(left), self.scale(right))

    def _result(self, data: Any) -> Ciphertext:
        return Ciphertext(data, self.key_id)


class AcmeBackend:
    """acme."""

    name = "acme"
    capabilities = CAPABILITIES

    def resolve(self, params: CKKSParams) -> CKKSParams:
        try:
            chain = primes(params)
        except ValueError as error:
            raise InvalidParameters(
                f"helora-acme: the parameters cannot be realised: {error}.",
                hint="Use longer primes, fewer of one length, or another ring degree.",
            ) from error
        levels = len(params.data_bits)
        return msgspec.structs.replace(params, data_primes=chain[:levels], special_primes=chain[levels:])

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[Decryptor, Evaluator]:
        checks.check_not_asked(public_key=public_key, seed=seed)
        decryptor = Decryptor(params, rotation_steps)
        return decryptor, self.load_evaluator(params, decryptor.evaluation_keys())

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> Evaluator:
        return Evaluator(params, checks.read_evaluation_keys(evaluation_keys, params))
