"""The laws of the backend protocol on Pyfhel, below core's sessions where not said otherwise."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helora_core.backend.base import EvaluationKeys
from helora_core.backend.capabilities import Encoding
from helora_core.backend.checked_backend import checked
from helora_core.backend.session import InsecureParametersWarning, open_sessions
from helora_core.errors import CapabilityMissing, MissingRotationKey
from helora_core.params.ckks import CKKSParams

pytest.importorskip("Pyfhel")

from helora_pyfhel.backend import PyfhelBackend
from helora_pyfhel.context import Context
from helora_pyfhel.keys import galois_elements

QUICK = CKKSParams(ring_degree=1024, data_bits=(48, 30, 34), special_bits=(48,), scale_bits=30)
SLOTS = QUICK.slots
TOP = QUICK.max_level
STEPS = (1, 2, 4, 7, 8, SLOTS // 2, SLOTS - 2, SLOTS - 1)
SCALE = 2.0**30
# Far above the noise of any operation at this scale, far below any difference between the values used.
CLOSE = 1e-3

law = settings(deadline=None, max_examples=15)
seeds = st.integers(0, 2**32 - 1)


def vector(seed: int, size: int = SLOTS) -> Any:
    return np.random.default_rng(seed).uniform(-8, 8, size)


def assert_close(found: Any, expected: Any) -> None:
    assert found.dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)


class TestEncodings:
    @law
    @given(seed=seeds, size=st.integers(1, SLOTS))
    def test_slots_come_back_and_the_rest_is_zero(self, roles: Any, seed: int, size: int) -> None:
        values = vector(seed, size)
        assert_close(roles.decrypted(roles.encrypted(values)), np.pad(values, (0, SLOTS - size)))

    def test_complex_slots_keep_both_parts(self, roles: Any) -> None:
        values = vector(0) + 1j * vector(1)
        ciphertext = roles.encrypted(values, encoding=Encoding.COMPLEX_SLOTS)
        assert_close(roles.decrypted(ciphertext, Encoding.COMPLEX_SLOTS), values)
        assert_close(roles.decrypted(ciphertext), values.real)

    def test_values_may_be_strided_or_read_only(self, roles: Any) -> None:
        values = vector(0, 2 * SLOTS)
        values.flags.writeable = False
        assert_close(roles.decrypted(roles.encrypted(values[::2])), values[::2])
        assert_close(roles.decrypted(roles.encrypted(values[:SLOTS])), values[:SLOTS])

    @pytest.mark.parametrize("scale", [SCALE, 2.0**25, 3e8])
    def test_a_fresh_ciphertext_is_at_the_top_with_the_scale_asked_for(self, roles: Any, scale: float) -> None:
        fresh = roles.client.encrypt(vector(0), scale=scale)
        assert (roles.client.level(fresh), roles.client.scale(fresh)) == (TOP, scale)

    def test_each_encryption_is_fresh(self, roles: Any) -> None:
        fresh = [roles.client.encrypt(vector(0), scale=SCALE) for _ in range(4)]
        assert len({roles.client.serialize(each) for each in fresh}) == 4
        assert len({roles.client.decrypt(each).tobytes() for each in fresh}) == 4

    def test_a_plaintext_encoded_at_a_level_is_what_seal_gets_by_dropping_primes(self, roles: Any) -> None:
        """There is no way to ask Pyfhel for a level: a second object whose chain ends there encodes."""
        pyfhel = Context(roles.params).pyfhel
        dropped = pyfhel.encodeFrac(vector(0), scale=2.0**20)
        for level in (1, 0):
            dropped = pyfhel.mod_switch_to_next_ptxt(dropped)
            assert roles.encoded(vector(0), level, 2.0**20).data.to_bytes("none") == dropped.to_bytes("none")


@pytest.fixture(scope="module")
def sessions() -> Any:
    with pytest.warns(InsecureParametersWarning):
        return open_sessions(checked(PyfhelBackend()), QUICK, (1,), public_key=True, insecure=True)


class TestSessions:
    """Through core's sessions: the encodings that core makes of slots, and the public key."""

    def test_products_of_coefficients_are_negacyclic_convolutions(self, sessions: Any) -> None:
        client, server = sessions
        values, shift = vector(0, 2 * SLOTS), np.zeros(2 * SLOTS)
        shift[3] = -2.0
        fresh = client.encrypt(values, scale_bits=30, encoding=Encoding.COEFFICIENTS)
        encoded = server.encoder.encode(shift, level=TOP, scale_bits=30, encoding=Encoding.COEFFICIENTS)
        product = server.evaluator.multiply_plain(server.receive(client.send(fresh)), encoded)
        found = client.decrypt(client.receive(server.send(product)), encoding=Encoding.COEFFICIENTS)
        assert_close(found, -2.0 * np.concatenate([-values[-3:], values[:-3]]))

    def test_a_scalar_multiplies_every_slot(self, sessions: Any) -> None:
        client, server = sessions
        scalar = server.encoder.encode(np.array([-2.5]), level=TOP, scale_bits=30, encoding=Encoding.SCALAR)
        product = server.evaluator.multiply_plain(client.encrypt(vector(0), scale_bits=30), scalar)
        assert_close(client.decrypt(product), -2.5 * vector(0))

    def test_the_server_encrypts_with_the_public_key(self, sessions: Any) -> None:
        client, server = sessions
        public = [server.encrypt_public(vector(0), scale_bits=30) for _ in range(2)]
        assert server.send(public[0]) != server.send(public[1])
        own = client.encrypt(vector(1), scale_bits=30)
        assert_close(client.decrypt(server.evaluator.add(public[0], own)), vector(0) + vector(1))

    def test_without_a_public_key_the_server_cannot_encrypt(self) -> None:
        backend = checked(PyfhelBackend())
        _, evaluator = backend.generate_keys(backend.resolve(QUICK), (1,))
        with pytest.raises(CapabilityMissing):
            evaluator.encrypt_public(vector(0), scale=SCALE)


