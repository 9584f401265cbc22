"""Serialisation: messages keep everything, and anything that is not a valid message is refused."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.backend.session import ServerSession
from helora_core.conformance.bench import SCALE_BITS, SLOTS, Bench
from helora_core.conformance.profile import searched
from helora_core.conformance.requirements import requires
from helora_core.conformance.values import random_slots
from helora_core.errors import CorruptPayload, ForeignCiphertext
from helora_core.params.presets import SAFE

_ran: list[str] = []


class _Bomb:
    """An object that shows when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return _run, ("ran",)


def _run(what: str) -> None:
    _ran.append(what)


def _message(bench: Bench) -> bytes:
    return bench.client.send(bench.client.encrypt(random_slots(1), scale_bits=SCALE_BITS))


class Serialization:
    """Round trips and refusals."""

    @requires("explicit rescaling")
    def test_a_round_trip_keeps_value_level_and_scale(self, bench: Bench) -> None:
        a, x = bench.encrypted(random_slots(2))
        plain = random_slots(3)
        product = bench.evaluator.multiply_plain(a, bench.encoded(plain))
        lower, expected = bench.evaluator.rescale(product), x.multiply_plain(plain, SCALE_BITS).rescale()
        returned = bench.server.receive(bench.server.send(lower))
        assert bench.evaluator.level(returned) == bench.evaluator.level(lower)
        assert bench.evaluator.scale(returned) == bench.evaluator.scale(lower)
        bench.agrees(bench.evaluator.add(returned, lower), expected.add(expected))

    @searched
    @given(cut=st.floats(0, 1, exclude_max=True))
    def test_truncated_messages_are_refused(self, bench: Bench, cut: float) -> None:
        message = _message(bench)
        with pytest.raises(CorruptPayload):
            bench.server.receive(message[: int(cut * len(message))])

    @searched
    @given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def test_a_flipped_bit_is_noticed(self, bench: Bench, place: float, bit: int) -> None:
        message = bytearray(_message(bench))
        message[int(place * len(message))] ^= 1 << bit
        with pytest.raises(CorruptPayload):
            bench.server.receive(bytes(message))

    def test_oversized_messages_are_refused(self, bench: Bench) -> None:
        with pytest.raises(CorruptPayload):
            bench.server.receive(_message(bench) + b"\0")

    @pytest.mark.parametrize("garbage", [b"", b"\0", b"HLRA", bytes(range(256)) * 8])
    def test_garbage_is_refused(self, bench: Bench, garbage: bytes) -> None:
        with pytest.raises(CorruptPayload):
            bench.server.receive(garbage)

    @pytest.mark.parametrize("garbage", [b"", b"\0" * 7, bytes(range(256)) * 8])
    def test_a_backend_called_directly_refuses_garbage_and_does_not_crash(self, bench: Bench, garbage: bytes) -> None:
        with pytest.raises(CorruptPayload):
            bench.evaluator.deserialize(garbage)
        with pytest.raises(CorruptPayload):
            bench.backend.load_evaluator(bench.params, garbage)

    def test_bytes_are_data_and_never_code(self, bench: Bench) -> None:
        """A pickle runs its sender's code, so nothing that came over a network may be read as one."""
        _ran.clear()
        payload = pickle.dumps(_Bomb())
        for read in (bench.evaluator.deserialize, lambda keys: bench.backend.load_evaluator(bench.params, keys)):
            with pytest.raises(CorruptPayload):
                read(payload)
        assert not _ran, "a payload's own code was run"

    def test_a_backend_called_directly_refuses_truncated_keys(self, bench: Bench) -> None:
        decryptor, _ = bench.backend.generate_keys(bench.params, (1, 3))
        keys = decryptor.evaluation_keys()
        for keep in (len(keys) - 1, len(keys) // 2, 1):
            with pytest.raises(CorruptPayload):
                bench.backend.load_evaluator(bench.params, keys[:keep])

    def test_a_backend_called_directly_refuses_a_truncated_ciphertext(self, bench: Bench) -> None:
        payload = bench.evaluator.serialize(bench.encrypted(np.ones(SLOTS))[0])
        for keep in (len(payload) - 1, len(payload) // 2, 40):
            with pytest.raises(CorruptPayload):
                bench.evaluator.deserialize(payload[:keep])

    def test_a_ciphertext_of_another_client_is_refused(self, bench: Bench) -> None:
        stranger, _ = bench.open(steps=())
        foreign = stranger.send(stranger.encrypt(np.ones(SLOTS), scale_bits=SCALE_BITS))
        with pytest.raises(ForeignCiphertext):
            bench.server.receive(foreign)

    def test_a_ciphertext_of_another_client_is_refused_in_memory_too(self, bench: Bench) -> None:
        stranger, host = bench.open(steps=())
        foreign = host.receive(stranger.send(stranger.encrypt(np.ones(SLOTS), scale_bits=SCALE_BITS)))
        own, _ = bench.encrypted(np.ones(SLOTS))
        for operation in (
            lambda: bench.evaluator.add(own, foreign),
            lambda: bench.evaluator.sub(foreign, own),
            lambda: bench.evaluator.negate(foreign),
            lambda: bench.evaluator.rotate(foreign, 1),
            lambda: bench.evaluator.rescale(foreign),
            lambda: bench.evaluator.multiply_plain(foreign, bench.encoded(np.ones(SLOTS))),
            lambda: bench.evaluator.serialize(foreign),
        ):
            with pytest.raises(ForeignCiphertext):
                operation()

    def test_a_ciphertext_of_other_parameters_is_refused(self, bench: Bench) -> None:
        owner, _ = bench.backend.generate_keys(bench.backend.resolve(SAFE), ())
        payload = owner.serialize(owner.encrypt(np.ones(SLOTS), scale=2.0**SCALE_BITS))
        with pytest.raises((CorruptPayload, ForeignCiphertext)):
            bench.evaluator.deserialize(payload)

    def test_a_plaintext_of_other_parameters_is_refused(self, bench: Bench) -> None:
        ciphertext, _ = bench.encrypted(np.ones(SLOTS))
        _, host = bench.open(SAFE, ())
        foreign = host.encoder.encode(np.ones(SLOTS), level=host.params.max_level, scale_bits=SCALE_BITS)
        for operation in (bench.evaluator.multiply_plain, bench.evaluator.add_plain):
            things: tuple[Any, ...] = (foreign, ciphertext, None)
            for thing in things:
                with pytest.raises(ForeignCiphertext):
                    operation(ciphertext, thing)

    def test_keys_are_not_taken_for_ciphertexts_nor_the_other_way_round(self, bench: Bench) -> None:
        with pytest.raises(CorruptPayload):
            bench.server.receive(bench.client.evaluation_keys())
        with pytest.raises(CorruptPayload):
            ServerSession.from_keys(bench.backend, bench.params, _message(bench), ledger=bench.ledger)

    def test_altered_keys_are_refused(self, bench: Bench) -> None:
        keys = bytearray(bench.client.evaluation_keys())
        keys[len(keys) // 2] ^= 1
        with pytest.raises(CorruptPayload):
            ServerSession.from_keys(bench.backend, bench.params, bytes(keys), ledger=bench.ledger)
