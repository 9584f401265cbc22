"""Encryption: fresh randomness, no trace of the plaintext in the bytes, and only the right key decrypts."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

from helora_core.backend.embedding import slots_to_coefficients
from helora_core.conformance.bench import SCALE_BITS, SLOTS, Bench
from helora_core.conformance.forks import in_a_fork
from helora_core.conformance.processes import drawn_in_processes
from helora_core.conformance.requirements import requires
from helora_core.conformance.secrets_in_bytes import strongest_correlation
from helora_core.conformance.values import random_slots
from helora_core.errors import CapabilityMissing, CorruptPayload, ForeignCiphertext
from helora_core.host.manager import get_manager


class Encryption:
    """Secrecy, as far as tests can see it."""

    def test_two_encryptions_of_the_same_values_differ(self, bench: Bench) -> None:
        values = random_slots(1)
        messages = {bench.client.send(bench.client.encrypt(values, scale_bits=SCALE_BITS)) for _ in range(4)}
        assert len(messages) == 4

    def test_two_encryptions_of_the_same_values_differ_when_decrypted(self, bench: Bench) -> None:
        """Randomness that only changes the bytes is not enough: the noise must be fresh as well."""
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
        """The raw bytes, read by another key pair's decryptor, must not give the values, even without checks."""
        _only_if_it_claims_security(bench)
        values = random_slots(4)
        owner, _ = bench.backend.generate_keys(bench.params, ())
        mallory, _ = bench.backend.generate_keys(bench.params, ())
        payload = owner.serialize(owner.encrypt(values, scale=2.0**SCALE_BITS))
        try:
            read = mallory.decrypt(mallory.deserialize(payload))
        except (CorruptPayload, ForeignCiphertext):
            return
        assert np.max(np.abs(read - values)) > 1.0
        assert abs(float(np.corrcoef(read, values)[0, 1])) < 0.2

    def test_the_bytes_do_not_contain_the_plaintext(self, bench: Bench) -> None:
        """Neither the values nor their encoded coefficients, in any number format, at any scale, at any offset."""
        _only_if_it_claims_security(bench)
        values = random_slots(5)
        message = bench.client.send(bench.client.encrypt(values, scale_bits=SCALE_BITS))
        coefficients = slots_to_coefficients(
            values.astype(np.complex128), bench.params.ring_degree, bench.capabilities.slot_generator
        )
        for name, secret in (("values", values), ("coefficients", coefficients)):
            found = strongest_correlation(message, secret)
            assert found < 0.3, f"numbers in the bytes agree with the {name}: correlation {found:.2f}"

    def test_encryptions_of_equal_values_are_no_more_alike_than_others(self, bench: Bench) -> None:
        _only_if_it_claims_security(bench)
        ones, again, others = (
            np.frombuffer(bench.client.send(bench.client.encrypt(values, scale_bits=SCALE_BITS)), dtype=np.uint8)
            for values in (np.ones(SLOTS), np.ones(SLOTS), random_slots(8))
        )
        size = min(ones.size, again.size, others.size)
        equal, unequal = (float(np.mean(ones[:size] == other[:size])) for other in (again, others))
        assert equal < unequal + 0.02, f"{equal:.1%} of the bytes are the same, and {unequal:.1%} for other values"

    def test_equal_values_leave_no_pattern_in_the_bytes(self, bench: Bench) -> None:
        """Encrypted ones must look like anything else: no byte is frequent, and none repeats slots later."""
        _only_if_it_claims_security(bench)
        message = bench.client.send(bench.client.encrypt(np.ones(SLOTS), scale_bits=SCALE_BITS))
        seen = np.frombuffer(message, dtype=np.uint8)
        # Residues below 2^40 in words of 64 bits leave three bytes in eight zero.
        frequent = np.bincount(seen[seen != 0], minlength=256).max() / seen.size
        assert frequent < 0.05, f"one byte value makes up {frequent:.1%}"
        for period in (4, 8, 16, 32, 64):
            repeated = float(np.mean((seen[period:] == seen[:-period]) & (seen[period:] != 0)))
            assert repeated < 0.2, f"{repeated:.1%} of the bytes come again {period} bytes later"

    @requires("public key")
    def test_public_key_and_symmetric_encryption_agree(self, bench: Bench) -> None:
        values = random_slots(6)
        public = bench.server.encrypt_public(values, scale_bits=SCALE_BITS)
        expected = bench.fresh(values, public=True)
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
        with pytest.raises(CapabilityMissing):
            evaluator.encrypt_public(np.ones(4), scale=2.0**SCALE_BITS)

    @requires("no public key")
    def test_a_public_key_is_refused_unless_it_is_claimed(self, bench: Bench) -> None:
        with pytest.raises(CapabilityMissing):
            bench.backend.generate_keys(bench.params, (), public_key=True)

    def test_randomness_is_its_own(self, bench: Bench) -> None:
        """A backend must not use the global generators, which anyone can seed, and must not disturb them."""
        before = random.getstate(), repr(np.random.get_state())
        client, server = bench.open(steps=(1,))
        sealed = client.encrypt(random_slots(9), scale_bits=SCALE_BITS)
        client.decrypt(server.evaluator.rotate(server.receive(client.send(sealed)), 1))
        assert (random.getstate(), repr(np.random.get_state())) == before

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
    def test_forked_processes_do_not_draw_alike(self, bench: Bench) -> None:
        """A generator is copied with its process: two workers would then encrypt with the same errors, and the
        difference of their ciphertexts would show that of their messages to anyone. Refusing in the child is right."""
        _only_if_it_claims_security(bench)
        public = bench.capabilities.public_key
        decryptor, evaluator = bench.backend.generate_keys(bench.params, (), public_key=public)
        scale = 2.0**SCALE_BITS

        def by_the_client() -> bytes:
            return decryptor.decrypt(decryptor.encrypt(np.ones(4), scale=scale)).tobytes()

        def by_the_server() -> bytes:
            return decryptor.decrypt(evaluator.encrypt_public(np.ones(4), scale=scale)).tobytes()

        for drawn in (by_the_client, *([by_the_server] if public else [])):
            drawn()
            in_the_child = in_a_fork(drawn)
            assert not in_the_child or in_the_child != drawn(), f"both processes drew the same errors {drawn.__name__}"

    def test_two_processes_do_not_draw_alike(self, bench: Bench) -> None:
        """No generator may start with the same state in every process."""
        _only_if_it_claims_security(bench)
        if bench.backend.name not in get_manager().backends():
            pytest.skip("not registered")
        first, second = drawn_in_processes(bench.backend.name)
        assert not [name for name in first if first[name] == second[name]]

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


def _only_if_it_claims_security(bench: Bench) -> None:
    registered = get_manager().backends().get(bench.backend.name)
    if registered is not None and not registered.spec.provides_security:
        pytest.skip("not claimed: security")