class TestRotation:
    @pytest.mark.parametrize("steps", [*STEPS, -1, -2, SLOTS + 1])
    def test_rotates_left_and_wraps(self, roles: Any, steps: int) -> None:
        ciphertext = roles.encrypted(vector(0))
        rotated = roles.server.rotate(ciphertext, steps)
        assert_close(roles.decrypted(rotated), np.roll(vector(0), -steps))
        assert roles.server.scale(rotated) == SCALE

    @pytest.mark.parametrize("level", [TOP, 1, 0])
    def test_rotates_at_every_level(self, roles: Any, level: int) -> None:
        rotated = roles.server.rotate(roles.lowered(roles.encrypted(vector(0)), level), 7)
        assert_close(roles.decrypted(rotated), np.roll(vector(0), -7))
        assert roles.server.level(rotated) == level

    @pytest.mark.parametrize("steps", [0, SLOTS, -SLOTS])
    def test_rotating_by_nothing_adds_no_noise(self, roles: Any, steps: int) -> None:
        ciphertext = roles.encrypted(vector(0))
        assert np.array_equal(roles.decrypted(roles.server.rotate(ciphertext, steps)), roles.decrypted(ciphertext))

    @pytest.mark.parametrize("steps", [3, 6, 9, 10, SLOTS // 2 + 1, -3])
    def test_a_step_without_its_own_key_is_refused(self, roles: Any, steps: int) -> None:
        with pytest.raises(MissingRotationKey, match=f"by {steps % SLOTS}"):
            roles.server.rotate(roles.encrypted(vector(0)), steps)

    def test_pyfhel_itself_would_compose_the_step(self, roles: Any) -> None:
        """Why the refusal must be ours: if this fails, a comment in the README is out of date."""
        ciphertext = roles.encrypted(vector(0))
        composed = roles.server.library._context.pyfhel.rotate(ciphertext.data, 3, in_new_ctxt=True)
        assert_close(roles.client.decrypt(msgspec.structs.replace(ciphertext, data=composed)), np.roll(vector(0), -3))

    @pytest.mark.parametrize("steps", [(), (1,), (3, 5, SLOTS - 1), STEPS])
    def test_keys_are_made_for_exactly_the_steps(self, steps: tuple[int, ...]) -> None:
        """Counted in SEAL's serialised form; 3 generates the rotations in SEAL."""
        backend = checked(PyfhelBackend())
        decryptor, evaluator = backend.generate_keys(backend.resolve(QUICK), steps)
        sent = msgspec.msgpack.decode(decryptor.evaluation_keys(), type=EvaluationKeys)
        held = [
            b"" if pyfhel.is_rotate_key_empty() else pyfhel.to_bytes_rotate_key("none")
            for pyfhel in (decryptor._library._keyed, evaluator.library._context.pyfhel)
        ]
        for keys in (sent.rotation_keys, *held):
            assert galois_elements(keys) == {pow(3, step, 2 * QUICK.ring_degree) for step in steps}

    def test_without_keys_pyfhel_must_not_make_some_of_its_own(self) -> None:
        backend = checked(PyfhelBackend())
        decryptor, evaluator = backend.generate_keys(backend.resolve(QUICK), ())
        with pytest.raises(MissingRotationKey):
            evaluator.rotate(decryptor.encrypt(vector(0), scale=SCALE), 1)
        assert evaluator.library._context.pyfhel.is_rotate_key_empty()


class TestArithmetic:
    def test_sums_differences_and_negatives(self, roles: Any) -> None:
        a, b = vector(0), vector(1)
        for level in (TOP, 0):
            x, y = (roles.lowered(roles.encrypted(values), level) for values in (a, b))
            plain = roles.encoded(b, level, roles.server.scale(x))
            for found, expected in (
                (roles.server.add(x, y), a + b),
                (roles.server.sub(x, y), a - b),
                (roles.server.add(x, x), a + a),
                (roles.server.negate(x), -a),
                (roles.server.add_plain(x, plain), a + b),
            ):
                assert_close(roles.decrypted(found), expected)
                assert (roles.server.level(found), roles.server.scale(found)) == (level, roles.server.scale(x))

    def test_products_multiply_scales_and_rescales_divide_them_by_the_very_prime(self, roles: Any) -> None:
        ciphertext, expected = roles.encrypted(vector(0)), vector(0)
        for level in (2, 1):
            scale, factor = roles.server.scale(ciphertext), vector(level) / 8
            product = roles.server.multiply_plain(ciphertext, roles.encoded(factor, level, 2.0**33))
            assert (roles.server.level(product), roles.server.scale(product)) == (level, scale * 2.0**33)
            ciphertext, expected = roles.server.rescale(product), expected * factor
            prime = roles.params.data_primes[level]
            assert (roles.server.level(ciphertext), roles.server.scale(ciphertext)) == (
                level - 1,
                scale * 2**33 / prime,
            )
            assert_close(roles.decrypted(ciphertext), expected)

    def test_no_operation_alters_its_operands(self, roles: Any) -> None:
        x, y, plain = roles.encrypted(vector(0)), roles.encrypted(vector(1)), roles.encoded(vector(2))
        before = [roles.server.serialize(x), roles.server.serialize(y), plain.data.to_bytes("none")]
        server = roles.server
        server.add(x, y), server.sub(x, y), server.negate(x), server.rotate(x, 1), server.rescale(x)
        server.add_plain(x, plain), server.multiply_plain(x, plain)
        assert [server.serialize(x), server.serialize(y), plain.data.to_bytes("none")] == before

    @pytest.mark.parametrize("zeros", [np.zeros(1), np.zeros(SLOTS), np.full(SLOTS, 1e-15)])
    def test_a_product_with_zeros_is_a_ciphertext_of_zeros(self, roles: Any, zeros: Any) -> None:
        plaintext = roles.encoded(zeros)
        assert not plaintext.data.is_zero(), "the product would have no secret, and be readable by anyone"
        product = roles.server.multiply_plain(roles.encrypted(vector(0)), plaintext)
        assert_close(roles.decrypted(product), np.zeros(SLOTS))
        assert_close(roles.decrypted(roles.server.rotate(product, 1)), np.zeros(SLOTS))

    def test_a_difference_of_equals_is_zero_and_can_be_computed_with(self, roles: Any) -> None:
        """SEAL raises on each of these, after computing them."""
        x = roles.encrypted(vector(0))
        server, nothing = roles.server, roles.server.sub(x, x)
        assert not roles.decrypted(nothing).any()
        for found in (server.negate(nothing), server.rotate(nothing, 1), server.add(nothing, nothing)):
            assert not roles.decrypted(found).any()
        shifted = server.rotate(server.add_plain(nothing, roles.encoded(vector(1))), 2)
        product = server.rescale(server.multiply_plain(shifted, roles.encoded(vector(2))))
        assert server.level(product) == TOP - 1
        assert_close(roles.decrypted(product), np.roll(vector(1), -2) * vector(2))
        assert_close(roles.decrypted(server.add(nothing, x)), vector(0))
