"""What the bars would take on a card, worked out without one: launches, bytes and operations of the real programs.

A counting device stands in for the card: programs are lowered and enqueued as on one, and each launch is noted with
what it reads and writes, by its own arguments. A launch takes the largest of what an empty one took on the H100 of
``harness/history/cuda``, of its bytes at the speed of a large copy there, of its transforms by their times there, and
of its products at the rate there. The sum is no measurement: launches that are slower than that make it too small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from cuda_counting import Counting, Launch, Rates

from helora_cupy.kernels import DeviceKernels
from helora_cupy.launches import Launches


class Prediction(NamedTuple):
    """A bar, and what the plan comes to."""

    bar: str
    wanted: float
    unit: str
    at_most: bool
    predicted: float
    launches: tuple[Launch, ...]
    note: str

    @property
    def held(self) -> bool:
        return self.predicted <= self.wanted if self.at_most else self.predicted >= self.wanted

    def row(self, rates: Rates) -> dict[str, Any]:
        """For the history and the page."""
        kinds = Counter(each.kernel for each in self.launches)
        return {
            "op": "prediction", "bar": self.bar, "wanted": self.wanted, "unit": self.unit,
            "predicted": float(f"{self.predicted:.3g}"), "held": self.held, "launches": len(self.launches),
            "mb": round(sum(each.read + each.written for each in self.launches) / 1e6, 1),
            "transforms": sum(each.rows if each.kernel.endswith("whole") else each.rows / 2 for each in self.launches),
            "us": float(f"{sum(map(rates.us, self.launches)):.4g}"), "kernels": dict(sorted(kinds.items())),
            "note": self.note,
        }  # fmt: skip


@cache
def _library() -> Any:
    from helora_core.host.manager import get_manager

    return get_manager().load_backend("rns")


def _plan(shape: str, packing: str, tokens: int) -> Any:
    """The plan that is taken where nothing was calibrated, so that it is the same anywhere."""
    from helora_core.planning.planner import CalibratedBackend
    from helora_harness.engine.parties import PRIVATE, candidates

    options = candidates(CalibratedBackend(_library(), None), "rns", shape, packing, tokens, PRIVATE)
    return next(each.plan for each in options if each.plan is not None and each.refusal is None)


def _captured(work: Callable[[], Any]) -> list[tuple[Any, int]]:
    """Programs, with the number of their runs, that the CPU's engine runs in the meantime."""
    from helora_rns.programs.executable import RNSExecutable

    found: list[tuple[Any, int]] = []
    right = RNSExecutable.run

    def noted(self: Any, runs: Any, **more: Any) -> Any:
        found.append((self, len(runs)))
        return right(self, runs, **more)

    RNSExecutable.run = noted  # type: ignore[method-assign]
    try:
        work()
    finally:
        RNSExecutable.run = right  # type: ignore[method-assign]
    return found


def launches_of(executable: Any, runs: int, *, sessions: int = 1) -> list[Launch]:
    """Of a lowered program, each session with keys of its own, all with the same weights."""
    ring, counting = executable._ring, Counting()
    kernels = DeviceKernels(counting, ring.ring_degree, ring.primes)
    program = Launches(kernels, executable._lowered, len(ring.data_primes), ring.specials)
    slots, count = executable._lowered.slots, runs * sessions
    fixed = np.zeros((count, program.fixed), np.uint64)
    values, weights = slots.inputs + len(slots.outputs), len(slots.plaintexts)
    fixed[:] = np.arange(1, program.fixed + 1, dtype=np.uint64) << np.uint64(40)
    fixed[:, :values] += np.arange(count, dtype=np.uint64)[:, np.newaxis]
    session = np.arange(count, dtype=np.uint64)[:, np.newaxis] // np.uint64(runs)
    fixed[:, values + weights :: 3] += session  # keys; indices are one ring's
    counting.launches.clear()
    program.enqueue(program.tables(fixed, 1 << 60))
    return counting.launches


