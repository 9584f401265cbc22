"""Doubles whose encryption hides less than it claims, or is not random."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import numpy as np

from doubles.honest import (
    HEADER_BYTES,
    HonestBackend,
    HonestDecryptor,
    HonestEvaluator,
    HonestRole,
    keystream,
    with_values,
    xor,
)
from doubles.registry import caught_by
from helora_core.backend.capabilities import Encoding
from helora_core.backend.embedding import coefficients_to_slots, slots_to_coefficients
from helora_core.backend.protocol import SLOTS, Values
from helora_core.params.ckks import CKKSParams
from helora_numpy.backend import EmulatedCiphertext as Ciphertext
from helora_numpy.backend import _EvaluationKeys


@caught_by("test_the_bytes_do_not_contain_the_plaintext")
class SendsItsValuesInTheClear(HonestRole):
    """The bytes of a ciphertext are its values, with the noise of an encryption.

    A simulator that is taken for a library: every figure it gives is right, and nothing is hidden.
    """

    def masked(self, content: bytes, nonce: bytes) -> bytes:
        return content


@caught_by("test_the_bytes_do_not_contain_the_plaintext")
class SendsItsCoefficientsInTheClear(HonestRole):
    """The bytes of a ciphertext are the coefficients of its plaintext, as integers at its scale.

    A "transparent" ciphertext, (m, 0): encoded, never encrypted.
    """

    def masked(self, content: bytes, nonce: bytes) -> bytes:
        if len(content) != 16 * self.params.slots:
            return content
        slots = np.frombuffer(content, "<c16")
        return (slots_to_coefficients(slots, 2 * self.params.slots) * 2.0**44).astype(">i8").tobytes()

    def deserialize(self, payload: bytes) -> Ciphertext:
        if len(payload) != HEADER_BYTES + 16 + 16 * self.params.slots:
            return super().deserialize(payload)
        coefficients = np.frombuffer(payload, ">i8", offset=HEADER_BYTES + 16).astype(np.float64) / 2.0**44
        slots = coefficients_to_slots(coefficients, 2 * self.params.slots)
        return super(HonestRole, self).deserialize(payload[:HEADER_BYTES] + slots.astype("<c16").tobytes())


@caught_by("test_another_key_opens_nothing_even_where_checks_are_bypassed")
class IsDecryptedByAnyone(HonestRole):
    """Ciphertexts are hidden by a key that all key pairs share.

    A key pair made from a fixed seed, a test key that was shipped, a secret that is all zeros.
    """

    def masked(self, content: bytes, nonce: bytes) -> bytes:
        return xor(content, keystream(nonce, len(content)))


@caught_by("test_encryptions_of_equal_values_are_no_more_alike_than_others")
class MasksEveryMessageAlike(HonestRole):
    """All ciphertexts of a key pair are masked with one keystream.

    A counter or a nonce that starts again at zero: the two-time pad.
    """

    def masked(self, content: bytes, nonce: bytes) -> bytes:
        return super().masked(content, bytes(16))


@caught_by("test_equal_values_leave_no_pattern_in_the_bytes")
class MasksEverySlotAlike(HonestRole):
    """Every slot is masked with the same 16 bytes.

    A block cipher in ECB mode, the picture of the penguin.
    """

    def masked(self, content: bytes, nonce: bytes) -> bytes:
        return xor(content, (keystream(self.key_id + nonce, 16) * (len(content) // 16 + 1))[: len(content)])


@caught_by("test_two_encryptions_of_the_same_values_differ")
class CachesItsRandomness(HonestDecryptor):
    """The noise is drawn once and used for every encryption.

    A pool of precomputed encryptions of zero that nobody refills: equal values give equal bytes.
    """

    _errors: Any = None

    def _noisy(self, values: Any, std: float, scale: float) -> Any:
        if self._errors is None:
            self._errors = super()._noisy(np.zeros_like(values), 1.0, 1.0)
        return values + self._errors * (std / scale)


class _Salted(HonestRole):
    def serialize(self, ciphertext: Ciphertext) -> bytes:
        return super().serialize(ciphertext) + secrets.token_bytes(8)

    def deserialize(self, payload: bytes) -> Ciphertext:
        return super().deserialize(payload[:-8])


@caught_by("test_two_encryptions_of_the_same_values_differ_when_decrypted")
class SaltsTheBytesAlone(HonestBackend):
    """The noise is drawn once; a salt makes the bytes differ.

    Randomised serialisation around a deterministic encryption.
    """

    decryptor_type = type("Client", (_Salted, CachesItsRandomness), {})
    evaluator_type = type("Server", (_Salted, HonestEvaluator), {})


@caught_by("test_two_key_generations_give_different_keys")
class MakesTheSameKeysEveryTime(HonestBackend):
    """All key pairs of a process are one.

    A cache of key pairs by parameters: "keys are slow to make".
    """

    _kept: bytes | None = None

    def keys_for(self, rotation_steps: Collection[int], public_key: bool) -> _EvaluationKeys:
        keys = super().keys_for(rotation_steps, public_key)
        self._kept = self._kept or keys.key_id
        return _EvaluationKeys(keys.steps, self._kept, keys.public_key)


@caught_by("test_both_roles_bear_the_same_fresh_key_id")
class NamesKeysByTheirParameters(HonestBackend):
    """A key pair's id is a digest of its parameters.

    An id that is meant to be reproducible: two clients with equal parameters have one.
    """

    def keys_for(self, rotation_steps: Collection[int], public_key: bool) -> _EvaluationKeys:
        return _EvaluationKeys(sorted(rotation_steps), keystream(bytes([len(rotation_steps)]), 16), public_key)


@caught_by("test_the_noise_of_encryption_is_that_of_theory")
class EncryptsWithoutNoise(HonestDecryptor):
    """Fresh ciphertexts have only rounding as noise, and no errors.

    LWE without errors is linear algebra: one known plaintext gives the key.
    """

    def _encrypted(self, values: Values, scale: float, encoding: Encoding, std: float) -> Ciphertext:
        return super()._encrypted(values, scale, encoding, 0.0)


@caught_by("test_the_noise_of_encryption_is_that_of_theory")
class ClaimsRoomForMoreNoise(HonestBackend):
    """Public-key encryption of the client is claimed, and it encrypts symmetrically.

    A claim that makes every tolerance wider: a fault that hides in that room would not be seen.
    """

    capabilities = msgspec.structs.replace(HonestBackend.capabilities, symmetric_encryption=False)


@caught_by("test_the_noise_differs_between_slots_and_encryptions")
class DrawsOneErrorForAllSlots(HonestDecryptor):
    """One error is drawn for an encryption, and added to every slot.

    A sampler that is called once and broadcast.
    """

    def _noisy(self, values: Any, std: float, scale: float) -> Any:
        return values + super()._noisy(np.zeros(1, dtype=np.complex128), std, scale)


@caught_by("test_the_noise_of_many_encryptions_is_that_of_theory")
class DrawsErrorsWithABias(HonestDecryptor):
    """The mean of the errors is not zero.

    A sampler that rounds down; only ``--thorough`` averages enough to see it.
    """

    def _noisy(self, values: Any, std: float, scale: float) -> Any:
        return super()._noisy(values, std, scale) + 0.8 * std / scale


@caught_by("test_the_noise_of_a_rotation_is_that_of_theory")
class RotatesWithoutNoise(HonestEvaluator):
    """rotate adds no noise.

    Key-switching keys without errors hold the secret key in the clear.
    """

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        rotated = super().rotate(ciphertext, steps)
        return with_values(rotated, np.roll(ciphertext.values, -steps))


@caught_by("test_the_noise_of_a_rescale_is_that_of_theory")
class RescalesWithoutNoise(HonestEvaluator):
    """rescale divides exactly.

    Floating-point numbers where integers should be: no library can do that.
    """

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        return with_values(super().rescale(ciphertext), ciphertext.values)


@caught_by("test_the_noise_of_public_key_encryption_is_that_of_theory")
class EncryptsPubliclyWithoutErrors(HonestEvaluator):
    """Public-key encryption draws next to no errors.

    A public key (b, a) used as it is, without the ephemeral secret and its errors.
    """

    def _encrypted(self, values: Values, scale: float, encoding: Encoding, std: float) -> Ciphertext:
        return super()._encrypted(values, scale, encoding, std / 2**12)


@caught_by("test_public_key_and_symmetric_encryption_agree")
class EncryptsZeroPublicly(HonestEvaluator):
    """Public-key encryption encrypts zeros.

    A plaintext that is encoded and not added: the encryption of zero that every library has beside it.
    """

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        return super().encrypt_public(np.zeros_like(values), scale=scale, encoding=encoding)


@caught_by("test_public_key_encryption_is_fresh_each_time")
class EncryptsPubliclyByHeart(HonestEvaluator):
    """Public-key encryption of equal values gives equal ciphertexts.

    Randomness derived from the message, "for reproducible tests".
    """

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        self._rng = np.random.default_rng(list(values.tobytes()[:64]))
        return super().encrypt_public(values, scale=scale, encoding=encoding)


@caught_by("test_without_a_public_key_the_server_cannot_encrypt")
class AlwaysMakesAPublicKey(HonestBackend):
    """The server gets a public key whether or not one was asked for.

    What most libraries' key generation does; a server that can encrypt is asked to answer for more.
    """

    def keys_for(self, rotation_steps: Collection[int], public_key: bool) -> _EvaluationKeys:
        return super().keys_for(rotation_steps, True)


@caught_by("test_a_seed_repeats_the_noise_and_no_seed_does_not")
class DrawsFromAFixedSeed(HonestBackend):
    """Without a seed, the noise is that of seed 0.

    ``seed or 0``, or a test's seed left in.
    """

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[HonestDecryptor, HonestEvaluator]:
        return super().generate_keys(params, rotation_steps, public_key=public_key, seed=seed or 0)


@caught_by("test_a_fresh_ciphertext_travels_at_about_half_the_size")
class SendsBothPolynomials(HonestBackend):
    """A compressed upload is claimed, and fresh ciphertexts are as large as any.

    The seeded form is lost when a wrapper copies the ciphertext into an ordinary one.
    """

    capabilities = msgspec.structs.replace(HonestBackend.capabilities, compressed_upload=True)


@caught_by("test_randomness_is_its_own")
class DrawsFromTheGlobalGenerator(HonestDecryptor):
    """Errors come from ``np.random.normal``.

    The global generator, which any library may have seeded, and which 624 of its outputs predict.
    """

    def _noisy(self, values: Any, std: float, scale: float) -> Any:
        return values + np.random.normal(0.0, std / scale, 2 * values.size).view(np.complex128)


@caught_by("test_forked_processes_do_not_draw_alike")
class DrawsAlikeInForkedProcesses(HonestDecryptor):
    """A forked process goes on with a copy of its parent's generator.

    OpenFHE's is seeded once in each thread; the workers of a pre-forking server encrypt with equal errors.
    """

    def _noisy(self, values: Any, std: float, scale: float) -> Any:
        self._process = os.getpid()
        return super()._noisy(values, std, scale)


@caught_by("test_many_vectors_are_encrypted_and_decrypted_as_one_by_one")
class DrawsOnceForManyVectors(HonestDecryptor):
    """The vectors of one message have one error in common.

    A batched sampler that is broadcast: the difference of two ciphertexts is that of their values.
    """

    def encrypt_many(self, many: Sequence[Values], *, scale: float, encoding: Encoding = SLOTS) -> list[Ciphertext]:
        first = self.encrypt(many[0], scale=scale, encoding=encoding)
        exact = [self._encoder.encode(values, level=first.level, scale=scale, encoding=encoding) for values in many]
        return [with_values(first, first.values + (each.values - exact[0].values)) for each in exact]
