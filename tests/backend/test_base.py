"""What adapters of libraries have in common: keys go there and back, and nothing else is taken for keys."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from helora_core.backend.base import ClientKeys, EvaluationKeys, KeySender, LibraryBackend, with_primes
from helora_core.backend.primes import distinct_ntt_primes
from helora_core.files.malformed import Malformed
from helora_core.params.presets import FAST

sent = st.builds(
    EvaluationKeys,
    key_id=st.binary(min_size=16, max_size=16),
    steps=st.lists(st.integers(1, 4095), unique=True).map(tuple),
    rotation_keys=st.binary(),
    public_key=st.binary(),
)


class Recorded(LibraryBackend):
    """Notes what its roles are made of."""

    name = "recorded"
    library = "msgspec"

    def resolve(self, params: Any) -> Any:
        return params

    def encoder(self, params: Any) -> Any:
        return params

    def client(self, params: Any, steps: Any, *, public_key: bool, restored: ClientKeys | None) -> Any:
        sent = EvaluationKeys(key_id=b"k" * 16, steps=steps, rotation_keys=b"r", public_key=b"p" * public_key)

        class Client(KeySender):
            keys, of = sent, restored

        return Client()

    def server(self, params: Any, keys: EvaluationKeys) -> Any:
        return keys


@given(keys=sent)
def test_a_server_is_made_of_what_was_sent(keys: EvaluationKeys) -> None:
    assert Recorded().load_evaluator(FAST, msgspec.msgpack.encode(keys)) == keys


@given(steps=st.sets(st.integers(1, 100)), public_key=st.booleans())
def test_new_keys_are_for_the_steps_asked_for_in_ascending_order(steps: set[int], public_key: bool) -> None:
    _, server = Recorded().generate_keys(FAST, steps, public_key=public_key)
    assert (server.steps, bool(server.public_key)) == (tuple(sorted(steps)), public_key)


@given(keys=st.builds(ClientKeys, secret_key=st.binary(), public_key=st.binary(), sent=sent))
def test_a_client_comes_back_with_the_keys_and_the_steps_that_were_put_away(keys: ClientKeys) -> None:
    client: Any = Recorded().restore_keys(FAST, msgspec.msgpack.encode(keys))
    again = msgspec.msgpack.decode(client.evaluation_keys(), type=EvaluationKeys)
    assert client.of == keys
    assert (again.steps, bool(again.public_key)) == (keys.sent.steps, bool(keys.sent.public_key))


@given(garbage=st.binary(max_size=200))
@example(garbage=b"\x81\xa5\x00\x00\x00\x00\x80")  # a name that is not UTF-8
def test_other_bytes_are_no_keys(garbage: bytes) -> None:
    for read in (Recorded().load_evaluator, Recorded().restore_keys):
        with pytest.raises(Malformed):
            read(FAST, garbage)


@pytest.mark.parametrize("field", ["key_id", "steps", "rotation_keys", "public_key"])
@pytest.mark.parametrize("value", [None, 1.5, b"short"])
def test_keys_with_a_field_missing_or_of_another_kind_are_refused(field: str, value: object) -> None:
    good = {"key_id": b"k" * 16, "steps": [1], "rotation_keys": b"", "public_key": b""}
    altered = {name: each for name, each in good.items() if name != field}
    if value is not None and (field, value) not in (("rotation_keys", b"short"), ("public_key", b"short")):
        altered[field] = value
    with pytest.raises(Malformed):
        Recorded().load_evaluator(FAST, msgspec.msgpack.encode(altered))


def test_the_version_is_that_of_the_library() -> None:
    assert Recorded().library_version == f"msgspec {msgspec.__version__}"


def test_real_primes_come_with_their_real_lengths() -> None:
    primes = distinct_ntt_primes((50, 41, 39, 58), FAST.ring_degree)
    resolved = with_primes(msgspec.structs.replace(FAST, data_bits=(50, 40, 40), special_bits=(60,)), primes)
    assert (resolved.data_bits, resolved.special_bits) == ((50, 41, 39), (58,))
    assert resolved.data_primes + resolved.special_primes == primes