def _sanitized(executable: Any) -> list[Launch]:
    """Re-randomising and flooding one result, at least: three polynomials are drawn and transformed, and added."""
    ring, counting, level = executable._ring, Counting(), executable._made[executable._tape.outputs[0]][0]
    kernels, basis, n = DeviceKernels(counting, ring.ring_degree, ring.primes), ring.basis(level), ring.ring_degree
    key, result = np.empty((2, len(basis), n), np.uint64), np.empty((2, len(basis), n), np.uint64)
    stream = kernels.stream(bytes(32))
    counting.launches.clear()
    parts = [kernels.normal(stream.words(n)), kernels.random_bits(stream.words(n), 52)]
    noise = np.empty((2, len(basis), n), np.uint64)
    noise[0] = kernels.of_parts([parts[0], parts[1]], [52, 0], basis)
    noise[1] = kernels.of_doubles(kernels.binomial(stream.words(n)), basis)
    kernels.forward(noise, basis)
    u = kernels.values_of_doubles(kernels.binomial(stream.words(n)), basis)
    kernels.multiply_add(key, u, noise, basis, out=noise)
    kernels.add(noise, result, basis, out=noise)
    return counting.launches


def predictions(rates: Rates) -> Iterator[Prediction]:
    """Every bar of the design."""
    from helora_harness.engine.parties import Parties

    shape = "1536:1536:16"
    parties = Parties("rns", _plan(shape, "rank_bsgs", 1))
    ((executable, runs),) = _captured(parties.run)
    sanitized = _sanitized(executable)

    def time(launches: Sequence[Launch]) -> float:
        return sum(map(rates.us, launches))

    one = [*launches_of(executable, runs), *sanitized]
    ring = f"N={executable._ring.ring_degree}, {len(executable._ring.data_primes)}+{executable._ring.specials} primes"
    yield Prediction(f"`rank_bsgs` {shape}, one token, sanitised", 1.0, "ms", True, time(one) / 1e3, tuple(one), ring)
    many = launches_of(executable, runs, sessions=64)
    alone = [each for each in sanitized for _ in range(64)]
    whole = [*many, *alone]
    note = f"{ring}; each session's keys read once; results sanitised one by one"
    rate = 64 / time(whole) * 1e6
    yield Prediction(f"`rank_bsgs` {shape}, 64 sessions at once", 20000, "tokens/s", False, rate, tuple(whole), note)
    yield _bundled(time)
    yield from _matrices(time)
    yield _ahead(time)
    yield _transforms(rates)


def _bundled(time: Callable[[Sequence[Launch]], float]) -> Prediction:
    import helora_core
    from helora_core.data.bundled import bundled_activations, bundled_adapter

    adapter, activations = bundled_adapter(), bundled_activations()
    lora = helora_core.compile(adapter, backend="rns", tokens=1, modules="all")
    client, session = lora.open()

    def work() -> None:
        for name in lora.by_name:
            first = lora.by_name[name][0].parts[0].name
            client.run(name, np.asarray(activations[first][:1], dtype=np.float64), session)

    found: list[Launch] = []
    for executable, runs in _captured(work):
        found += launches_of(executable, runs)
        outputs = len(executable._tape.outputs) * runs
        found += [each for each in _sanitized(executable) for _ in range(outputs)]
    note = "a program after another; results sanitised one by one"
    return Prediction(
        "all 60 modules of the bundled adapter, one token", 12.0, "ms", True, time(found) / 1e3, tuple(found), note
    )


def _matrices(time: Callable[[Sequence[Launch]], float]) -> Iterator[Prediction]:
    """Products of ciphertexts with numbers: words and residues of both polynomials, both matrices."""
    shape, (wide, rank) = "1536:1536:32", (1536, 32)
    plan = _plan(shape, "cpmm", 2048)
    params = _library().resolve(plan.params)
    n, primes = params.ring_degree, params.data_primes
    counting = Counting()
    kernels, limbs = DeviceKernels(counting, n, primes), tuple(range(len(primes)))
    tokens = plan.tokens_per_run
    down = [np.zeros((rank, wide), np.int64)] * len(limbs)
    up = [np.zeros((wide, rank), np.int64)] * len(limbs)
    values = [np.empty((2, len(limbs), n), np.uint64)]
    counting.launches.clear()
    inner = kernels.gemm(down, values * wide, limbs)
    kernels.gemm(up, inner, limbs)
    rate = tokens / time(counting.launches) * 1e6
    note = f"N={n}, {len(limbs)} primes, {tokens} tokens a run; neither sanitised nor read or written"
    yield Prediction(f"`cpmm` {shape}, server", 1e6, "tokens/s", False, rate, tuple(counting.launches), note)


