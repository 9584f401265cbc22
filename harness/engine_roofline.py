"""What a lowered plan computes and reads against what this machine can: ``python harness/engine_roofline.py``.

Operations are counted, not timed: transforms of the lowered program, butterflies in them, bytes of keys and weights.
The machine's side is measured now: one transform, and a sum of arrays larger than the cache. The larger of the two
times bounds the program from below, on one thread; what it really takes is beside it.
"""

from __future__ import annotations

import os

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "HELORA_THREADS"):
    os.environ.setdefault(variable, "1")

import math  # noqa: E402 - the environment first
import sys  # noqa: E402

import numpy as np  # noqa: E402

from helora_harness.engine.parties import best_parties, machine_of  # noqa: E402
from helora_rns.arrays import aligned_copy  # noqa: E402
from helora_rns.backend import RNSBackend  # noqa: E402
from helora_rns.programs import executable  # noqa: E402
from helora_rns.programs.steps import Lowered  # noqa: E402
from helora_rns.scheme.context import Parameters, context  # noqa: E402
from helora_rns.turns import alone  # noqa: E402

_COLD = 1 << 25
"""Words of an array that no cache holds."""


def bandwidth() -> float:
    """Bytes a second that one thread reads."""
    words = np.ones(_COLD)
    return words.nbytes / alone(words.sum, least=5, most=9).ratio


def main(shapes: list[str]) -> None:
    """Print it for ``rank_bsgs`` of each shape."""
    rate = bandwidth()
    found: list[Lowered] = []
    lower = executable.lower

    def kept(tape, specials):  # type: ignore[no-untyped-def]
        found.append(lower(tape, specials))
        return found[-1]

    executable.lower = kept
    print(f"reading {rate / 1e9:.1f} GB/s")
    for shape in shapes:
        found.clear()
        parties = best_parties(machine_of("rns", quick=True), "rns", shape, "rank_bsgs")
        params = RNSBackend().resolve(parties.plan.params)
        n, limbs, specials = params.ring_degree, len(params.data_primes), len(params.special_primes)
        ring = context(Parameters(n, params.data_primes, params.special_primes))
        row = aligned_copy(np.ones((1, 1, n), dtype=np.uint64))
        # The primes that a program computes with most are data primes.
        ntt = alone(lambda: ring.kernels.forward(row, (0,)), least=5, most=9).ratio  # noqa: B023 - called at once
        program = max(found, key=lambda each: each.counts["transforms"])
        transforms = program.counts["transforms"]
        keys = program.counts["keyswitches"] * limbs * 2 * (limbs + specials) * n * 8
        weights = len(program.slots.plaintexts) * (limbs + specials) * n * 8
        computing, reading = transforms * ntt * 1e3, (keys + weights) / rate * 1e3
        took = parties.run().report.times.compute / 1e6
        butterflies = transforms * n // 2 * int(math.log2(n))
        switches = program.counts["keyswitches"]
        print(f"{shape} N={n}, {limbs}+{specials} primes: {switches} key switches, {transforms} NTTs")
        print(f"  {butterflies / 1e6:.1f} M butterflies")
        print(f"  {keys / 1e6:.1f} MB of keys and {weights / 1e6:.1f} MB of weights read")
        print(f"  NTTs {computing:.2f} ms, reading {reading:.2f} ms; server, with sanitising, {took:.2f} ms")


if __name__ == "__main__":
    main(sys.argv[1:] or ["1536:1536:16", "576:768:16"])
