"""What is SEAL's own: its keys, its primes, its bytes, and what the bindings make easy to get wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
import tenseal.sealapi as seal

from helora_core.backend.capabilities import Encoding
from helora_core.backend.checked_backend import checked
from helora_core.backend.session import InsecureParametersWarning, open_sessions
from helora_core.errors import CapabilityMissing, CorruptPayload, InvalidParameters, MissingRotationKey
from helora_core.params.ckks import CKKSParams
from helora_core.params.presets import FAST
from helora_tenseal.backend import TenSEALBackend
from helora_tenseal.context import Context
from helora_tenseal.seal_bytes import load, saved

BACKEND = checked(TenSEALBackend())
NOMINAL = CKKSParams(ring_degree=1024, data_bits=(40, 30, 30), special_bits=(40,), scale_bits=30)
PARAMS = BACKEND.resolve(NOMINAL)
SLOTS = PARAMS.slots
V = np.linspace(-4, 4, SLOTS)
SCALE = 2.0**30
NO_KEY_BYTES = 64


@pytest.fixture
def key_generators(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """SEAL's key generators, as they are made: the one place where a secret key can be had from outside."""
    made: list[Any] = []

    def generator(context: Any) -> Any:
        made.append(original(context))
        return made[-1]

    original = seal.KeyGenerator
    monkeypatch.setattr(seal, "KeyGenerator", generator)
    return made


def words_of_secret(secret_key: Any) -> list[int]:
    plaintext = secret_key.data()
    return [plaintext[i] for i in range(plaintext.coeff_count())]


def words_of_ciphertext(ciphertext: Any) -> list[int]:
    polynomials = ciphertext.dyn_array()
    return [polynomials[i] for i in range(polynomials.size())]


def words_in_keys(evaluation_keys: bytes) -> list[int]:
    """Every residue of every key that the server gets, as SEAL reads them."""
    context = Context(PARAMS)
    stored = msgspec.msgpack.decode(evaluation_keys)
    galois_keys, public_key = seal.GaloisKeys(), seal.PublicKey()
    load(stored["rotation_keys"], lambda path: galois_keys.load(context.seal, path))
    load(stored["public_key"], lambda path: public_key.load(context.seal, path))
    words = words_of_ciphertext(public_key.data())
    for keys in galois_keys.data():
        for key in keys:
            words += words_of_ciphertext(key.data())
    return words


def runs_in_common(words: Sequence[int], others: Sequence[int], length: int = 4) -> int:
    """How many runs of ``length`` words of one are in the other: two random residues may agree, four do not."""
    runs = {tuple(others[i : i + length]) for i in range(len(others) - length + 1)}
    return sum(tuple(words[i : i + length]) in runs for i in range(len(words) - length + 1))


class TestSecretKey:
    def test_evaluation_keys_do_not_contain_it(self, key_generators: list[Any]) -> None:
        decryptor, _ = BACKEND.generate_keys(PARAMS, (1, 5), public_key=True)
        (generator,) = key_generators
        secret_key, sent = generator.secret_key(), decryptor.evaluation_keys()
        secret = words_of_secret(secret_key)
        assert len(secret) == 4 * 1024
        found = words_in_keys(sent)
        assert len(found) == (1 + 2 * 3) * 2 * 4 * 1024
        assert runs_in_common(secret, found) == 0
        assert runs_in_common(secret, found + secret[7:]) > 4000, "the search would find it"
        packed = saved(secret_key.save)
        blocks = [packed[i : i + NO_KEY_BYTES] for i in range(16, len(packed) - NO_KEY_BYTES, NO_KEY_BYTES)]
        assert not any(block in sent for block in blocks)

    def test_messages_do_not_contain_it(self, key_generators: list[Any]) -> None:
        decryptor, evaluator = BACKEND.generate_keys(PARAMS, ())
        uploaded = evaluator.deserialize(decryptor.serialize(decryptor.encrypt(V, scale=SCALE)))
        secret = words_of_secret(key_generators[0].secret_key())
        assert runs_in_common(secret, words_of_ciphertext(uploaded.data)) == 0

    def test_one_key_pair_is_made_and_its_secret_key_is_the_one_that_decrypts(self, key_generators: list[Any]) -> None:
        """Else the tests above look for the wrong secret."""
        decryptor, evaluator = BACKEND.generate_keys(PARAMS, ())
        (generator,) = key_generators
        context = Context(PARAMS)
        uploaded = evaluator.deserialize(decryptor.serialize(decryptor.encrypt(V, scale=SCALE)))
        plaintext = seal.Plaintext()
        seal.Decryptor(context.seal, generator.secret_key()).decrypt(uploaded.data, plaintext)
        np.testing.assert_allclose(context.encoder.decode_double(plaintext), V, rtol=0, atol=1e-3)


