"""Sessions: the server cannot reach the secret key, in memory or in the bytes it was sent."""

from __future__ import annotations

import random
import types
from collections.abc import Iterator

import numpy as np
import pytest

from helora_core.backend.capabilities import Encoding
from helora_core.backend.encoder import PlaintextEncoder
from helora_core.backend.protocol import Decryptor, Values
from helora_core.backend.session import ServerSession
from helora_core.conformance.bench import SCALE_BITS, SLOTS, STEPS, Bench
from helora_core.conformance.reachable import reachable
from helora_core.conformance.values import random_slots

_SECRET_NAMES = ("secretkey", "secret_key", "decryptor", "keygenerator", "privatekey", "private_key", "keypair")
_RANDOMNESS = (np.random.Generator, np.random.BitGenerator, np.random.RandomState, random.Random)


class Sessions:
    """Client and server are separate."""

    def test_nothing_that_the_server_holds_is_named_after_a_secret(self, bench: Bench) -> None:
        for name, thing in reachable(bench.server):
            if callable(thing):  # a library's class may have a method of such a name
                continue
            kind = type(thing).__name__
            assert not any(secret in kind.lower() for secret in _SECRET_NAMES), f"the server reaches a {kind}"
            assert name.lower().lstrip("_") not in _SECRET_NAMES, f"the server reaches {name}, a {kind}"

    def test_the_server_does_not_reach_the_client(self, bench: Bench) -> None:
        decryptor, evaluator = bench.library.generate_keys(bench.params, STEPS[:1])
        reached = {id(thing) for _, thing in reachable(evaluator)}
        assert id(decryptor) not in reached
        assert not [name for name, secret in _secrets(decryptor) if id(secret) in reached]
        # Both may hold the same parameters, or a context without keys; other laws check those.
        shared = {id(value) for value in _attributes(evaluator).values()}
        for name, value in _attributes(decryptor).items():
            alike = isinstance(value, str | bytes | int | float | type | types.ModuleType | np.ndarray | None)
            assert alike or id(value) in shared or id(value) not in reached, f"the server reaches the client's {name}"

    def test_client_and_server_share_no_source_of_randomness(self, bench: Bench) -> None:
        """Anyone with the generator of the client's errors can draw the same errors and subtract them."""
        decryptor, evaluator = bench.library.generate_keys(bench.params, STEPS[:1])
        of_client, of_server = (
            {id(thing): thing for _, thing in reachable(role) if isinstance(thing, _RANDOMNESS)}
            for role in (decryptor, evaluator)
        )
        assert not of_client.keys() & of_server.keys()

    def test_nothing_that_the_server_holds_can_decrypt(self, bench: Bench) -> None:
        values = random_slots(1)
        ciphertext, _ = bench.encrypted(values)
        for _, thing in list(reachable(bench.server)):
            assert not _decrypts(thing, ciphertext, values), f"the server reaches {type(thing).__name__}.decrypt"

    def test_a_server_made_of_the_bytes_it_was_sent_computes_the_same(self, bench: Bench) -> None:
        server = ServerSession.from_keys(
            bench.backend, bench.params, bench.client.evaluation_keys(), ledger=bench.ledger
        )
        values = random_slots(2)
        _, expected = bench.encrypted(values)
        received = server.receive(bench.client.send(bench.client.encrypt(values, scale_bits=SCALE_BITS)))
        bench.agrees(server.evaluator.rotate(received, STEPS[0]), expected.rotate(STEPS[0]))

    def test_one_plaintext_serves_two_key_pairs(self, bench: Bench) -> None:
        """A server encodes its weights once, however many clients it has."""
        weights, scale_bits = random_slots(4), bench.params.scale_bits
        encoder = PlaintextEncoder(bench.library, bench.params)
        plaintext = encoder.encode(weights, level=bench.params.max_level, scale_bits=scale_bits)
        for client, server in (bench.open(steps=()), bench.open(steps=())):
            values = random_slots(5)
            received = server.receive(client.send(client.encrypt(values, scale_bits=SCALE_BITS)))
            for operation, expected in (
                (server.evaluator.multiply_plain, bench.fresh(values).multiply_plain(weights, scale_bits)),
                (server.evaluator.add_plain, bench.fresh(values).add_plain(weights)),
            ):
                actual = client.decrypt(client.receive(server.send(operation(received, plaintext))))
                assert np.max(np.abs(actual - expected.values)) <= expected.rescaled_unasked().tolerance

    def test_many_vectors_are_encrypted_and_decrypted_as_one_by_one(self, bench: Bench) -> None:
        """Each vector has randomness of its own and keeps its place in the message."""
        many = [random_slots(seed) for seed in (6, 7, 7)]
        sealed = bench.client.encrypt_many(many, scale_bits=SCALE_BITS)
        assert len({bench.client.send(each) for each in sealed}) == len(many)
        for values, ciphertext in zip(many, sealed, strict=True):
            bench.agrees(bench.server.receive(bench.client.send(ciphertext)), bench.fresh(values))
        received = [bench.client.receive(bench.client.send(each)) for each in sealed]
        for values, read in zip(many, bench.client.decrypt_many(received), strict=True):
            assert read.dtype == np.float64
            assert np.max(np.abs(read[: values.size] - values)) <= bench.fresh(values).tolerance
        _, first, second = bench.client.decrypt_many(received)
        assert not np.array_equal(first, second)
        assert bench.client.encrypt_many([], scale_bits=SCALE_BITS) == bench.client.decrypt_many([]) == []

    def test_the_keys_that_are_sent_do_not_decrypt(self, bench: Bench) -> None:
        """A server made from these bytes must not be able to decrypt, whatever methods it has."""
        decryptor, _ = bench.backend.generate_keys(bench.params, STEPS[:1])
        evaluator = bench.backend.load_evaluator(bench.params, decryptor.evaluation_keys())
        values = random_slots(3)
        ciphertext = evaluator.deserialize(decryptor.serialize(decryptor.encrypt(values, scale=2.0**SCALE_BITS)))
        for _, thing in list(reachable(evaluator)):
            assert not _decrypts(thing, ciphertext, values), f"{type(thing).__name__} can decrypt"

    def test_what_is_sent_does_not_contain_the_secret_key(self, bench: Bench) -> None:
        """Checked if the secret key is an attribute of bytes or an array; inside a library it cannot be seen."""
        decryptor, evaluator = bench.backend.generate_keys(bench.params, STEPS[:1])
        secrets = [(name, form) for name, secret in _secrets(decryptor) for form in _serialised(secret)]
        if not secrets:
            pytest.skip("the secret key is out of sight")
        ciphertext = decryptor.encrypt(np.ones(SLOTS), scale=2.0**SCALE_BITS)
        held = [bytes(thing) for _, thing in reachable(evaluator) if isinstance(thing, bytes | bytearray | np.ndarray)]
        for name, form in secrets:
            assert form not in decryptor.evaluation_keys(), f"{name} is in the evaluation keys"
            assert form not in decryptor.serialize(ciphertext), f"{name} is in the ciphertext"
            assert not any(form in other for other in held), f"the server holds a copy of {name}"

    def test_no_representation_shows_the_secret_key(self, bench: Bench) -> None:
        """``repr`` ends up in tracebacks with local variables and in log lines."""
        decryptor, _ = bench.library.generate_keys(bench.params, STEPS[:1])
        secrets = list(_secrets(decryptor))
        if not secrets:
            pytest.skip("the secret key is out of sight")
        shown = f"{decryptor!r} {decryptor!s} {vars(decryptor.__class__).get('__doc__')}"
        for name, secret in secrets:
            inner = repr(secret)[3:40]
            assert inner not in shown, f"{name} is shown"


