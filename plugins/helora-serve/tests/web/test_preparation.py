"""Correlations made ahead of time by the client in JavaScript, and used up online, against the server."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helora_core.backend.correlations import Switching
from helora_core.params.ckks import CKKSParams
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.parties.session import Session
from helora_rns.backend import RNSBackend

Begin = Callable[..., None]
NAME = "layers.0.o_proj"  # half of whose outputs are zero


def _prepared(node: Any, session: Session, names: list[str], count: int) -> None:
    answer = node.ask(op="prepare", names=names, count=count)
    while "message" in answer and "error" not in answer:
        answer = node.ask(op="receive", answer=session.answer(base64.b64decode(answer["message"])))
    assert answer == {"done": True}


def _delta(node: Any, session: Session, name: str, x: Any) -> Any:
    began = node.ask(op="begin", names=[name], x=x.tobytes(), tokens=len(x))
    assert "error" not in began, began
    found = node.ask(op="receive", answer=session.answer(base64.b64decode(began["message"])))
    return np.frombuffer(base64.b64decode(found["deltas"][name])).reshape(len(x), -1)


def test_delta_is_the_adapters_within_the_bound_and_each_correlation_serves_once(
    build: str, adapter: Any, compiled: Any, partner: Any
) -> None:
    lora: CompiledLoRA = compiled("precomputed", True, 1)
    server = lora.server()
    node = partner("node_client.mjs", op="load", builds=[build])
    session = server.open(base64.b64decode(node.ask(op="make", offer=server.offer())["keys"]))
    client = lora.client(server.offer())
    rng = np.random.default_rng(3)
    _prepared(node, session, [NAME], 6)
    for tokens in (1, 3):
        x = rng.standard_normal((tokens, 72)) * 100.0
        x[-1] *= tokens == 1
        bound = client.plans[NAME].precision().error_bound
        sizes = 2.0 ** (
            np.ceil(np.log2(np.linalg.norm(x, axis=1, keepdims=True) + 1e-300)) + client.plans[NAME].exponent
        )
        expected = adapter.modules[NAME].reference_delta(x)
        assert (np.abs(_delta(node, session, NAME, x) - expected) <= bound * sizes).all()
    assert node.ask(op="left", names=[NAME])["left"] == 2
    assert node.ask(op="begin", names=[NAME], x=np.ones((3, 72)).tobytes(), tokens=3)["error"] == "pool-empty"
    assert node.ask(op="left", names=[NAME])["left"] == 2
    _prepared(node, session, [NAME], 2)
    assert np.abs(_delta(node, session, NAME, np.ones((4, 72)))).max() > 0  # of two batches
    assert node.ask(op="left", names=[NAME])["left"] == 0


def test_after_a_crash_what_was_reserved_counts_as_used(compiled: Any, partner: Any) -> None:
    server = compiled("precomputed", True, 1).server()
    node = partner("node_client.mjs", op="load", builds=["simd128"])
    session = server.open(base64.b64decode(node.ask(op="make", offer=server.offer())["keys"]))
    _prepared(node, session, [NAME], 200)
    first = _delta(node, session, NAME, np.ones((1, 72)))
    assert node.ask(op="left", names=[NAME])["left"] == 199
    node.ask(op="again", offer=server.offer())
    assert node.ask(op="left", names=[NAME])["left"] == 135  # 64 are reserved with one write, and one was asked for
    again = _delta(node, session, NAME, np.ones((1, 72)))
    assert np.allclose(first, again, atol=1e-4 * np.abs(first).max())


def test_equal_seeds_give_the_batch_keys_and_uploads_of_python(build: str, run_job: Any, counted: Begin) -> None:
    backend = RNSBackend()
    for n, data in ((8192, (42, 42)), (4096, (41,))):
        params = backend.resolve(
            CKKSParams(ring_degree=n, data_bits=data, special_bits=(), scale_bits=sum(data), wrap_bits=64)
        )
        nonces = bytes(range(64))
        numbers = np.random.default_rng(n).integers(0, 1 << 64, (34, n), dtype=np.uint64)
        counted()
        key = backend.batch_key(params, nonces)
        upload = key.encrypt(numbers)
        sums = backend.batch_sums(params, key.public_key, nonces, 34)
        sums.add(upload, np.eye(34, dtype=np.int64))
        how = Switching(28, 36)
        masks = np.random.default_rng(1).integers(0, 1 << 64, (2, n), dtype=np.uint64)
        results = sums.results(np.eye(34, dtype=np.int64)[:2], masks, bytes(32), how)
        expected = key.decrypt(results, 2, how)
        given = {"nonces": nonces, "numbers": numbers.tobytes(), "results": results}
        job = {name: base64.b64encode(each).decode() for name, each in given.items()}
        batch = {"n": n, "bits": list(data), "count": 34, "opened": 2, "top": 28, "key": 36} | job
        found = run_job("node_engine.mjs", {"builds": [build], "batch": batch})["batch"]
        assert base64.b64decode(found["publicKey"]) == key.public_key
        assert base64.b64decode(found["upload"]) == upload
        assert base64.b64decode(found["numbers"]) == expected.tobytes()
        assert found["erased"]


@pytest.mark.parametrize("damage", [0, 30, -1])
def test_damaged_answers_change_nothing(damage: int, compiled: Any, partner: Any) -> None:
    server = compiled("precomputed", True, 1).server()
    node = partner("node_client.mjs", op="load", builds=["simd128"])
    session = server.open(base64.b64decode(node.ask(op="make", offer=server.offer())["keys"]))
    _prepared(node, session, [NAME], 2)
    began = node.ask(op="begin", names=[NAME], x=np.ones((1, 72)).tobytes(), tokens=1)
    answer = bytearray(session.answer(base64.b64decode(began["message"])))
    answer[damage] ^= 1
    assert node.ask(op="receive", answer=bytes(answer))["error"] == "corrupt-payload"
    answer[damage] ^= 1
    assert "deltas" in node.ask(op="receive", answer=bytes(answer))
