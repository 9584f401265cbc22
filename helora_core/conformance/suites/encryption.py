"""Encryption: fresh randomness, nothing of the plaintext in the bytes, and only the right key opens it."""

from __future__ import annotations

import numpy as np
import pytest

from helora_core.backend.protocol import SupportsPublicKey
from helora_core.conformance.bench import SCALE_BITS, SLOTS, Bench
from helora_core.conformance.requirements import requires
from helora_core.conformance.tolerance import Expected
from helora_core.conformance.values import random_slots
from helora_core.errors import CapabilityMissing, ForeignCiphertext


class Encryption:
    """Secrecy, as far as tests can see it."""

    def test_two_encryptions_of_the_same_values_differ(self, bench: Bench) -> None:
        values = random_slots(1)
        messages = {bench.client.send(bench.client.encrypt(values, scale_bits=SCALE_BITS)) for _ in range(4)}
        assert len(messages) == 4

    def test_two_encryptions_of_the_same_values_differ_when_decrypted(self, bench: Bench) -> None:
        """Randomness that only salts the bytes is none: the noise must be fresh as well."""
        values = random_slots(2)
        first, second = (bench.decrypted(bench.encrypted(values)[0]) for _ in range(2))
        assert (first != second).any()

    def test_two_key_generations_give_different_keys(self, bench: Bench) -> None:
        keys = {bench.open(steps=(1,))[0].evaluation_keys() for _ in range(2)}
        assert len(keys) == 2

    def test_another_client_cannot_decrypt(self, bench: Bench) -> None:
        mallory, _ = bench.open(steps=())
        ciphertext, _ = bench.encrypted(random_slots(3))
        with pytest.raises(ForeignCiphertext):
            mallory.decrypt(ciphertext)

    def test_another_key_opens_nothing_even_where_checks_are_bypassed(self, bench: Bench) -> None:
        """The raw bytes, read by another key pair's decryptor, must not give the values: a key is for that."""
        if not _provides_security(bench):
            pytest.skip("not claimed: security")
        values = random_slots(4)
        owner, _ = bench.backend.generate_keys(bench.params, ())
        mallory, _ = bench.backend.generate_keys(bench.params, ())
        payload = owner.serialize(owner.encrypt(values, scale=2.0**SCALE_BITS))
        read = mallory.decrypt(mallory.deserialize(payload))
        assert np.max(np.abs(read - values)) > 1.0

    def test_the_bytes_do_not_contain_the_plaintext(self, bench: Bench) -> None:
        if not _provides_security(bench):
            pytest.skip("not claimed: security")
        values = random_slots(5)
        message = bench.client.send(bench.client.encrypt(values, scale_bits=SCALE_BITS))
        for seen in (values, np.round(values * 2.0**SCALE_BITS).astype(np.int64), values.astype(np.float32)):
            for width in (seen.itemsize * 2, seen.itemsize * 4):
                assert seen.tobytes()[:width] not in message

    def test_equal_values_leave_no_pattern_in_the_bytes(self, bench: Bench) -> None:
        """All ones, encrypted, must look like anything else: no byte value is much more frequent than another."""
        if not _provides_security(bench):
            pytest.skip("not claimed: security")
        message = bench.client.send(bench.client.encrypt(np.ones(SLOTS), scale_bits=SCALE_BITS))
        frequent = np.bincount(np.frombuffer(message, dtype=np.uint8), minlength=256).max() / len(message)
        # Residues below 2^60 in words of 64 bits leave one nibble in sixteen zero, hence many zero bytes.
        assert frequent < 0.25

    @requires("public key")
    def test_public_key_and_symmetric_encryption_agree(self, bench: Bench) -> None:
        values = random_slots(6)
        public = bench.server.encrypt_public(values, scale_bits=SCALE_BITS)
        expected = Expected.fresh(values, bench.params, SCALE_BITS, public=True)
        bench.agrees(public, expected)
        private, also = bench.encrypted(values)
        bench.agrees(bench.evaluator.sub(public, private), expected.sub(also))

    @requires("public key")
    def test_public_key_encryption_is_fresh_each_time(self, bench: Bench) -> None:
        messages = {bench.server.send(bench.server.encrypt_public(np.ones(4), scale_bits=SCALE_BITS)) for _ in range(3)}
        assert len(messages) == 3

    @requires("public key")
    def test_without_a_public_key_the_server_cannot_encrypt(self, bench: Bench) -> None:
        _, evaluator = bench.backend.generate_keys(bench.params, ())
        assert isinstance(evaluator, SupportsPublicKey)
        with pytest.raises(CapabilityMissing):
            evaluator.encrypt_public(np.ones(4), scale=2.0**SCALE_BITS)

    @requires("seeded keys")
    def test_a_seed_repeats_the_noise_and_no_seed_does_not(self, bench: Bench) -> None:
        def noise(seed: int | None) -> bytes:
            decryptor, _ = bench.backend.generate_keys(bench.params, (), seed=seed)
            return decryptor.decrypt(decryptor.encrypt(np.ones(8), scale=2.0**SCALE_BITS)).tobytes()

        assert noise(7) == noise(7)
        assert noise(7) != noise(8)
        assert noise(None) != noise(None)

    @requires("compressed upload")
    def test_a_fresh_ciphertext_travels_at_about_half_the_size(self, bench: Bench) -> None:
        sealed = bench.client.encrypt(random_slots(7), scale_bits=SCALE_BITS)
        upload = bench.client.send(sealed)
        assert len(upload) < 0.6 * len(bench.server.send(bench.server.receive(upload)))


def _provides_security(bench: Bench) -> bool:
    from helora_core.manager import get_manager

    registered = get_manager().backends().get(bench.backend.name)
    return registered is None or registered.spec.provides_security