class TestRotationKeys:
    def test_there_is_one_galois_key_per_step_and_no_other(self) -> None:
        decryptor, _ = BACKEND.generate_keys(PARAMS, (1, 5, SLOTS - 1))
        galois_keys = seal.GaloisKeys()
        stored = msgspec.msgpack.decode(decryptor.evaluation_keys())
        context = Context(PARAMS)
        load(stored["rotation_keys"], lambda path: galois_keys.load(context.seal, path))
        elements = {pow(3, step, 2048) for step in (1, 5, SLOTS - 1)}
        assert {element for element in range(1, 2048, 2) if galois_keys.has_key(element)} == elements
        assert sum(bool(keys) for keys in galois_keys.data()) == 3

    def test_keys_for_steps_that_they_do_not_hold_are_refused_rather_than_composed(self) -> None:
        """A client says 3 and sends 4 and −1: SEAL would rotate twice, behind the ledger's back."""
        decryptor, _ = BACKEND.generate_keys(PARAMS, (4, SLOTS - 1))
        stored = msgspec.msgpack.decode(decryptor.evaluation_keys())
        stored["steps"] = [3, *stored["steps"]]
        with pytest.raises(CorruptPayload):
            BACKEND.load_evaluator(PARAMS, msgspec.msgpack.encode(stored))

    def test_seal_would_compose_a_rotation_from_keys_that_it_has(self) -> None:
        """The trap that exact keys are about; should SEAL lose it, the test above proves nothing."""
        decryptor, evaluator = BACKEND.generate_keys(PARAMS, (4, SLOTS - 1))
        uploaded = evaluator.deserialize(decryptor.serialize(decryptor.encrypt(V, scale=SCALE)))
        with pytest.raises(MissingRotationKey):
            evaluator.rotate(uploaded, 3)
        rotated = seal.Ciphertext()
        evaluator.library._evaluator.rotate_vector(uploaded.data, 3, evaluator.library._galois_keys, rotated)
        composed = msgspec.structs.replace(uploaded, data=rotated)
        np.testing.assert_allclose(decryptor.decrypt(composed), np.roll(V, -3), rtol=0, atol=1e-3)

    def test_a_seed_is_refused(self) -> None:
        with pytest.raises(CapabilityMissing, match="seed"):
            BACKEND.generate_keys(PARAMS, (1,), seed=0)


class TestResolve:
    def test_primes_are_those_of_the_seal_context(self) -> None:
        resolved = BACKEND.resolve(FAST)
        context = Context(resolved)
        top = context.seal.key_context_data().parms().coeff_modulus()
        assert tuple(prime.value() for prime in top) == resolved.data_primes + resolved.special_primes

    def test_primes_have_the_lengths_asked_for_and_are_1_mod_2n(self) -> None:
        resolved = BACKEND.resolve(FAST)
        primes = resolved.data_primes + resolved.special_primes
        assert tuple(prime.bit_length() for prime in primes) == FAST.data_bits + FAST.special_bits
        assert len(set(primes)) == 4
        assert all(prime % (2 * FAST.ring_degree) == 1 for prime in primes)
        assert all(pow(base, prime - 1, prime) == 1 for prime in primes for base in (2, 3, 5))

    def test_the_same_parameters_always_get_the_same_primes(self) -> None:
        assert BACKEND.resolve(NOMINAL) == BACKEND.resolve(PARAMS) == PARAMS

    @pytest.mark.parametrize("special_bits", [(), (40, 40)])
    def test_seal_has_exactly_one_special_prime(self, special_bits: tuple[int, ...]) -> None:
        with pytest.raises(InvalidParameters, match=f"not {len(special_bits)}"):
            BACKEND.resolve(msgspec.structs.replace(NOMINAL, special_bits=special_bits))

    def test_primes_that_do_not_exist_are_refused(self) -> None:
        with pytest.raises(InvalidParameters, match="17, 17, 17"):
            BACKEND.resolve(CKKSParams(ring_degree=32768, data_bits=(17, 17), special_bits=(17,), scale_bits=16))

    def test_rings_beyond_seals_are_refused(self) -> None:
        with pytest.raises(InvalidParameters, match="65536"):
            BACKEND.resolve(CKKSParams(ring_degree=65536, data_bits=(60,), special_bits=(60,), scale_bits=40))


