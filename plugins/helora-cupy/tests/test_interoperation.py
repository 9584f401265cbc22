"""Messages are helora-rns's: a client on either engine and a server on the other understand each other."""

from __future__ import annotations

import numpy as np
import pytest

import helora_core as helora
from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Sanitizing
from helora_core.compiler.request import Constraints
from helora_core.data.bundled import bundled_activations, bundled_adapter
from helora_core.params.ckks import CKKSParams
from helora_core.privacy.leakage import Assumption
from helora_cupy.backend import CupyBackend
from helora_rns.backend import RNSBackend

NAME = "model.layers.0.self_attn.v_proj"
PARAMS = CKKSParams(ring_degree=1024, data_bits=(42, 40, 40), special_bits=(46,), scale_bits=30)
SCALE = 2.0**30
FREELY = Constraints(assume=frozenset({Assumption.HONEST_KEYS}))


@pytest.mark.parametrize("packing", ["rank_bsgs", "cheetah_two_round", "precomputed"])
@pytest.mark.parametrize(("ours", "theirs"), [(CupyBackend, RNSBackend), (RNSBackend, CupyBackend)])
def test_a_client_on_one_engine_and_a_server_on_the_other_compute_delta(
    packing: str, ours: type[RNSBackend], theirs: type[RNSBackend]
) -> None:
    lora = helora.compile(bundled_adapter(), tokens=2, modules=NAME, backend="rns", packing=packing, constraints=FREELY)
    server = helora.Server(lora, theirs())
    client = helora.Client(server.offer(), backend=ours())
    session = server.open(client.evaluation_keys())
    if packing == "precomputed":
        preparation = client.prepare(NAME, 2)
        while not preparation.done:
            preparation.receive(session.answer(preparation.message()))
    x = bundled_activations()[NAME][-2:]
    delta = client.delta(NAME, x, session)
    module = bundled_adapter().select(NAME)[0]
    expected = module.reference_delta(x)
    assert np.abs(delta - expected).max() < 2.0**-11 * np.abs(expected).max()


def test_both_engines_send_the_same_parameters_and_plans() -> None:
    assert CupyBackend().resolve(PARAMS) == RNSBackend().resolve(PARAMS)
    assert CupyBackend.capabilities == RNSBackend.capabilities


def test_evaluation_of_the_same_bytes_gives_the_same_bytes() -> None:
    """Everything that draws no randomness: sums, products, rescaling, rotations, short results."""
    params = RNSBackend().resolve(PARAMS)
    decryptor, _ = RNSBackend().generate_keys(params, [1, 5, 300])
    keys = decryptor.evaluation_keys()
    rng = np.random.default_rng(1)
    sent = [decryptor.serialize(decryptor.encrypt(rng.uniform(-1, 1, params.slots), scale=SCALE)) for _ in range(2)]
    weights = rng.uniform(-1, 1, params.slots)
    found = []
    for backend in (RNSBackend(), CupyBackend()):
        server = backend.load_evaluator(params, keys)
        left, right = map(server.deserialize, sent)
        plain = backend.encoder(params).encode(weights, level=2, scale=SCALE)
        rotated = server.rotate_many(left, [1, 5, 300])
        total = server.dot_plain([rotated[0], server.negate(right)], [plain, plain])
        low = server.rescale(server.rescale(server.sub(total, server.multiply_plain(rotated[1], plain))))
        results = [*rotated, total, low, server.add(left, right), server.add_plain(left, plain)]
        found.append([*map(server.serialize, results), server.serialize(server.shortened(low, (5, 3)))])
    assert found[0] == found[1]


def test_keys_that_one_engine_exported_open_what_the_other_receives() -> None:
    params = RNSBackend().resolve(PARAMS)
    values = np.random.default_rng(2).uniform(-1, 1, params.slots)
    for first, second in ((RNSBackend(), CupyBackend()), (CupyBackend(), RNSBackend())):
        owner, server = first.generate_keys(params, [1], public_key=True)
        result = server.sanitize_many(
            [server.deserialize(owner.serialize(owner.encrypt(values, scale=2.0**60)))],
            [Sanitizing(Encoding.SLOTS, 20, 0, None)],
        )
        restored = second.restore_keys(params, owner.export_keys())
        opened = restored.decrypt(restored.deserialize(server.serialize(result[0])))
        np.testing.assert_allclose(opened, values, atol=1e-6)
        assert restored.evaluation_keys() != b""
        assert restored.key_id == owner.key_id
