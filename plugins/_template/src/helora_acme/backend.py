"""acme as a backend of helora.

So far nothing is encrypted: ``emulation`` stands in for the library. Where the library's own calls belong there is a
mark, FILL IN with a number; the numbers are the order in which that goes best. The checks can stay: they refuse by name
what libraries let pass, or report in words of their own.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any

import msgspec
from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.protocol import SLOTS, Values
from helora_core.errors import InvalidParameters
from helora_core.params.ckks import CKKSParams

from helora_acme import checks, emulation
from helora_acme.checks import Ciphertext, CiphertextMessage, EvaluationKeys, Plaintext

# FILL IN 11: claim what else the library can do; the laws about it then run.
CAPABILITIES = Capabilities(encodings=frozenset({Encoding.SLOTS}))


class _Role:
    """What client and server share. It has no key."""

    def __init__(self, params: CKKSParams, key_id: bytes) -> None:
        self.params = params
        self.key_id = key_id
        # FILL IN 3: a context of the library for params.ring_degree and the primes that resolve stated, without keys.
        self._library = emulation.Emulation(params)

    def level(self, ciphertext: Ciphertext) -> int:
        checks.check_own(ciphertext, self.key_id)
        return ciphertext.level

    def scale(self, ciphertext: Ciphertext) -> float:
        checks.check_own(ciphertext, self.key_id)
        return ciphertext.scale

    def serialize(self, ciphertext: Ciphertext) -> bytes:
        checks.check_own(ciphertext, self.key_id)
        data = self._library.to_bytes(ciphertext.data)  # FILL IN 6: the library's bytes of a ciphertext
        return msgspec.msgpack.encode(CiphertextMessage(ciphertext.level, ciphertext.scale, data))

    def deserialize(self, payload: bytes) -> Ciphertext:
        message = checks.read_ciphertext(payload, self.params)
        try:
            # FILL IN 6: read them; what comes out must be of message.level, and garbage must not crash.
            data = self._library.from_bytes(message.data)
        except ValueError as error:
            raise checks.corrupt("a ciphertext", error) from error
        return Ciphertext(data, message.level, message.scale, self.key_id)

    def _encoded(self, values: Values, level: int, scale: float, encoding: Encoding) -> Plaintext:
        checks.check_encodable(values, level, scale, encoding, self.params, CAPABILITIES)
        data = self._library.encode(values, scale)  # FILL IN 4: the library's encoding, at this level and scale
        return Plaintext(data, level, scale, self.params)


class Decryptor(_Role):
    """The client's role: it alone has the secret key."""

    def __init__(self, params: CKKSParams, rotation_steps: Collection[int]) -> None:
        super().__init__(params, secrets.token_bytes(16))
        self._secret_key = self._library.secret_key()  # FILL IN 3: the library's secret key
        # FILL IN 10: the library's keys for exactly these rotations to the left, and for no others, as bytes.
        keys = {step: self._library.rotation_key(self._secret_key, step) for step in sorted(rotation_steps)}
        self._evaluation_keys = msgspec.msgpack.encode(EvaluationKeys(params, self.key_id, keys))

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        plaintext = self._encoded(values, self.params.max_level, scale, encoding)
        # FILL IN 5: the library's encryption, with the secret key if it can.
        data = self._library.encrypt(self._secret_key, plaintext.data, scale)
        return Ciphertext(data, plaintext.level, scale, self.key_id)

    def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding = SLOTS) -> Values:
        checks.check_own(ciphertext, self.key_id)
        plaintext = self._library.decrypt(self._secret_key, ciphertext.data)  # FILL IN 5: its decryption
        return self._library.decode(plaintext, ciphertext.scale)  # FILL IN 4: its decoding; all N/2 slots, as float64

    def evaluation_keys(self) -> bytes:
        return self._evaluation_keys


class Evaluator(_Role):
    """The server's role: what the client sent, and nothing else. No operation alters its operands."""

    def __init__(self, params: CKKSParams, keys: EvaluationKeys) -> None:
        super().__init__(params, keys.key_id)
        self._rotation_keys = keys.rotation_keys  # FILL IN 10: read the bytes of each

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
        return self._encoded(values, level, scale, encoding)

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        self._check_alike(left, right)
        return self._result(left.data + right.data, left)  # FILL IN 7: the library's sum

    def sub(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        self._check_alike(left, right)
        return self._result(left.data - right.data, left)  # FILL IN 7: its difference

    def negate(self, ciphertext: Ciphertext) -> Ciphertext:
        checks.check_own(ciphertext, self.key_id)
        return self._result(-ciphertext.data, ciphertext)  # FILL IN 7: its negative

    def add_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        checks.check_own(ciphertext, self.key_id)
        checks.check_plaintext(plaintext, self.params)
        checks.check_level_and_scale(ciphertext, plaintext)
        return self._result(ciphertext.data + plaintext.data, ciphertext)  # FILL IN 7: its sum with a plaintext

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        checks.check_own(ciphertext, self.key_id)
        checks.check_plaintext(plaintext, self.params)
        checks.check_level(ciphertext, plaintext)
        scale = ciphertext.scale * plaintext.scale
        checks.check_fits(scale, ciphertext.level, self.params)
        # FILL IN 8: the library's product with a plaintext, not rescaled; see that all zeros are no exception.
        product = ciphertext.data * plaintext.data
        return Ciphertext(product, ciphertext.level, scale, self.key_id)

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        checks.check_own(ciphertext, self.key_id)
        checks.check_can_rescale(ciphertext)
        scale = ciphertext.scale / self.params.data_primes[ciphertext.level]
        data = self._library.rescale(ciphertext.data, scale)  # FILL IN 9: the library's rescale, by its last prime
        return Ciphertext(data, ciphertext.level - 1, scale, self.key_id)

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        checks.check_own(ciphertext, self.key_id)
        steps %= self.params.slots
        if steps == 0:
            return ciphertext
        checks.check_has_key(steps, self._rotation_keys)
        # FILL IN 10: the library's rotation to the left, with this very key and no other.
        key = self._rotation_keys[steps]
        return self._result(self._library.rotate(ciphertext.data, key, ciphertext.level, ciphertext.scale), ciphertext)

    def _check_alike(self, left: Ciphertext, right: Ciphertext) -> None:
        for ciphertext in (left, right):
            checks.check_own(ciphertext, self.key_id)
        checks.check_level_and_scale(left, right)

    def _result(self, data: Any, operand: Ciphertext) -> Ciphertext:
        return Ciphertext(data, operand.level, operand.scale, self.key_id)


class AcmeBackend:
    """acme."""

    name = "acme"
    capabilities = CAPABILITIES

    def resolve(self, params: CKKSParams) -> CKKSParams:
        try:
            # FILL IN 2: ask the library which primes it takes for these bit lengths, special primes last.
            primes = emulation.ntt_primes(params.data_bits + params.special_bits, params.ring_degree)
        except ValueError as error:
            raise InvalidParameters(
                f"helora-acme: the parameters cannot be realised: {error}.",
                hint="Use longer primes, fewer of one length, or another ring degree.",
            ) from error
        levels = len(params.data_bits)
        return msgspec.structs.replace(params, data_primes=primes[:levels], special_primes=primes[levels:])

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