def _ahead(time: Callable[[Sequence[Launch]], float]) -> Prediction:
    """One batch of N tokens, from the client's bytes to the results': both of the server's calls."""
    from helora_core.backend.primes import distinct_ntt_primes
    from helora_cupy.words import DeviceWords
    from helora_rns.correlations import streams
    from helora_rns.correlations.kernels import PublicValues, packed_bytes
    from helora_rns.correlations.ring import WordRing

    n, (wide, rank), tile, bits = 8192, (1536, 32), 1536, (27, 64)
    ring, counting = WordRing(n, distinct_ntt_primes((42, 42), n)), Counting()
    kernels, limbs = DeviceKernels(counting, n, ring.primes), len(ring.limbs)
    words, empty = DeviceWords(ring, kernels), kernels.empty
    row, result = packed_bytes(n, 64) + limbs * packed_bytes(n, 42), sum(packed_bytes(n, each) for each in bits)
    key = PublicValues(empty((2, 2, n)), empty((2, limbs, n)))
    bounds = np.zeros((1 + limbs, 2), np.uint64)
    sums = empty((rank, 2, n)), empty((rank, 2, limbs, n))
    budget, keys = (1 + limbs) * n + n // 64, [(bytes(32), bytes(12))] * (tile // streams.ROWS)

    def multiplied(rows: int, terms: int, a: tuple[Any, Any], out: tuple[Any, Any], *, add: bool) -> None:
        matrix = np.zeros((rows, terms), np.int64)
        words.gemm(matrix, a[0].reshape(terms, -1), out[0].reshape(rows, -1), add=add)
        kernels.gemm([matrix] * limbs, list(a[1]), ring.limbs, list(out[1]), add=add)

    counting.launches.clear()
    for _ in range(wide // tile):
        a = empty((tile, 2, n)), empty((tile, 2, limbs, n))
        first, rest = empty((tile, n)), empty((tile, limbs, n))
        words.unpacked_many(empty((tile * row,), np.uint8), first, rest, row)
        a[0][:, 0], a[1][:, 0] = first, rest
        kernels.uniform_streams(keys, bounds, (a[0][:, 1], a[1][:, 1]), streams.ROWS, tile, budget)
        multiplied(rank, tile, a, sums, add=True)
    for _ in range(wide // tile):
        out = empty((tile, 2, n)), empty((tile, 2, limbs, n))
        multiplied(tile, rank, sums, out, add=False)
        u = kernels.ternary_streams(keys, streams.ROWS, tile)
        words.results(out, key, u, empty((tile, n)), bits, empty((tile, result), np.uint8), None)
    rate = n / time(counting.launches) * 1e6
    note = f"N={n}, results of {bits[0]} and {bits[1]} bits, {tile} at a time; bytes are on the card already"
    launches = tuple(counting.launches)
    return Prediction("`precomputed` 1536:1536:32, filling pools, server", 1e6, "tokens/s", False, rate, launches, note)


def _transforms(rates: Rates) -> Prediction:
    n, counting = 8192, Counting()
    kernels = DeviceKernels(counting, n, _library().resolve(_plan("1536:1536:16", "rank_bsgs", 1).params).data_primes)
    limbs = tuple(range(len(kernels.primes)))
    x = np.empty((1024 // len(limbs), len(limbs), n), np.uint64)
    counting.launches.clear()
    kernels.inverse(x, limbs)
    (launch,) = counting.launches
    share = 100 * 2 * x.nbytes / rates.copy * 1e6 / rates.us(launch)
    note = "the slower direction; interpolated between what was measured"
    return Prediction("NTT N=8192, 1024 limbs, share of a copy", 60, "%", False, share, (launch,), note)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """In Markdown."""
    lines = [
        "| bar | at least | predicted | | launches | MB | transforms | what is counted |",
        "|---|--:|--:|---|--:|--:|--:|---|",
    ]
    for r in rows:
        wanted = f"{'≤' if r['unit'] == 'ms' else '≥'} {r['wanted']:g} {r['unit']}"
        held = "held" if r["held"] else "not held"
        lines.append(
            f"| {r['bar']} | {wanted} | {r['predicted']:g} {r['unit']} | {held}, as predicted | {r['launches']} | "
            f"{r['mb']:g} | {r['transforms']:g} | {r['note']} |"
        )
    return "\n".join(lines)


def planned() -> list[dict[str, Any]]:
    """Every bar's row."""
    rates = Rates()
    return [each.row(rates) for each in predictions(rates)]
