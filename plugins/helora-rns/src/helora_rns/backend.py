"""The scheme as a backend of helora."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Sequence
from importlib.metadata import version
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.base import with_primes
from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.correlations import Cut, OnlineWeights
from helora_core.backend.primes import distinct_ntt_primes
from helora_core.backend.protocol import SLOTS, Executable, Sanitizing, Values
from helora_core.backend.short_results import ALL_KEPT, LowBits
from helora_core.backend.tape import Tape
from helora_core.params.ckks import CKKSParams
from helora_rns import threads
from helora_rns.correlations import packing
from helora_rns.correlations.keys import RNSBatchKey
from helora_rns.correlations.online import CompiledOnline, NumPyOnline, online, online_weights
from helora_rns.correlations.ring import ring_of
from helora_rns.correlations.sums import RNSBatchSums
from helora_rns.kernels import Basis
from helora_rns.modular import Residues
from helora_rns.programs.executable import prepared
from helora_rns.scheme import encoding as encodings
from helora_rns.scheme import wire
from helora_rns.scheme.ciphertexts import Ciphertext, Plaintext, ShortCiphertext
from helora_rns.scheme.context import Context, Parameters, context
from helora_rns.scheme.encoding import Message
from helora_rns.scheme.encryption import Decryptor, Encryptor, PublicEncryptor
from helora_rns.scheme.evaluation import Evaluator
from helora_rns.scheme.keys import PublicKey, RotationKey, SecretKey
from helora_rns.scheme.sanitizing import Sanitizer
from helora_rns.scheme.shortening import shortened

_primes = functools.cache(distinct_ntt_primes)


def message_of(ring: Context, values: Values, level: int, scale: float, encoding: Encoding, basis: Basis) -> Message:
    """The polynomial that values of an encoding mean.

    Of a number its values are given, modulo the basis: they are all the same. Of integers, modulo the data primes.
    """
    if encoding is Encoding.INTEGERS:
        exact = ring.copied(ring.kernels.to_device(values))
        ring.kernels.forward(exact, ring.basis(level))
        return exact
    if encoding is Encoding.SCALAR:
        return encodings.constant(ring, float(values[0]), scale, basis)
    if encoding is Encoding.COEFFICIENTS:
        return encodings.coefficients_of_numbers(ring, values, scale)
    return encodings.coefficients_of_slots(ring, values, scale)


def of_slots(slots: NDArray[np.complex128], encoding: Encoding) -> Values:
    """What slots mean in an encoding that is read from them."""
    if encoding is Encoding.COMPLEX_SLOTS:
        return slots
    real: Values = slots.real[:1].copy() if encoding is Encoding.SCALAR else slots.real.copy()
    return real


class RNSEncoder:
    """Plaintexts by their values, ready for products."""

    def __init__(self, ring: Context) -> None:
        self._ring = ring

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
        # Modulo the special primes too, for products with rotations that are not yet divided by them.
        basis = self._ring.extended(level)
        message = message_of(self._ring, values, level, scale, encoding, basis)
        if not encodings.are_values(message):
            message = encodings.values_of(self._ring, message, basis)
        self._ring.kernels.finish()
        return Plaintext(message, level, scale)


class _Role:
    """What client and server share. It has no key."""

    def __init__(self, ring: Context, key_id: bytes) -> None:
        self.key_id = key_id
        self._ring = ring

    def level(self, ciphertext: Ciphertext | ShortCiphertext) -> int:
        return ciphertext.level

    def scale(self, ciphertext: Ciphertext | ShortCiphertext) -> float:
        return ciphertext.scale

    def low_bits(self, ciphertext: Ciphertext | ShortCiphertext) -> LowBits:
        return ciphertext.low_bits if isinstance(ciphertext, ShortCiphertext) else ALL_KEPT

    def serialize(self, ciphertext: Ciphertext | ShortCiphertext) -> bytes:
        return wire.write_ciphertext(self._ring, ciphertext)

    def deserialize(self, payload: bytes) -> Ciphertext | ShortCiphertext:
        return wire.read_ciphertext(self._ring, payload)


class RNSDecryptor(_Role):
    """The client's role, with the secret key."""

    def __init__(
        self, ring: Context, key_id: bytes, secret: SecretKey, steps: Collection[int], public: PublicKey | None
    ) -> None:
        super().__init__(ring, key_id)
        self._secret, self._steps, self._public = secret, sorted(set(steps)), public
        self._encryptor = Encryptor(ring, secret)
        self._decryptor = Decryptor(ring, secret)
        rotations = [RotationKey.of(ring, secret, step) for step in self._steps]
        self._keys = wire.write_keys(ring, wire.EvaluationKeys(key_id, rotations, public))

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        level = self._ring.max_level
        message = message_of(self._ring, values, level, scale, encoding, self._ring.basis(level))
        return self._encryptor.encrypt(message, scale)

    def decrypt(self, ciphertext: Ciphertext | ShortCiphertext, *, encoding: Encoding = SLOTS) -> Values:
        if encoding is Encoding.INTEGERS:
            return self._ring.kernels.to_host(self._decryptor.residues(ciphertext))
        coefficients = self._decryptor.coefficients(ciphertext)
        if encoding is Encoding.COEFFICIENTS:
            values: Values = self._ring.kernels.to_host(coefficients) / ciphertext.scale
            return values
        return of_slots(encodings.slots_of(self._ring, coefficients, ciphertext.scale), encoding)

    def evaluation_keys(self) -> bytes:
        return self._keys

    def export_keys(self) -> bytes:
        kept = wire.KeptKeys(self.key_id, self._secret.seed, self._steps, self._public)
        return wire.write_secret(self._ring, kept)


