"""Microsoft SEAL through Pyfhel.

Pyfhel has no symmetric encryption: the client encrypts with its own public key. Rotation keys are made for exactly the
plan's steps, and a step without one is refused here: Pyfhel would compose it, or make itself keys for a secret that
nothing was encrypted with. ``+`` and ``*`` on Pyfhel's ciphertexts align levels and round scales by themselves; the
methods used here do what they are told.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Collection
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.protocol import SLOTS, Values
from helora_core.errors import (
    CapabilityMissing,
    ForeignCiphertext,
    LevelExhausted,
    LevelMismatch,
    MissingRotationKey,
    PrecisionLost,
    ScaleMismatch,
)
from helora_core.params.ckks import CKKSParams
from helora_pyfhel.codec import PyfhelCiphertext, PyfhelPlaintext, Role
from helora_pyfhel.context import WHO, Context, pyfhel_object, resolve
from helora_pyfhel.keys import EvaluationKeys, ExportedKeys, load_client_keys, load_keys, read_export, read_message
from helora_pyfhel.residues import from_plaintext


class PyfhelDecryptor(Role):
    """The client's role, with the secret key."""

    def __init__(
        self,
        context: Context,
        steps: Collection[int],
        key_id: bytes,
        *,
        public_key: bool,
        exported: ExportedKeys | None = None,
    ) -> None:
        super().__init__(context, key_id)
        params = context.params
        self._steps = sorted(steps)
        self._sends_public_key = public_key
        self._keyed = pyfhel_object(params, {"qi": [*params.data_primes, *params.special_primes]}, keyed=True)
        self._restored = b""
        if exported is not None:
            load_client_keys(self._keyed, exported)
            self._restored = exported.evaluation_keys
            return
        self._keyed.keyGen()
        if self._steps:  # without steps, Pyfhel makes keys for all powers of two
            self._keyed.rotateKeyGen(self._steps)

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> PyfhelCiphertext:
        plaintext = self._encode(values, self._context.params.max_level, scale, encoding, "encrypt")
        ciphertext = self._keyed.encryptPtxt(plaintext)
        # A PyCtxt refers to the object that made it: here the one with the secret key.
        ciphertext._pyfhel = self._context.pyfhel
        return PyfhelCiphertext(ciphertext, self.key_id)

    def decrypt(self, ciphertext: PyfhelCiphertext, *, encoding: Encoding = SLOTS) -> Values:
        plaintext = self._keyed.decryptPtxt(self._own(ciphertext).data)
        values: Values
        if encoding is Encoding.INTEGERS:
            params = self._context.params
            return from_plaintext(plaintext, params.data_primes[: self.level(ciphertext) + 1], params.ring_degree)
        if encoding is Encoding.COMPLEX_SLOTS:
            values = np.asarray(self._keyed.decodeComplex(plaintext), dtype=np.complex128)
        else:
            values = self._keyed.decodeFrac(plaintext)
        return values

    def evaluation_keys(self) -> bytes:
        if self._restored:
            return self._restored
        galois_keys = self._keyed.to_bytes_rotate_key("none") if self._steps else b""
        public_key = self._keyed.to_bytes_public_key("none") if self._sends_public_key else b""
        return msgspec.msgpack.encode(EvaluationKeys(self._steps, self.key_id, galois_keys, public_key))

    def export_keys(self) -> bytes:
        return msgspec.msgpack.encode(
            ExportedKeys(
                secret_key=self._keyed.to_bytes_secret_key("none"),
                public_key=self._keyed.to_bytes_public_key("none"),
                evaluation_keys=self.evaluation_keys(),
            )
        )


