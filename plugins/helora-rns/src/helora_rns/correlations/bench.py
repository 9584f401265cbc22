"""``python -m helora_rns.correlations.bench 576:768:16``: what a token costs ahead and online, a step at a time.

A shape is d_in:d_out:rank. CPU time, the least of several rounds, on one thread; and how many transforms of a row take
as long, in the same process, which is what holds on another machine. Times ahead are of a whole batch, over its tokens.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np

from helora_core.backend.correlations import NONCE_BYTES, SEED_BYTES, Switching
from helora_core.params.ckks import CKKSParams
from helora_rns import choice
from helora_rns.backend import RNSBackend
from helora_rns.correlations.ring import ring_of

CHAINS = {8192: (42, 42), 4096: (41,)}
HOW = Switching(27, 32)
FEATURES, RESULTS = 64, 128
"""Of a message: some megabytes, whose memory is used again."""
WEIGHT_BITS, CALLS = 19, 20


@dataclass(frozen=True)
class Costs:
    """One shape and ring, in µs and bytes a token; ``transform_us`` is one row's."""

    shape: str
    ring_degree: int
    encrypt: float
    add: float
    results: float
    decrypt: float
    online: float
    transform_us: float
    up_bytes: float
    down_bytes: float

    @property
    def ahead(self) -> float:
        """All steps that are done ahead, µs."""
        return self.encrypt + self.add + self.results + self.decrypt


class Clock:
    """The least time of each work, over rounds of several parts."""

    def __init__(self) -> None:
        self._round: dict[str, float] = {}
        self._least: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """A part of a work is done within."""
        start = time.process_time()
        yield
        self._round[name] = self._round.get(name, 0.0) + time.process_time() - start

    def least(self) -> dict[str, float]:
        """End a round; seconds of each work, the least of all rounds."""
        for name, seconds in self._round.items():
            self._least[name] = min(seconds, self._least.get(name, seconds))
        self._round = {}
        return self._least


def measured(shape: str, n: int, rounds: int) -> Costs:
    """Run all steps of a module."""
    d_in, d_out, rank = map(int, shape.split(":"))
    backend, rng, most = RNSBackend(), np.random.default_rng(1), 2**WEIGHT_BITS
    params = backend.resolve(
        CKKSParams(ring_degree=n, data_bits=CHAINS[n], special_bits=(), scale_bits=20, wrap_bits=64)
    )
    down, up = rng.integers(-most, most, (rank, d_in)), rng.integers(-most, most, (d_out, rank))
    numbers, masks = (rng.integers(0, 2**64, (size, n), dtype=np.uint64) for size in (d_in, d_out))
    nonces, clock, sent = bytes(2 * NONCE_BYTES), Clock(), {"up": 0, "down": 0}
    weights, y, mask = backend.online_weights([down, up]), numbers[:, 0].tobytes(), masks[:, :1].T.copy()
    ring = ring_of(params)
    row = ring.kernels.values_of_doubles(np.zeros(n), ring.limbs[:1])

    online: list[float] = []

    def small_works() -> None:
        """Those of which a round has many calls, among the others."""
        with clock.timed("transform"):
            for _ in range(CALLS):
                ring.kernels.forward(row, ring.limbs[:1])
        for _ in range(CALLS):  # whose least is with weights in the caches
            start = time.process_time()
            weights.answer(y, mask, HOW.top_bits)
            online.append(time.process_time() - start)

    for each in range(rounds):
        key = backend.batch_key(params, nonces)
        sums = backend.batch_sums(params, key.public_key, nonces, rank)
        for start in range(0, d_in, FEATURES):
            part = slice(start, start + FEATURES)
            with clock.timed("encrypt"):
                payload = key.encrypt(numbers[part])
            with clock.timed("add"):
                sums.add(payload, down[:, part])
            small_works()
            sent["up"] += len(payload)
        for start in range(0, d_out, RESULTS):
            part, seed = slice(start, start + RESULTS), (each * d_out + start).to_bytes(SEED_BYTES, "big")
            with clock.timed("results"):
                payload = sums.results(up[part], masks[part], seed, HOW)
            with clock.timed("decrypt"):
                key.decrypt(payload, len(up[part]), HOW)
            small_works()
            sent["down"] += len(payload)
        least = clock.least()
        key.erase()
    transforms = CALLS * (-(-d_in // FEATURES) + -(-d_out // RESULTS))
    transform_us = least.pop("transform") / transforms * 1e6
    return Costs(
        shape=shape,
        ring_degree=n,
        **{name: seconds / n * 1e6 for name, seconds in least.items()},
        online=min(online) * 1e6,
        transform_us=transform_us,
        up_bytes=sent["up"] / rounds / n,
        down_bytes=sent["down"] / rounds / n,
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shapes", nargs="*", default=["576:768:16"])
    parser.add_argument("--ring-degree", type=int, choices=sorted(CHAINS), action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rings = asked.ring_degree or sorted(CHAINS, reverse=True)
    found = [measured(shape, n, asked.rounds) for shape in asked.shapes for n in rings]
    if asked.json:
        print(
            json.dumps({"kernels": choice.chosen(), "costs": [asdict(each) | {"ahead": each.ahead} for each in found]})
        )
        return 0
    print(f"kernels {choice.chosen()}; µs a token; NTTs: rows that are transformed in as much time as is spent ahead")
    print(f"{'shape':>14}{'N':>6}{'encrypt':>9}{'add':>7}{'results':>9}{'decrypt':>9}{'ahead':>8}{'NTTs':>7}{'online':>8}"
          f"{'NTT':>7}{'KB up':>7}{'down':>6}")  # fmt: skip
    for each in found:
        rows = each.ahead / each.transform_us
        print(f"{each.shape:>14}{each.ring_degree:>6}{each.encrypt:9.1f}{each.add:7.1f}{each.results:9.1f}"
              f"{each.decrypt:9.1f}{each.ahead:8.1f}{rows:7.2f}{each.online:8.2f}{each.transform_us:7.1f}"
              f"{each.up_bytes / 1000:7.1f}{each.down_bytes / 1000:6.1f}")  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
