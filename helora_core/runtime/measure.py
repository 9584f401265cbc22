"""How long each operation of a backend takes here, and what a plan's counts make of that.

The figures are medians of a few calls, to compare rings or backends on one machine in one go; they are no calibration.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection
from functools import partial

import numpy as np

from helora_core.backend.capabilities import RescaleMode
from helora_core.backend.protocol import Backend, Ciphertext
from helora_core.backend.session import ClientSession, ServerSession, open_sessions
from helora_core.compiler.ir import OpKind, additions, products
from helora_core.compiler.plan import Plan
from helora_core.params.ckks import CKKSParams

Operation = tuple[str, int]
"""An operation's kind, as in ``OpKind`` or encrypt, decrypt, send, encode; and the level it works at."""

_STEP = 1


def measure_operations(
    backend: Backend, params: CKKSParams, *, levels: Collection[int] | None = None, calls: int = 5
) -> dict[Operation, float]:
    """Median milliseconds of each operation at each level, serialisation at both ends included in encrypt and decrypt.

    Raises:
        InsecureParameters, InvalidParameters: As ``open_sessions`` does.
    """
    # Parameters without a special prime belong to plans that never rotate.
    client, server = open_sessions(backend, params, (_STEP,) if params.special_bits else ())
    scale_bits, top = params.scale_bits, params.max_level
    values = np.random.default_rng(0).normal(size=params.slots)

    def fresh() -> Ciphertext:
        return server.receive(client.send(client.encrypt(values, scale_bits=scale_bits)))

    times = {("encrypt", top): _median_ms(fresh, calls)}
    ciphertext = fresh()
    for level in range(top, -1, -1):
        if levels is None or level in levels:
            times |= _at_level(client, server, ciphertext, level, calls)
        if level:
            plain = server.encode(values, level=level, scale_bits=scale_bits)
            product = server.evaluator.multiply_plain(ciphertext, plain)
            times[OpKind.RESCALE.value, level] = _median_ms(partial(server.evaluator.rescale, product), calls)
            ciphertext = server.evaluator.rescale(product)
    return times


def _at_level(
    client: ClientSession, server: ServerSession, ciphertext: Ciphertext, level: int, calls: int
) -> dict[Operation, float]:
    evaluator, scale_bits = server.evaluator, server.params.scale_bits
    values = np.random.default_rng(1).normal(size=server.params.slots)
    plain = server.encode(values, level=level, scale_bits=scale_bits)
    operations: dict[str, Callable[[], object]] = {
        "encode": lambda: server.encode(values, level=level, scale_bits=scale_bits),
        OpKind.ROTATE.value: lambda: evaluator.rotate(ciphertext, _STEP),
        OpKind.MULTIPLY_PLAIN.value: lambda: evaluator.multiply_plain(ciphertext, plain),
        OpKind.ADD.value: lambda: evaluator.add(ciphertext, ciphertext),
        "decrypt": lambda: client.decrypt(client.receive(server.send(ciphertext))),
    }
    if not server.params.special_bits:
        del operations[OpKind.ROTATE.value]
    if 2 * scale_bits >= server.params.modulus_bits_at(level):
        # A product of two scales does not fit here, and no program has one.
        del operations[OpKind.MULTIPLY_PLAIN.value]
    return {(kind, level): _median_ms(operation, calls) for kind, operation in operations.items()}


def predict_ms(plan: Plan, times: dict[Operation, float]) -> float:
    """Milliseconds of one run of the plan: each operation at its own level, and the trip to the server and back."""
    total = sum(times["encrypt", plan.params.max_level] for _ in plan.program.inputs)
    for op in plan.program.ops:
        if op.kind is not OpKind.INPUT:
            level = plan.values[op.args[0]].level
            total += products(op) * times.get((OpKind.MULTIPLY_PLAIN.value, level), 0.0)
            total += additions(op) * times.get((OpKind.ADD.value, level), 0.0)
            total += times[op.kind.value, level] if op.kind in (OpKind.ROTATE, OpKind.RESCALE) else 0.0
    return total + sum(times["decrypt", plan.values[output].level] for output in plan.program.outputs)


def can_measure(backend: Backend) -> bool:
    """Whether its levels are the program's, so that operations can be timed at each."""
    return backend.capabilities.rescale is RescaleMode.EXPLICIT


def _median_ms(operation: Callable[[], object], calls: int) -> float:
    operation()
    elapsed = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        operation()
        elapsed.append((time.perf_counter_ns() - start) / 1e6)
    return statistics.median(elapsed)
