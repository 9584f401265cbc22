"""What core makes of a backend's capabilities; that each claim is true is a law of the conformance kit."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import numpy as np
import pytest

from helora_core.backend.capabilities import Capabilities, Encoding, RescaleMode
from helora_core.backend.ledger import Ledger
from helora_core.backend.session import ClientSession
from helora_core.errors import CapabilityMissing, InvalidInput, MissingRotationKey, SlotOverflow

SLOTS, TOP = 512, 2
CLOSE = 1e-3


def uploaded(sessions: Any, values: Any, encoding: Encoding) -> Any:
    client, server = sessions.client, sessions.server
    return server.receive(client.send(client.encrypt(values, scale_bits=30, encoding=encoding)))


def downloaded(sessions: Any, ciphertext: Any, encoding: Encoding) -> Any:
    client = sessions.client
    return client.decrypt(client.receive(sessions.server.send(ciphertext)), encoding=encoding)


def test_capabilities_are_plain_data() -> None:
    abilities = Capabilities(encodings=frozenset(Encoding), rescale=RescaleMode.AUTOMATIC, hoisting=True)
    assert msgspec.json.decode(msgspec.json.encode(abilities), type=Capabilities) == abilities


class TestWhatIsSaidIsTrue:
    def test_an_upload_is_about_half_where_it_is_said_to_be_compressed(self, backend: Any, roles: Any) -> None:
        fresh = roles.decryptor.serialize(roles.decryptor.encrypt(np.ones(SLOTS), scale=2.0**30))
        expanded = roles.evaluator.serialize(roles.evaluator.deserialize(fresh))
        assert (len(fresh) < 0.6 * len(expanded)) is backend.capabilities.compressed_upload
        assert len(fresh) > 0.4 * len(expanded)

    @pytest.mark.parametrize("encoding", Encoding)
    def test_encodings_not_named_are_refused_rather_than_taken_for_others(
        self, backend: Any, roles: Any, refused: Any, encoding: Encoding
    ) -> None:
        if encoding in backend.capabilities.encodings:
            return
        fresh = roles.decryptor.encrypt(np.ones(4), scale=2.0**30)
        for call in (
            lambda: roles.decryptor.encrypt(np.ones(4), scale=2.0**30, encoding=encoding),
            lambda: roles.evaluator.encoder.encode(np.ones(4), level=TOP, scale=2.0**30, encoding=encoding),
            lambda: roles.decryptor.decrypt(fresh, encoding=encoding),
        ):
            with refused(CapabilityMissing, encoding.value, hint="session"):
                call()


class TestEncodings:
    """Through the sessions, where core makes the encodings that a backend lacks."""

    @pytest.mark.parametrize(
        ("values", "encoding", "error"),
        [
            (np.ones(SLOTS + 1, dtype=complex), Encoding.COMPLEX_SLOTS, SlotOverflow),
            (np.ones(2 * SLOTS + 1), Encoding.COEFFICIENTS, SlotOverflow),
            (np.ones(2), Encoding.SCALAR, InvalidInput),
            (np.ones(2), Encoding.COMPLEX_SLOTS, InvalidInput),
            (np.ones(2, dtype=complex), Encoding.SLOTS, InvalidInput),
            (np.ones(2, dtype=complex), Encoding.COEFFICIENTS, InvalidInput),
            (np.array([1 + 1j * np.nan]), Encoding.COMPLEX_SLOTS, InvalidInput),
        ],
    )
    def test_each_encoding_refuses_what_it_cannot_hold(
        self, sessions: Any, values: Any, encoding: Encoding, error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            sessions.client.encrypt(values, scale_bits=30, encoding=encoding)
        with pytest.raises(error):
            sessions.server.encoder.encode(values, level=TOP, scale_bits=30, encoding=encoding)

    def test_a_backend_without_complex_slots_has_no_coefficients(self, sessions: Any, backend: Any) -> None:
        plain = msgspec.structs.replace(backend.capabilities, encodings=frozenset({Encoding.SLOTS}))
        client = ClientSession(sessions.client._decryptor, sessions.client.params, plain)
        encoder = copy.copy(sessions.server.encoder)
        encoder.capabilities = plain
        for refused in (
            lambda: client.encrypt(np.ones(3), scale_bits=30, encoding=Encoding.COEFFICIENTS),
            lambda: client.decrypt(client.encrypt(np.ones(3), scale_bits=30), encoding=Encoding.COEFFICIENTS),
            lambda: encoder.encode(np.ones(3), level=TOP, scale_bits=30, encoding=Encoding.COEFFICIENTS),
        ):
            with pytest.raises(CapabilityMissing, match="coefficients"):
                refused()

    def test_scalars_are_made_of_slots_where_the_backend_has_none(self, sessions: Any, backend: Any) -> None:
        plain = msgspec.structs.replace(backend.capabilities, encodings=frozenset({Encoding.SLOTS}))
        client = ClientSession(sessions.client._decryptor, sessions.client.params, plain)
        ciphertext = client.encrypt(np.array([2.5]), scale_bits=30, encoding=Encoding.SCALAR)
        np.testing.assert_allclose(client.decrypt(ciphertext), np.full(SLOTS, 2.5), atol=CLOSE)
        assert client.decrypt(ciphertext, encoding=Encoding.SCALAR) == pytest.approx([2.5], abs=CLOSE)


class TestRotateMany:
    def evaluators(self, sessions: Any, ledger: Ledger) -> Any:
        """The backend's own evaluator, metered, and one without hoisting, for which core steps in."""
        own = sessions.server.evaluator._evaluator

        without = copy.copy(own)
        without.hoists = False
        for evaluator in (own, without):
            metered = copy.copy(sessions.server.evaluator)
            metered._evaluator, metered._ledger = evaluator, ledger
            yield metered

    def test_it_is_one_rotation_per_step_each_counted(self, sessions: Any) -> None:
        x = np.linspace(-4, 4, SLOTS)
        ledger = Ledger()
        for evaluator in self.evaluators(sessions, ledger):
            ledger.reset()
            results = evaluator.rotate_many(uploaded(sessions, x, Encoding.SLOTS), [1, 0, 5, SLOTS - 1])
            for steps, result in zip([1, 0, 5, SLOTS - 1], results, strict=True):
                np.testing.assert_allclose(
                    downloaded(sessions, result, Encoding.SLOTS), np.roll(x, -steps), rtol=0, atol=CLOSE
                )
            assert (ledger.counts().rotations, ledger.counts().keyswitches) == (3, 3)

    def test_a_missing_key_among_the_steps_is_refused(self, sessions: Any) -> None:
        for evaluator in self.evaluators(sessions, Ledger()):
            with pytest.raises(MissingRotationKey):
                evaluator.rotate_many(uploaded(sessions, np.ones(3), Encoding.SLOTS), [1, 3])