class RNSEvaluator(_Role, Evaluator):
    """The server's role: the scheme's evaluator, with the keys that the client sent."""

    def __init__(self, ring: Context, keys: wire.EvaluationKeys) -> None:
        _Role.__init__(self, ring, keys.key_id)
        Evaluator.__init__(self, ring, keys.rotations)
        self.rotation_steps = self.steps
        self.has_public_key = keys.public is not None
        self._sanitizer = Sanitizer(ring, keys.public) if keys.public else None

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        level = self._ring.max_level
        message = message_of(self._ring, values, level, scale, encoding, self._ring.basis(level))
        return PublicEncryptor(self._ring, self._with_public_key.zeros).encrypt(message, scale)

    def sanitize_many(self, ciphertexts: Sequence[Ciphertext], how: Sequence[Sanitizing]) -> list[Ciphertext]:
        return threads.results(self._with_public_key.sanitized, ciphertexts, how)

    def shortened(self, ciphertext: Ciphertext, low_bits: LowBits) -> ShortCiphertext:
        return shortened(self._ring, ciphertext, low_bits)

    def uniform_mask(self, ciphertext: Ciphertext) -> tuple[Ciphertext, Residues]:
        return self._with_public_key.masked(ciphertext)

    def prepare_zeros(self, level: int, count: int) -> int:
        return self._with_public_key.zeros.prepare(level, count)

    @property
    def _with_public_key(self) -> Sanitizer:
        if self._sanitizer is None:
            raise ValueError("there is no public key")
        return self._sanitizer


class RNSBackend:
    """helora's own engine.

    Attributes:
        encoder_type, decryptor_type, evaluator_type: Its roles, for whoever runs the scheme on other kernels.
    """

    name = "rns"
    encoder_type: ClassVar[type[RNSEncoder]] = RNSEncoder
    decryptor_type: ClassVar[type[RNSDecryptor]] = RNSDecryptor
    evaluator_type: ClassVar[type[RNSEvaluator]] = RNSEvaluator
    capabilities = Capabilities(
        encodings=frozenset(Encoding),
        slot_generator=5,
        centred_digits=True,
        longest_prime_bits=50,
        reserves_special=False,
        public_key=True,
        sanitizing=True,
        short_results=True,
        hoisting=True,
        compressed_upload=True,
        programs=True,
        defers_division=True,
        correlations=True,
    )

    def context(self, params: CKKSParams) -> Context:
        """The ring of resolved parameters."""
        return context(Parameters(params.ring_degree, params.data_primes, params.special_primes))

    @property
    def library_version(self) -> str:
        return f"helora-rns {version('helora-rns')}"

    def resolve(self, params: CKKSParams) -> CKKSParams:
        return with_primes(params, _primes(params.data_bits + params.special_bits, params.ring_degree))

    def encoder(self, params: CKKSParams) -> RNSEncoder:
        return self.encoder_type(self.context(params))

    def prepare(self, params: CKKSParams, tape: Tape) -> Executable:
        return prepared(self.context(params), tape)

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[RNSDecryptor, RNSEvaluator]:
        ring = self.context(params)
        secret = SecretKey(ring)
        public = PublicKey.of(ring, secret) if public_key else None
        decryptor = self.decryptor_type(ring, os.urandom(wire.KEY_ID_BYTES), secret, rotation_steps, public)
        return decryptor, self.load_evaluator(params, decryptor.evaluation_keys())

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> RNSEvaluator:
        ring = self.context(params)
        evaluator = self.evaluator_type(ring, wire.read_keys(ring, evaluation_keys))
        ring.kernels.finish()
        return evaluator

    def restore_keys(self, params: CKKSParams, exported: bytes) -> RNSDecryptor:
        ring = self.context(params)
        kept = wire.read_secret(ring, exported)
        return self.decryptor_type(ring, kept.key_id, SecretKey(ring, kept.seed), kept.steps, kept.public)

    def batch_key(self, params: CKKSParams, nonces: bytes) -> RNSBatchKey:
        return RNSBatchKey(ring_of(params), nonces)

    def batch_sums(self, params: CKKSParams, public_key: bytes, nonces: bytes, rows: int) -> RNSBatchSums:
        return RNSBatchSums(ring_of(params), public_key, nonces, rows)

    def online_weights(self, matrices: Sequence[NDArray[np.int64]]) -> OnlineWeights:
        return online_weights(matrices)

    def padded(self, x: NDArray[np.float64], factors: NDArray[np.float64], pads: NDArray[np.uint64]) -> bytes:
        return self._online.padded(x, factors, pads)

    def revealed(
        self, answers: bytes, results: bytes, cut: Cut, factors: NDArray[np.float64], outputs: int
    ) -> NDArray[np.float64]:
        return self._online.revealed(answers, results, cut, factors, outputs)

    @functools.cached_property
    def _online(self) -> NumPyOnline | CompiledOnline:
        return online()

    def pack(self, numbers: NDArray[np.uint64], bits: int) -> bytes:
        return packing.pack(numbers, bits)

    def unpack(self, payload: bytes, count: int, bits: int) -> NDArray[np.uint64]:
        return packing.unpack(payload, count, bits)
