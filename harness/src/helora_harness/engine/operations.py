"""Single operations: against SEAL, against vfhe where it is installed, and transforms by themselves."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np

from helora_core.backend.capabilities import Encoding
from helora_core.backend.primes import distinct_ntt_primes
from helora_core.backend.protocol import Sanitizing
from helora_core.backend.session import open_sessions
from helora_core.host.manager import get_manager
from helora_core.params.ckks import CKKSParams
from helora_harness.engine.bars import Figure
from helora_rns import bench
from helora_rns.arrays import aligned_copy
from helora_rns.scheme.context import Parameters, context
from helora_rns.turns import Ready, Turns, Work, alone, compared

Pace = dict[str, Any]
"""Rounds and seconds, as ``compared`` takes them."""

_NAMES = {
    "encrypt": "encode + encrypt",
    "ct-pt": "ct x pt",
    "rescale": "rescale",
    "rotate": "rotate",
    "hoisted": "8 hoisted",
    "decrypt": "decrypt + decode",
}
_NTT_DEGREES = (2048, 4096, 8192)


class NotHere(Exception):
    """Something cannot be measured on this machine; the message says why."""


def ratio(bar: str, turns: Turns, **more: Any) -> Figure:
    """The figure of two works in turns."""
    return Figure(
        bar=bar, value=turns.ratio, least=turns.least, most=turns.most, rounds=turns.rounds,
        ours_ms=turns.first * 1e3, theirs_ms=turns.second * 1e3, **more,
    )  # fmt: skip


def absolute(bar: str, turns: Turns, factor: float, **more: Any) -> Figure:
    """The figure of a work by itself, its seconds times a factor."""
    return Figure(
        bar=bar, value=turns.ratio * factor, least=turns.least * factor, most=turns.most * factor, rounds=turns.rounds,
        ours_ms=turns.first * 1e3, **more,
    )  # fmt: skip


def operations(pace: Pace) -> Iterator[Figure]:
    """Those that any CKKS library has, at N=8192 with three data primes of 49 bits."""
    mine, theirs = bench.ours(), bench.seal()
    for bar, name in _NAMES.items():
        yield ratio(bar, compared(mine[name], theirs[name], **pace))


def _sanitising(backend: str) -> tuple[Work, Ready]:
    """The work, and what makes zeros ready for it."""
    params = CKKSParams(ring_degree=8192, data_bits=(49, 49, 49), special_bits=(50,), scale_bits=40)
    client, server = open_sessions(get_manager().load_backend(backend), params, [], public_key=True)
    sealed = client.encrypt(np.ones(8), scale_bits=40)
    ciphertext = server.deserialize(client.serialize(sealed))
    # The width of the flood that the design's figure is for; no mask beside it.
    how = [Sanitizing(encoding=Encoding.SLOTS, flood_bits=104, mask_bits=0, keep=None)]
    level = params.max_level
    return lambda: server.sanitize_many([ciphertext], how), lambda count: server.prepare_zeros(level, count)


def sanitizing(pace: Pace) -> Iterator[Figure]:
    """One result, by core's own steps or the library's, as helora does it on each."""
    (ours, ready), (theirs, _) = _sanitising("rns"), _sanitising("tenseal")
    yield ratio("sanitize", compared(ours, theirs, **pace))
    if not ready(1):
        yield Figure(bar="sanitize-pool", skipped=NO_POOL)
        return
    yield ratio("sanitize-pool", compared(ours, theirs, ready=ready, **pace), note="filling is not timed")


NO_POOL = "the engine keeps no encryptions of zero ahead of time"


def transforms(pace: Pace) -> Iterator[Figure]:
    """Forward transforms, in place, of primes of up to 50 bits."""
    for n in _NTT_DEGREES:
        ring = context(Parameters(n, distinct_ntt_primes((49,), n)))
        rows = aligned_copy(np.random.default_rng(n).integers(0, 1 << 48, (8, 1, n), dtype=np.uint64))
        turns = alone(lambda: ring.kernels.forward(rows, (0,)), **pace)  # noqa: B023 - called at once
        yield absolute(f"ntt-{n}", turns, 1e6 / len(rows))


def vfhe(pace: Pace) -> Iterator[Figure]:
    """What our engine and vfhe share: transform, product, rescaling, rotation, at N=8192 with three data primes."""
    if importlib.util.find_spec("vfhe") is None:
        raise NotHere("vfhe is not installed: pip install vfhe")
    try:
        theirs, engine = _vfhe()
    except (ImportError, OSError, RuntimeError) as error:
        raise NotHere(f"vfhe does not run on this CPU: {error}") from error
    mine = _beside_vfhe()
    for name, work in theirs.items():
        yield ratio(f"vfhe-{name}", compared(mine[name], work, **pace), note=f"vfhe's engine: {engine}")


def _beside_vfhe() -> dict[str, Work]:
    found = distinct_ntt_primes(bench.BITS, bench.N)
    ring = context(Parameters(bench.N, found[:3], found[3:]))
    basis, rng = ring.basis(2), np.random.default_rng(1)
    rows = aligned_copy(rng.integers(0, 1 << 48, (1, 3, bench.N), dtype=np.uint64))
    mine = bench.ours()
    return {
        "ntt": lambda: ring.kernels.forward(rows, basis),
        "product": lambda: ring.kernels.multiply(rows, rows, basis),
        "rescale": mine["rescale"],
        "rotate": mine["rotate"],
    }


def _vfhe() -> tuple[dict[str, Work], str]:
    """The rival's works, and which of its engines runs."""
    arith: Any = importlib.import_module("vfhe.arith")
    ckks: Any = importlib.import_module("vfhe.fhe.ckks")
    engine: Any = importlib.import_module("vfhe.engine")
    scheme = ckks.CKKS_Scheme(
        arith.RNSRing(bench.N, prime_size=[*bench.BITS], split_degree=1),
        scaling_factor=bench.SCALE,
        special_primes=1,
    )
    a, b, out = (scheme.ring.random_element() for _ in range(3))
    moved = scheme.ring.random_element()
    key = scheme.key_gen_sparse(bench.N // 2, 3.2)
    switching = scheme.gen_rotation_key(key, 1)
    sealed = scheme.encrypt(scheme.encode([0.5] * (bench.N // 2)), key)
    sealed.to_coeff()

    def forward() -> None:
        moved.repr = arith.repr.coeff  # as if it were: what is transformed does not matter
        moved.to_NTT()

    return {
        "ntt": forward,
        "product": lambda: out.multiply(a, b),
        "rescale": lambda: sealed.copy().rescale(),  # in place there; ours makes a new one
        "rotate": lambda: scheme.rotate(sealed, 1, switching),
    }, str(engine.active_engine())
