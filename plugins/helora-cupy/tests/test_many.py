"""Several vectors of one message are encrypted and opened together as they are alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import SupportsMany
from helora_core.params.ckks import CKKSParams
from helora_cupy.backend import CupyBackend
from helora_rns.backend import RNSBackend

PARAMS = RNSBackend().resolve(CKKSParams(ring_degree=1024, data_bits=(42, 40), special_bits=(46,), scale_bits=30))
SCALE = 2.0**30


def values(encoding: Encoding, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    if encoding is Encoding.INTEGERS:
        return np.stack([rng.integers(0, q, 1024, dtype=np.uint64) for q in PARAMS.data_primes])
    if encoding is Encoding.COMPLEX_SLOTS:
        return rng.uniform(-1, 1, 512) + 1j * rng.uniform(-1, 1, 512)
    return rng.uniform(-1, 1, {Encoding.SCALAR: 1, Encoding.SLOTS: 512}.get(encoding, 1024))


@pytest.mark.parametrize("encoding", list(Encoding))
def test_either_engine_opens_what_the_other_encrypted_together(encoding: Encoding) -> None:
    client, _ = CupyBackend().generate_keys(PARAMS, [])
    other = RNSBackend().restore_keys(PARAMS, client.export_keys())
    assert isinstance(client, SupportsMany)
    many = [values(encoding, seed) for seed in range(3)]
    sealed = client.encrypt_many(many, scale=SCALE, encoding=encoding)
    sent = [client.serialize(each) for each in sealed]
    assert len({bytes(each) for each in sent}) == len({each.seed for each in sealed}) == 3
    opened = client.decrypt_many([client.deserialize(each) for each in sent], encoding=encoding)
    for one, data, expected in zip(opened, sent, many, strict=True):
        alone = other.decrypt(other.deserialize(data), encoding=encoding)
        np.testing.assert_array_equal(one, alone)
        if encoding is not Encoding.INTEGERS:
            np.testing.assert_allclose(one, expected, atol=1e-5)


def test_ciphertexts_of_any_levels_scales_and_forms_are_opened_together() -> None:
    client, server = CupyBackend().generate_keys(PARAMS, [])
    fresh = client.encrypt_many([values(Encoding.SLOTS, seed) for seed in range(4)], scale=SCALE)
    received = [server.deserialize(client.serialize(each)) for each in fresh]
    lower = [server.rescale(server.add(each, each)) for each in received[:2]]
    mixed = [received[0], server.shortened(lower[0], (3, 2)), lower[1], server.shortened(lower[1], (1, 0)), received[3]]
    together = client.decrypt_many(mixed)
    for one, each in zip(together, mixed, strict=True):
        np.testing.assert_array_equal(one, client.decrypt(each))


def test_messages_beyond_what_doubles_add_exactly_are_encrypted_one_by_one() -> None:
    client, _ = CupyBackend().generate_keys(PARAMS, [])
    many = [np.array([2.0**40]), np.array([3.0])]
    opened = client.decrypt_many(client.encrypt_many(many, scale=SCALE))
    for one, expected in zip(opened, many, strict=True):
        np.testing.assert_allclose(one[:1], expected, rtol=1e-6)
