"""Doubles that lose something in serialisation, or accept bytes that are not theirs."""

from __future__ import annotations

import pickle
from dataclasses import replace

import msgspec
import numpy as np

from doubles.honest import HEADER_BYTES, NONCE_BYTES, HonestBackend, HonestEvaluator, HonestRole
from doubles.registry import caught_by
from helora_core.errors import CorruptPayload
from helora_core.params.ckks import CKKSParams
from helora_numpy.backend import EmulatedCiphertext as Ciphertext
from helora_numpy.backend import _EvaluationKeys


@caught_by("test_a_round_trip_keeps_value_level_and_scale")
class LosesTheLevelOnTheWay(HonestRole):
    """A ciphertext that was sent is at the highest level.

    Pyfhel's ``mod_level``, which is not serialised.
    """

    def deserialize(self, payload: bytes) -> Ciphertext:
        return replace(super().deserialize(payload), level=self.params.max_level)


@caught_by("test_a_round_trip_keeps_value_level_and_scale")
class LosesTheScaleOnTheWay(HonestRole):
    """A ciphertext that was sent has the parameters' scale.

    Libraries that serialise the polynomials and leave the scale to the program.
    """

    def deserialize(self, payload: bytes) -> Ciphertext:
        received = super().deserialize(payload)
        nominal = 2.0**self.params.scale_bits
        return replace(received, values=received.values * (received.scale / nominal), scale=nominal)


@caught_by("test_a_ciphertext_of_another_client_is_refused")
class GivesAllItsKeysOneName(HonestRole):
    """The session is told one key id, whatever the key pair.

    An id of the context or of the library in place of the key's.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.key_id = bytes(16)


@caught_by("test_a_backend_called_directly_refuses_a_truncated_ciphertext")
class PadsTruncatedCiphertexts(HonestRole):
    """Missing bytes at the end of a ciphertext are read as zeros.

    A buffer of the right size, filled with what came.
    """

    def deserialize(self, payload: bytes) -> Ciphertext:
        body = HEADER_BYTES + NONCE_BYTES
        missing = body + 16 * self.params.slots - len(payload)
        if missing <= 0 or len(payload) <= body:
            return super().deserialize(payload)
        content = self.masked(payload[body:], payload[HEADER_BYTES:body])
        return super(HonestRole, self).deserialize(payload[:HEADER_BYTES] + content + bytes(missing))


@caught_by("test_a_backend_called_directly_refuses_garbage_and_does_not_crash")
class MakesKeysOfGarbage(HonestBackend):
    """Bytes that are not evaluation keys give a server without keys.

    ``except Exception: keys = None``, and the first rotation fails far from here.
    """

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> HonestEvaluator:
        try:
            return super().load_evaluator(params, evaluation_keys)
        except msgspec.DecodeError:
            keys = _EvaluationKeys([], bytes(16), False)
            return self.evaluator_type(params, keys, np.random.default_rng())


@caught_by("test_a_backend_called_directly_refuses_truncated_keys")
class MakesDoWithTruncatedKeys(HonestBackend):
    """Evaluation keys that end early give a server with the steps that were read.

    A reader in a loop "until the stream ends".
    """

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> HonestEvaluator:
        try:
            return super().load_evaluator(params, evaluation_keys)
        except msgspec.DecodeError:
            nothing = msgspec.msgpack.encode(_EvaluationKeys([], bytes(16), False))
            if len(evaluation_keys) < 2 or evaluation_keys[0] != nothing[0]:
                raise
            return super().load_evaluator(params, nothing)


@caught_by("test_bytes_are_data_and_never_code")
class ReadsPickles(HonestRole):
    """Ciphertexts travel as pickles.

    ``pickle.loads`` of what a stranger sent runs what the stranger wrote; Python wrappers of libraries offer it.
    """

    def serialize(self, ciphertext: Ciphertext) -> bytes:
        return pickle.dumps(super().serialize(ciphertext))

    def deserialize(self, payload: bytes) -> Ciphertext:
        try:
            return super().deserialize(pickle.loads(payload))
        except Exception as error:
            raise CorruptPayload("no pickle", hint="Send it again.") from error


@caught_by("test_a_ciphertext_of_other_parameters_is_refused")
class ReadsTheBeginningOfAnything(HonestRole):
    """Only the beginning of a ciphertext that is too large is read.

    OpenFHE's serialised objects carry a context of their own: what is read is a right ciphertext, of another ring.
    """

    def deserialize(self, payload: bytes) -> Ciphertext:
        whole = HEADER_BYTES + NONCE_BYTES + 16 * self.params.slots
        if len(payload) <= whole:
            return super().deserialize(payload)
        zeros = np.zeros(self.params.slots, dtype=np.complex128)
        return Ciphertext(zeros, self.params.max_level, 2.0**self.params.scale_bits)