class TestBytes:
    def altered(self, payload: bytes) -> list[bytes]:
        """Every bit of SEAL's header flipped, bits elsewhere, cuts, and other bytes altogether."""
        rng = np.random.default_rng(0)
        places = [*range(16 * 8), *rng.integers(16 * 8, 8 * len(payload), 150)]
        flipped = [bytearray(payload) for _ in places]
        for each, place in zip(flipped, places, strict=True):
            each[place // 8] ^= 1 << int(place) % 8
        cuts = [payload[:length] for length in (0, 1, 15, 16, 17, len(payload) // 2, len(payload) - 1)]
        return [*map(bytes, flipped), *cuts, rng.bytes(len(payload))]

    @pytest.mark.parametrize("form", ["fresh", "full"])
    def test_damaged_ciphertexts_are_read_or_refused_by_name(self, form: str) -> None:
        """SEAL reads many of them without complaint: it is the envelope that finds the damage. None may crash."""
        decryptor, evaluator = BACKEND.generate_keys(PARAMS, (1,))
        payload = decryptor.serialize(decryptor.encrypt(V, scale=SCALE))
        if form == "full":
            payload = evaluator.serialize(evaluator.deserialize(payload))
        refused = 0
        for candidate in self.altered(payload):
            try:
                read = evaluator.deserialize(candidate)
            except CorruptPayload:
                refused += 1
                continue
            decryptor.decrypt(evaluator.rotate(read, 1))
        assert refused > 50

    @pytest.mark.parametrize("part", ["rotation_keys", "public_key"])
    def test_damaged_keys_are_read_or_refused_by_name(self, part: str) -> None:
        decryptor, _ = BACKEND.generate_keys(PARAMS, (1,), public_key=True)
        stored = msgspec.msgpack.decode(decryptor.evaluation_keys())
        refused = 0
        # A few only: each makes a SEAL context, which takes 40 ms.
        for candidate in self.altered(stored[part])[::6]:
            try:
                BACKEND.load_evaluator(PARAMS, msgspec.msgpack.encode({**stored, part: candidate}))
            except CorruptPayload:
                refused += 1
        assert refused > 10

    @pytest.mark.parametrize("field", ["steps", "key_id", "rotation_keys", "public_key"])
    def test_keys_with_a_field_missing_or_of_another_type_are_refused(self, field: str) -> None:
        decryptor, _ = BACKEND.generate_keys(PARAMS, (1,))
        stored = msgspec.msgpack.decode(decryptor.evaluation_keys())
        for altered in ({name: value for name, value in stored.items() if name != field}, {**stored, field: 1.5}):
            with pytest.raises(CorruptPayload):
                BACKEND.load_evaluator(PARAMS, msgspec.msgpack.encode(altered))

    def test_ciphertexts_of_other_parameters_are_refused(self) -> None:
        other = BACKEND.resolve(msgspec.structs.replace(NOMINAL, data_bits=(41, 30, 30)))
        decryptor, _ = BACKEND.generate_keys(other, ())
        _, evaluator = BACKEND.generate_keys(PARAMS, ())
        with pytest.raises(CorruptPayload):
            evaluator.deserialize(decryptor.serialize(decryptor.encrypt(V, scale=SCALE)))

    def test_bytes_survive_the_way_through_a_file_and_leave_none_open(self) -> None:
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        for payload in (b"", b"\0" * 3, os.urandom(70_000)):
            read: list[bytes] = []
            load(payload, self.reader(read))
            assert read == [payload]
            assert saved(self.writer(payload)) == payload
        with pytest.raises(ValueError, match="unreadable"):
            load(b"x", self.raiser)
        assert (len(os.listdir("/proc/self/fd")) if before else 0) == before

    @pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there are no memory files here")
    def test_where_there_are_no_memory_files_private_ones_are_used_and_deleted(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        monkeypatch.delattr("os.memfd_create")
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        decryptor, evaluator = BACKEND.generate_keys(PARAMS, ())
        uploaded = evaluator.deserialize(decryptor.serialize(decryptor.encrypt(V, scale=SCALE)))
        np.testing.assert_allclose(decryptor.decrypt(uploaded), V, rtol=0, atol=1e-3)
        seen: list[int] = []
        saved(lambda path: seen.append(os.stat(path).st_mode & 0o777))
        assert seen == [0o600]
        assert list(tmp_path.iterdir()) == []

    @staticmethod
    def reader(into: list[bytes]) -> Callable[[str], object]:
        def read(path: str) -> None:
            with open(path, "rb") as file:
                into.append(file.read())

        return read

    @staticmethod
    def writer(payload: bytes) -> Callable[[str], object]:
        def write(path: str) -> None:
            with open(path, "wb") as file:
                file.write(payload)

        return write

    @staticmethod
    def raiser(path: str) -> None:
        raise ValueError("unreadable")


class TestCoefficients:
    def test_coefficients_are_those_of_the_polynomial_that_seal_encrypts(self) -> None:
        """x^3 has whole coefficients, and so is exact at scale 1: unless its slots are taken in another order."""
        with pytest.warns(InsecureParametersWarning):
            client, server = open_sessions(BACKEND, NOMINAL, (), insecure=True)
        x = np.random.default_rng(0).uniform(-1, 1, 1024)
        uploaded = server.receive(client.send(client.encrypt(x, scale_bits=30, encoding=Encoding.COEFFICIENTS)))
        cube = server.encoder.encode(
            np.array([0.0, 0.0, 0.0, 1.0]), level=2, scale_bits=0, encoding=Encoding.COEFFICIENTS
        )
        product = client.receive(server.send(server.evaluator.multiply_plain(uploaded, cube)))
        shifted = np.concatenate([-x[-3:], x[:-3]])
        found = client.decrypt(product, encoding=Encoding.COEFFICIENTS)
        np.testing.assert_allclose(found, shifted, rtol=0, atol=1e-3)
