"""Attacks on masks at the sizes of real parameters, through what every backend offers: ``SupportsCorrelations``."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from helora_core.backend.correlations import NONCE_BYTES, SEED_BYTES, SupportsCorrelations, Switching
from helora_core.params.ckks import CKKSParams

TRIM = Switching(24, 36)
F = np.uint64(64 - TRIM.top_bits)
D_IN, D_OUT, RANK = 5, 3, 2
SCALE_BITS = 44
"""Of numbers whose products with weights are read from results to within a few of 2^40."""

_RNG = np.random.default_rng(9)
MODULES = [(_RNG.integers(-99, 100, (RANK, D_IN)), _RNG.integers(-99, 100, (D_OUT, RANK))) for _ in range(2)]


class Offered:
    """A backend with parameters of 4096, and a client's key of one batch."""

    def __init__(self, backend: Any) -> None:
        self.backend: SupportsCorrelations = backend
        self.params: CKKSParams = backend.resolve(
            CKKSParams(ring_degree=4096, data_bits=(41,), special_bits=(), scale_bits=20, wrap_bits=64)
        )
        self.nonces = secrets.token_bytes(2 * NONCE_BYTES)
        self.key = self.backend.batch_key(self.params, self.nonces)

    def uniform(self, *shape: int) -> Any:
        """Numbers modulo t."""
        return np.frombuffer(secrets.token_bytes(8 * int(np.prod(shape))), dtype=np.uint64).reshape(shape)

    def columns(self, scale_bits: int) -> Any:
        """Numbers to encrypt: token j has 2^scale_bits at feature j."""
        r = np.zeros((D_IN, self.params.ring_degree), dtype=np.uint64)
        r[np.arange(D_IN), np.arange(D_IN)] = 1 << scale_bits
        return r

    def correlation(self, upload: bytes, module: int, masks: Any) -> Any:
        """c of one upload under these masks, for one module."""
        down, up = MODULES[module]
        sums = self.backend.batch_sums(self.params, self.key.public_key, self.nonces, RANK)
        sums.add(upload, down)
        return self.key.decrypt(sums.results(up, masks, secrets.token_bytes(SEED_BYTES), TRIM), D_OUT, TRIM)


def replayed(backend: Any, *, same_masks: bool) -> float:
    """The share of W read off two uploads for one batch, whose masks are equal or depend on the upload."""
    offered = Offered(backend)
    masks = [offered.uniform(D_OUT, offered.params.ring_degree) for _ in range(2)]
    uploads = [offered.key.encrypt(r) for r in (offered.columns(SCALE_BITS), np.zeros_like(offered.columns(0)))]
    first, second = (offered.correlation(each, 0, masks[0 if same_masks else i]) for i, each in enumerate(uploads))
    return _share(first, second, _whole(0))


def modules_subtracted(backend: Any, *, same_masks: bool) -> float:
    """The share of W − W′ read off the correlations of two modules for one upload."""
    offered = Offered(backend)
    masks = [offered.uniform(D_OUT, offered.params.ring_degree) for _ in range(2)]
    upload = offered.key.encrypt(offered.columns(SCALE_BITS))
    first, second = (offered.correlation(upload, module, masks[0 if same_masks else module]) for module in range(2))
    return _share(first, second, _whole(0) - _whole(1))


def answers_subtracted(backend: Any, *, same_masks: bool) -> float:
    """The share of differences of W's columns read off two answers under one mask."""
    library = Offered(backend).backend
    weights, masks = library.online_weights(MODULES[0]), Offered(backend).uniform(D_IN, D_OUT)
    y = np.eye(D_IN, dtype="<u8") << np.uint64(SCALE_BITS)
    chosen = masks[:1].repeat(D_IN, axis=0) if same_masks else masks
    answers = weights.answer(y.tobytes(), chosen, TRIM.top_bits)
    v = library.unpack(answers, masks.size, TRIM.top_bits).reshape(masks.shape)
    return _share(v.T, v.T[:, :1], _whole(0) - _whole(0)[:, :1], skip=1)


def _whole(module: int) -> Any:
    down, up = MODULES[module]
    return up @ down


def _share(first: Any, second: Any, truth: Any, skip: int = 0) -> float:
    difference = ((first - second)[:, skip:D_IN] << F).view(np.int64)
    return float(np.mean(np.rint(difference / 2.0**SCALE_BITS) == truth[:, skip:]))
