"""A device that is full refuses the request that does not fit, by a typed error, and goes on."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import helora_core as helora
from helora_core.data.bundled import bundled_activations, bundled_adapter
from helora_core.errors import LimitExceeded
from helora_core.params.ckks import CKKSParams
from helora_cupy.backend import CupyBackend
from helora_cupy.running import RunningShim
from helora_rns.backend import RNSBackend

NAME = "model.layers.0.self_attn.v_proj"
PARAMS = CKKSParams(ring_degree=1024, data_bits=(42, 40), special_bits=(46,), scale_bits=30)
ROW = 8 * 1024


def test_what_is_let_go_of_is_counted_off() -> None:
    device = RunningShim(4 * ROW)
    made = device.empty((4, 1024))
    view = made[1:].reshape(-1)
    del made
    assert device.used == 4 * ROW
    with pytest.raises(LimitExceeded, match=r"0\.0 MiB more do not fit .*: 0\.0 of at most 0\.0 MiB are in use"):
        device.empty((1,))
    del view
    assert device.used == 0
    device.put(np.zeros((4, 1024)))


def test_every_call_that_does_not_fit_is_refused_and_the_next_that_does_succeeds() -> None:
    device = RunningShim()
    backend = CupyBackend(device)
    params = backend.resolve(PARAMS)
    client, _ = RNSBackend().generate_keys(params, [1], public_key=True)
    keys = client.evaluation_keys()
    values = np.random.default_rng(0).uniform(-1, 1, params.slots)
    sent = client.serialize(client.encrypt(values, scale=2.0**30))
    server = backend.load_evaluator(params, keys)
    received, plain = server.deserialize(sent), backend.encoder(params).encode(values, level=1, scale=2.0**30)
    calls = {
        "keys": lambda: backend.load_evaluator(params, keys),
        "read": lambda: server.deserialize(sent),
        "encode": lambda: backend.encoder(params).encode(values, level=1, scale=2.0**30),
        "add": lambda: server.add(received, received),
        "multiply": lambda: server.dot_plain([received], [plain]),
        "rotate": lambda: server.rotate(received, 1),
        "send": lambda: server.serialize(received),
        "encrypt": lambda: server.encrypt_public(values, scale=2.0**30),
    }
    for name, call in calls.items():
        gc.collect()
        device.limit = device.counted.limit = device.used + ROW // 2
        with pytest.raises(LimitExceeded):
            call()
        device.limit = device.counted.limit = None
        assert call() is not None, name
    np.testing.assert_allclose(client.decrypt(client.deserialize(server.serialize(received))), values, atol=1e-5)


def test_a_request_that_does_not_fit_fails_and_the_server_serves_the_next() -> None:
    lora = helora.compile(bundled_adapter(), tokens=2, modules=NAME, backend="rns", packing="rank_bsgs", share=False)
    device = RunningShim()
    server = helora.Server(lora, CupyBackend(device))
    client = helora.Client(server.offer())
    session = server.open(client.evaluation_keys())
    x = bundled_activations()[NAME][-2:]
    expected = client.delta(NAME, x, session)
    gc.collect()
    steady = device.used
    request = client.begin(NAME, x)
    message = request.message()
    device.limit = device.counted.limit = steady + ROW
    with pytest.raises(LimitExceeded) as refused:
        session.answer(message)
    assert refused.value.code == "limit-exceeded"
    assert "HELORA_CUPY_MEMORY" in refused.value.hint
    device.limit = device.counted.limit = None
    request.receive(session.answer(message))
    np.testing.assert_allclose(request.delta, expected, atol=2**-10 * np.abs(expected).max())
    del request
    gc.collect()
    assert device.used <= steady + device.counted.peak // 100