def _attributes(thing: object) -> dict[str, object]:
    return getattr(thing, "__dict__", {})


def _secrets(decryptor: Decryptor) -> Iterator[tuple[str, object]]:
    """Bytes and arrays that the client holds under a secret's name, or as attributes of an object with such a name."""
    for name, thing in reachable(decryptor):
        if any(secret in f"{name} {type(thing).__name__}".lower() for secret in ("secret", "private")):
            candidates = {name: thing, **_attributes(thing)}
            yield from ((key, value) for key, value in candidates.items() if isinstance(value, bytes | np.ndarray))


def _serialised(secret: object) -> Iterator[bytes]:
    """Forms in which a secret may appear among other bytes: its beginning, at most 64 numbers."""
    if isinstance(secret, np.ndarray):
        start = secret.ravel()[:64]
        formats = [start.dtype, np.dtype("i1"), np.dtype("<i4"), np.dtype("<i8")]
        yield from {start.astype(format_).tobytes() for format_ in formats if start.any()}
    elif isinstance(secret, bytes) and len(secret) >= 16:
        yield secret


def _decrypts(thing: object, ciphertext: object, values: Values) -> bool:
    """Whether ``thing.decrypt`` decrypts the ciphertext, or the objects inside it.

    A library's object may have the method but refuse because it has no key, or return noise.
    """
    if isinstance(getattr(type(thing), "evaluation_keys", None), types.FunctionType):
        return True  # a client, by its methods
    decrypt = getattr(thing, "decrypt", None)
    if not callable(decrypt):
        return False
    data = getattr(ciphertext, "data", ciphertext)
    for candidate in (ciphertext, data, *_attributes(data).values()):
        for options in ({}, {"encoding": Encoding.SLOTS}):
            try:
                found = np.asarray(decrypt(candidate, **options), dtype=np.complex128)
            except Exception:
                continue
            if found.shape != values.shape or np.max(np.abs(found - values)) < 1.0:
                return True
    return False
