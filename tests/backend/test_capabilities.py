"""Plans are checked against a backend's capabilities: each claim must be true, and no ability left unclaimed."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helora_core.backend.capabilities import Capabilities, Encoding, RescaleMode
from helora_core.backend.checked_backend import checked
from helora_core.backend.ledger import Ledger
from helora_core.backend.protocol import SupportsHoisting, SupportsPublicKey
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


def negacyclic(left: Any, right: Any) -> Any:
    """The product of two polynomials modulo x^N + 1, term by term of the second."""
    total = np.zeros(2 * SLOTS)
    padded = np.pad(left, (0, 2 * SLOTS - left.size))
    for k, factor in enumerate(right):
        total += factor * np.concatenate([-padded[2 * SLOTS - k :], padded[: 2 * SLOTS - k]])
    return total


def test_capabilities_are_plain_data() -> None:
    abilities = Capabilities(encodings=frozenset(Encoding), rescale=RescaleMode.AUTOMATIC, hoisting=True)
    assert msgspec.json.decode(msgspec.json.encode(abilities), type=Capabilities) == abilities


class TestWhatIsSaidIsTrue:
    def test_a_seed_is_taken_where_seeded_keys_are_said_to_be(self, backend: Any, quick: Any) -> None:
        params = backend.resolve(quick)
        if backend.capabilities.seeded_keys:
            checked(backend).generate_keys(params, (1,), seed=7)
        else:
            with pytest.raises(CapabilityMissing, match="seed"):
                checked(backend).generate_keys(params, (1,), seed=7)

    def test_an_upload_is_about_half_where_it_is_said_to_be_compressed(self, backend: Any, roles: Any) -> None:
        fresh = roles.decryptor.serialize(roles.decryptor.encrypt(np.ones(SLOTS), scale=2.0**30))
        expanded = roles.evaluator.serialize(roles.evaluator.deserialize(fresh))
        assert (len(fresh) < 0.6 * len(expanded)) is backend.capabilities.compressed_upload
        assert len(fresh) > 0.4 * len(expanded)

    def test_the_evaluator_encrypts_where_a_public_key_is_said_to_be(self, backend: Any, quick: Any) -> None:
        assert isinstance(backend.generate_keys(backend.resolve(quick), ())[1], SupportsPublicKey) is (
            backend.capabilities.public_key
        )

    def test_the_evaluator_hoists_where_it_is_said_to(self, backend: Any, roles: Any) -> None:
        assert (
            isinstance(roles.evaluator.library, SupportsHoisting)
            is roles.evaluator.hoists
            is backend.capabilities.hoisting
        )

    def test_every_encoding_named_round_trips_without_cores_help(self, backend: Any, roles: Any) -> None:
        examples = {Encoding.COMPLEX_SLOTS: np.linspace(1, 2j, SLOTS), Encoding.SCALAR: np.array([3.0])}
        # tests/backend/test_exact_integers.py has those that are no values over a scale.
        for encoding in backend.capabilities.encodings - {Encoding.INTEGERS}:
            values = examples.get(encoding, np.linspace(-1, 1, SLOTS))
            fresh = roles.decryptor.encrypt(values, scale=2.0**30, encoding=encoding)
            found = roles.decryptor.decrypt(fresh, encoding=encoding)
            assert found.dtype == values.dtype
            np.testing.assert_allclose(found[: values.size], values, rtol=0, atol=CLOSE)

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

    @settings(max_examples=10)
    @given(size=st.integers(1, 2 * SLOTS), seed=st.integers(0, 2**32 - 1))
    def test_coefficients_round_trip(self, sessions: Any, size: int, seed: int) -> None:
        values = np.random.default_rng(seed).uniform(-1, 1, size)
        found = downloaded(sessions, uploaded(sessions, values, Encoding.COEFFICIENTS), Encoding.COEFFICIENTS)
        np.testing.assert_allclose(found, np.pad(values, (0, 2 * SLOTS - size)), rtol=0, atol=CLOSE)

    def test_products_of_coefficients_are_negacyclic_convolutions(self, sessions: Any) -> None:
        rng = np.random.default_rng(0)
        x, w = rng.uniform(-1, 1, 2 * SLOTS), rng.uniform(-1, 1, 5)
        factor = sessions.server.encoder.encode(w, level=TOP, scale_bits=30, encoding=Encoding.COEFFICIENTS)
        product = sessions.server.evaluator.multiply_plain(uploaded(sessions, x, Encoding.COEFFICIENTS), factor)
        found = downloaded(sessions, product, Encoding.COEFFICIENTS)
        np.testing.assert_allclose(found, negacyclic(x, w), rtol=0, atol=CLOSE)

    def test_the_constant_coefficient_is_a_scalar_and_stands_in_every_slot(self, sessions: Any) -> None:
        ciphertext = uploaded(sessions, np.array([2.5]), Encoding.COEFFICIENTS)
        np.testing.assert_allclose(downloaded(sessions, ciphertext, Encoding.SLOTS), np.full(SLOTS, 2.5), atol=CLOSE)
        assert downloaded(sessions, ciphertext, Encoding.SCALAR) == pytest.approx([2.5], abs=CLOSE)

    def test_complex_slots_multiply_and_rotate_as_such(self, sessions: Any) -> None:
        rng = np.random.default_rng(0)
        x, w = rng.uniform(-1, 1, (2, SLOTS)) + 1j * rng.uniform(-1, 1, (2, SLOTS))
        factor = sessions.server.encoder.encode(w, level=TOP, scale_bits=30, encoding=Encoding.COMPLEX_SLOTS)
        evaluator = sessions.server.evaluator
        rotated = evaluator.rotate(evaluator.multiply_plain(uploaded(sessions, x, Encoding.COMPLEX_SLOTS), factor), 5)
        found = downloaded(sessions, rotated, Encoding.COMPLEX_SLOTS)
        np.testing.assert_allclose(found, np.roll(x * w, -5), rtol=0, atol=CLOSE)
        np.testing.assert_allclose(
            downloaded(sessions, rotated, Encoding.SLOTS), np.roll(x * w, -5).real, rtol=0, atol=CLOSE
        )

    def test_a_scalar_factor_meets_every_slot(self, sessions: Any) -> None:
        x = np.linspace(-4, 4, SLOTS)
        half = sessions.server.encoder.encode(np.array([-0.5]), level=TOP, scale_bits=30, encoding=Encoding.SCALAR)
        product = sessions.server.evaluator.multiply_plain(uploaded(sessions, x, Encoding.SLOTS), half)
        np.testing.assert_allclose(downloaded(sessions, product, Encoding.SLOTS), -x / 2, rtol=0, atol=CLOSE)

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