class PyfhelEvaluator(Role):
    """The server's role: the keys that the client sent, and no others."""

    def __init__(self, context: Context, keys: EvaluationKeys) -> None:
        super().__init__(context, keys.key_id)
        load_keys(context.pyfhel, keys, context.params.ring_degree)
        self._pyfhel = context.pyfhel
        self._steps = frozenset(keys.steps)

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> PyfhelCiphertext:
        if self._pyfhel.is_public_key_empty():
            raise CapabilityMissing(f"{WHO}: no public key was generated.", hint="Generate keys with public_key=True.")
        plaintext = self._encode(values, self._context.params.max_level, scale, encoding, "encrypt_public")
        return PyfhelCiphertext(self._pyfhel.encryptPtxt(plaintext), self.key_id)

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> PyfhelPlaintext:
        plaintext = self._encode(values, level, scale, encoding, "encode")
        if encoding is not Encoding.INTEGERS and plaintext.is_zero():
            # A product with the zero polynomial would be a ciphertext that anyone can read. The polynomial 1 stands for
            # 1/scale in every slot: within the rounding error of any encoding.
            smallest = np.full(self._context.params.slots, 1.0 / scale)
            plaintext = self._context.encode(smallest, level, scale, SLOTS)
        return PyfhelPlaintext(plaintext, level, scale, self._context.params)

    def add(self, left: PyfhelCiphertext, right: PyfhelCiphertext) -> PyfhelCiphertext:
        return self._linear(self._pyfhel.add, left, right, "add")

    def sub(self, left: PyfhelCiphertext, right: PyfhelCiphertext) -> PyfhelCiphertext:
        return self._linear(self._pyfhel.sub, left, right, "sub")

    def _linear(
        self, operation: Callable[..., object], left: PyfhelCiphertext, right: PyfhelCiphertext, who: str
    ) -> PyfhelCiphertext:
        _same_level(self.level(left), self.level(right), who)
        _same_scale(self.scale(left), self.scale(right), who)
        return self._done(operation, left, right.data)

    def negate(self, ciphertext: PyfhelCiphertext) -> PyfhelCiphertext:
        return self._done(self._pyfhel.negate, self._own(ciphertext))

    def add_plain(self, ciphertext: PyfhelCiphertext, plaintext: PyfhelPlaintext) -> PyfhelCiphertext:
        self._check_plaintext(ciphertext, plaintext, "add_plain")
        _same_scale(self.scale(ciphertext), plaintext.scale, "add_plain")
        return self._done(self._pyfhel.add_plain, ciphertext, plaintext.data)

    def multiply_plain(self, ciphertext: PyfhelCiphertext, plaintext: PyfhelPlaintext) -> PyfhelCiphertext:
        self._check_plaintext(ciphertext, plaintext, "multiply_plain")
        try:
            return self._done(self._pyfhel.multiply_plain, ciphertext, plaintext.data)
        except ValueError as error:
            raise PrecisionLost(
                f"{WHO}: a product of scales 2^{math.log2(self.scale(ciphertext)):.1f} and "
                f"2^{math.log2(plaintext.scale):.1f} does not fit the modulus of level {plaintext.level} ({error}).",
                hint="Rescale first, or use smaller scales.",
            ) from error

    def _check_plaintext(self, ciphertext: PyfhelCiphertext, plaintext: PyfhelPlaintext, who: str) -> None:
        level = self.level(ciphertext)
        if not isinstance(plaintext, PyfhelPlaintext) or plaintext.params != self._context.params:
            raise ForeignCiphertext(
                f"{WHO}: {who} with a plaintext that was not encoded for these parameters.",
                hint="Use plaintexts that this server's encode gave.",
            )
        _same_level(level, plaintext.level, who)

    def rotate(self, ciphertext: PyfhelCiphertext, steps: int) -> PyfhelCiphertext:
        ciphertext = self._own(ciphertext)
        steps %= self._context.params.slots
        if steps == 0:
            return ciphertext
        if steps not in self._steps:
            raise MissingRotationKey(
                f"{WHO}: there is no key for a rotation by {steps}.",
                hint="Generate keys for the plan's rotation_steps.",
            )
        return self._done(self._pyfhel.rotate, ciphertext, steps)

    def rescale(self, ciphertext: PyfhelCiphertext) -> PyfhelCiphertext:
        if self.level(ciphertext) == 0:
            raise LevelExhausted(
                f"{WHO}: a ciphertext at level 0 cannot be rescaled.",
                hint="Use parameters with one more data prime, or a packing of less depth.",
            )
        return self._done(self._pyfhel.rescale_to_next, ciphertext)

    def _done(self, operation: Callable[..., object], ciphertext: PyfhelCiphertext, *operands: Any) -> PyfhelCiphertext:
        """What a method of Pyfhel makes of a copy of the ciphertext."""
        result = self._context.copied(ciphertext.data)
        try:
            operation(result, *operands)
        except RuntimeError as error:
            # SEAL completes its result and then refuses it if its second polynomial is zero, as that of x − x is:
            # anyone could read it. It is right, and those who computed it know what it says.
            if "transparent" not in str(error):
                raise
        return PyfhelCiphertext(result, self.key_id)


def _same_level(left: int, right: int, who: str) -> None:
    if left != right:
        raise LevelMismatch(
            f"{WHO}: {who} of operands at levels {left} and {right}.",
            hint="Encode plaintexts at the ciphertext's level, and rescale both operands equally often.",
        )


def _same_scale(left: float, right: float, who: str) -> None:
    if left != right:
        raise ScaleMismatch(
            f"{WHO}: {who} of operands with scales 2^{math.log2(left):.6f} and 2^{math.log2(right):.6f}.",
            hint="Bring both operands through the same multiplications and rescales.",
        )


class PyfhelBackend:
    """Pyfhel."""

    name = "pyfhel"
    capabilities = Capabilities(
        encodings=frozenset({Encoding.SLOTS, Encoding.COMPLEX_SLOTS, Encoding.INTEGERS}),
        slot_generator=3,
        symmetric_encryption=False,
        public_key=True,
    )

    @property
    def library_version(self) -> str:
        return f"Pyfhel {version('Pyfhel')}"

    def resolve(self, params: CKKSParams) -> CKKSParams:
        return resolve(params)

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[PyfhelDecryptor, PyfhelEvaluator]:
        if seed is not None:
            raise CapabilityMissing(
                f"{WHO}: keys cannot be made from a seed.",
                hint="Leave the seed out; use the emulation for repeatable runs.",
            )
        decryptor = PyfhelDecryptor(Context(params), rotation_steps, secrets.token_bytes(16), public_key=public_key)
        return decryptor, self.load_evaluator(params, decryptor.evaluation_keys())

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> PyfhelEvaluator:
        return PyfhelEvaluator(Context(params), read_message(evaluation_keys))

    def restore_keys(self, params: CKKSParams, exported: bytes) -> PyfhelDecryptor:
        keys = read_export(exported)
        sent = read_message(keys.evaluation_keys)
        context = Context(params)
        return PyfhelDecryptor(context, sent.steps, sent.key_id, public_key=bool(sent.public_key), exported=keys)
