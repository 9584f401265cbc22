"""Measures the cost of Python in a process of ``ab_worker.py``, with a library whose operations do nothing.

Executing a program on it is the executor, the session and the ledger and nothing else. Levels, scales, encoding and
messages are those of the emulation, whose ciphertexts it takes. This module imports nothing of the harness.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

LOOP_NS = 50_000_000
"""How long a measurement repeats what it times."""


class NullEvaluator:
    """An evaluator whose operations do nothing; all else is that of a real one."""

    def __init__(self, evaluator: Any) -> None:
        self._evaluator = evaluator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evaluator, name)

    def add(self, left: Any, right: Any) -> Any:
        return left

    def multiply_plain(self, ciphertext: Any, plaintext: Any) -> Any:
        return ciphertext

    def dot_plain(self, ciphertexts: Sequence[Any], plaintexts: Sequence[Any]) -> Any:
        return ciphertexts[0]

    def rotate(self, ciphertext: Any, steps: int) -> Any:
        return ciphertext

    def rotate_many(self, ciphertext: Any, steps: Sequence[int]) -> list[Any]:
        return [ciphertext] * len(steps)

    def rescale(self, ciphertext: Any) -> Any:
        return ciphertext


class NullBackend:
    """A backend with such evaluators, and the keys of a real one. It runs programs operation by operation."""

    programs = False

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.capabilities = backend.capabilities
        if runs_programs(backend):
            self.capabilities = msgspec.structs.replace(backend.capabilities, programs=self.programs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def generate_keys(self, *args: Any, **options: Any) -> tuple[Any, Any]:
        decryptor, evaluator = self._backend.generate_keys(*args, **options)
        self.evaluator = NullEvaluator(evaluator)
        return decryptor, self.evaluator


class NullPrograms(NullBackend):
    """The same, and it runs programs whole: each output is the first input."""

    programs = True

    def prepare(self, params: Any, tape: Any) -> NullExecutable:
        return NullExecutable(len(tape.outputs))


class NullExecutable:
    """A program that does nothing."""

    exact = False

    def __init__(self, outputs: int) -> None:
        self._outputs = outputs

    def load(self, plaintexts: Any, numbers: Any) -> None:
        return None

    def run(self, runs: Sequence[Any], *, trace: Any = None) -> list[list[Any]]:
        return [[run.inputs[0]] * self._outputs for run in runs]


def runs_programs(backend: Any) -> bool:
    """Whether the code that is measured knows whole programs, and the backend has them."""
    return bool(getattr(backend.capabilities, "programs", False))


def overhead(shim: Any, packing: str, shape: str, tokens: int) -> dict[str, float]:
    """One measurement.

    Returns:
        ``operations`` of the program, ``ns_per_operation`` on the null library, ``ns_per_operation_whole`` where that
        is given the program whole (left out where the code knows no whole programs), ``metering_ns`` of one sum through
        core's checks and the ledger: processor time; of a request on the emulation, both roles and messages included,
        ``request_ns`` and the part of it that was spent in the library, ``library_ns``: wall time.
    """
    null = shim.Prepared("numpy", packing, shape, tokens, seed=1, wrap=NullBackend)
    program = null.program()
    operations = len(null.plan.program.ops)
    metered, bare, one = null.evaluator, null.backend.evaluator, null.encrypted()
    real = shim.Prepared("numpy", packing, shape, tokens, seed=1)
    real.run()
    whole = {}
    if runs_programs(real.backend):
        prepared = shim.Prepared("numpy", packing, shape, tokens, seed=1, wrap=NullPrograms)
        whole["ns_per_operation_whole"] = _ns(prepared.program()) / operations
    requests: list[int] = []
    inside: list[int] = []
    start = time.perf_counter_ns()
    while len(requests) < 3 or time.perf_counter_ns() - start < LOOP_NS:
        before = sum(real.elapsed_ns().values())
        requests.append(real.timed_ns())
        inside.append(sum(real.elapsed_ns().values()) - before)
    return {
        "operations": operations,
        "ns_per_operation": _ns(program) / operations,
        **whole,
        "metering_ns": max(0.0, _ns(lambda: metered.add(one, one)) - _ns(lambda: bare.add(one, one))),
        "request_ns": statistics.median(requests),
        "library_ns": statistics.median(inside),
    }


def _ns(call: Callable[[], Any]) -> float:
    """Processor time of one call: the least over batches of many, which other processes disturb least."""
    start = time.perf_counter_ns()
    call()
    many = max(1, LOOP_NS // 10 // max(1, time.perf_counter_ns() - start))
    samples = []
    for _ in range(10):
        start = time.process_time_ns()
        for _ in range(many):
            call()
        samples.append((time.process_time_ns() - start) / many)
    return min(samples)
