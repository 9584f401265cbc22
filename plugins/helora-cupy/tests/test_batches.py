"""Batches of correlations: the same bytes from the same upload as on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from helora_core.backend.correlations import Switching
from helora_core.errors import CorruptPayload
from helora_core.params.ckks import CKKSParams
from helora_cupy.backend import CupyBackend
from helora_cupy.running import RunningShim
from helora_rns.backend import RNSBackend

NONCES = bytes(range(64))
CHAINS = {"two primes": (8192, (42, 42)), "one prime": (4096, (41,))}


def params(chain: str) -> CKKSParams:
    degree, bits = CHAINS[chain]
    return RNSBackend().resolve(
        CKKSParams(ring_degree=degree, data_bits=bits, special_bits=(), scale_bits=20, wrap_bits=64)
    )


@pytest.mark.parametrize(
    ("chain", "how"),
    [
        ("two primes", Switching(32, 32, False)),
        ("two primes", Switching(27, 64, False)),
        ("one prime", Switching(32, 32, False)),
        ("two primes", Switching(64, 64, True)),
    ],
)
def test_results_of_the_same_upload_are_the_same_bytes(chain: str, how: Switching) -> None:
    found, rng = [], np.random.default_rng(1)
    own = params(chain)
    key = RNSBackend().batch_key(own, NONCES)
    numbers = rng.integers(0, 2**64, (3, own.ring_degree), dtype=np.uint64)
    uploads = [(key.encrypt(numbers), rng.integers(-(2**22), 2**22, (5, 3))) for _ in range(2)]
    up = rng.integers(-(2**22), 2**22, (4, 5))
    up[:, 0] = 0
    masks, seed = rng.integers(0, 2**64, (4, own.ring_degree), dtype=np.uint64), bytes(range(32))
    for backend in (RNSBackend(), CupyBackend()):
        sums = backend.batch_sums(own, key.public_key, NONCES, 5)
        for upload, down in uploads:
            sums.add(upload, down)
        found.append(sums.results(up, masks, seed, how))
    assert found[0] == found[1]


def test_more_ciphertexts_than_a_tile_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helora_cupy.correlations.TILE", 32)
    own, rng = params("one prime"), np.random.default_rng(2)
    key = RNSBackend().batch_key(own, NONCES)
    upload = key.encrypt(rng.integers(0, 2**64, (33, own.ring_degree), dtype=np.uint64))
    down, up = rng.integers(-9, 9, (2, 33)), rng.integers(-9, 9, (33, 2))
    masks = rng.integers(0, 2**64, (33, own.ring_degree), dtype=np.uint64)
    found = []
    for backend in (RNSBackend(), CupyBackend()):
        sums = backend.batch_sums(own, key.public_key, NONCES, 2)
        sums.add(upload, down)
        found.append(sums.results(up, masks, bytes(32), Switching(32, 32, False)))
    assert found[0] == found[1]


def test_a_damaged_upload_changes_nothing() -> None:
    own, rng = params("one prime"), np.random.default_rng(3)
    key = RNSBackend().batch_key(own, NONCES)
    upload = key.encrypt(rng.integers(0, 2**64, (2, own.ring_degree), dtype=np.uint64))
    device = RunningShim()
    sums = CupyBackend(device).batch_sums(own, key.public_key, NONCES, 1)
    down, masks = np.array([[1, 2]]), np.zeros((1, own.ring_degree), dtype=np.uint64)
    sums.add(upload, down)
    before = sums.results(np.array([[3]]), masks, bytes(32), Switching(32, 32, False))
    for damaged in (upload[:-100] + b"\xff" * 100, upload[:-1]):
        with pytest.raises(CorruptPayload):
            sums.add(damaged, down)
    assert sums.results(np.array([[3]]), masks, bytes(32), Switching(32, 32, False)) == before
