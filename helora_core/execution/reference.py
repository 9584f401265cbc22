"""The reference: runs the same program on plain vectors, and measures how far a result is from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.capabilities import Encoding
from helora_core.compiler.ir import OpKind, Program, plaintexts
from helora_core.compiler.plan import Plan
from helora_core.packing.protocol import Interactive, Vector

FLOAT64_BITS = 53.0

_GRID_BITS = 52


def _nobody(received: list[Vector]) -> Vector:
    raise ValueError("the program asks the client, and nobody answers")


def execute_plain(
    program: Program,
    inputs: Sequence[Vector],
    constants: Mapping[str, Vector],
    *,
    answer: Callable[[list[Vector]], Vector] = _nobody,
) -> list[Vector]:
    """Run ``program`` in float64 on full vectors: slow, plain, and independent of any library.

    Sanitising and masks are left out, since they do not change the values.

    Args:
        program: The program.
        inputs: The vectors that ``plan.pack`` gives.
        constants: The plaintexts.
        answer: The client's answer to the vectors that it receives, in programs of several rounds.

    Raises:
        ValueError: The number of inputs is not the program's, or the program asks the client and nobody answers.
    """
    places = 2 * program.slots if program.encoding is Encoding.COEFFICIENTS else program.slots
    times = negacyclic_product if program.encoding is Encoding.COEFFICIENTS else np.multiply
    given = dict(zip(program.inputs, inputs, strict=True))
    values: list[Vector] = []
    for i, op in enumerate(program.ops):
        operands = [values[arg] for arg in op.args]
        if op.kind is OpKind.INPUT:
            values.append(_padded(given[i], places))
        elif op.kind is OpKind.ROTATE:
            values.append(np.roll(operands[0], -op.steps))
        elif op.kind in (OpKind.MULTIPLY_PLAIN, OpKind.DOT_PLAIN):
            factors = [_padded(constants[name], places) for name in plaintexts(op)]
            values.append(sum(map(times, operands, factors), np.zeros(places)))
        elif op.kind is OpKind.DOT_SCALARS:
            numbers = constants[op.constant][list(op.positions)]
            values.append(numbers @ np.array(operands))
        elif op.kind is OpKind.ADD:
            values.append(operands[0] + operands[1])
        elif op.kind is OpKind.ASK_CLIENT:
            values.append(_padded(answer(operands), places))
        else:
            values.append(operands[0])
    return [values[output] for output in program.results]


def negacyclic_product(left: Vector, right: Vector) -> Vector:
    """The product of two polynomials modulo x^N + 1, given by their N coefficients."""
    n = left.size
    twist = np.exp(1j * np.pi * np.arange(n) / n)
    product: Vector = (np.fft.ifft(np.fft.fft(left * twist) * np.fft.fft(right * twist)) / twist).real
    return product


def run_plain(plan: Plan, module: LoRAModule, x: Vector) -> Vector:
    """Δ of one run (x of shape (tokens, d_in)), computed by the plan's program without encryption.

    Between rounds the client answers as if the masks were zero, on a grid as fine as doubles allow.
    """
    layout = plan.layout

    def answer(received: list[Vector]) -> Vector:
        assert isinstance(layout, Interactive)
        largest = max(float(np.max(np.abs(vector))) for vector in received)
        grid = 2.0 ** (_GRID_BITS - math.frexp(largest)[1])
        # Residues modulo 2^64 stand for negative integers too, as residues modulo primes do.
        integers = [np.rint(vector * grid).astype(np.int64).view(np.uint64) for vector in received]
        return layout.answer(integers).view(np.int64) / grid

    outputs = execute_plain(plan.program, plan.pack(x), dict(layout.constants(module)), answer=answer)
    return plan.unpack(outputs, x.shape[0], module if plan.packing.client_finishes else None)


def precision_bits(result: Vector, reference: Vector) -> float:
    """−log2(max|result − reference| / max|reference|), at most 53.

    An all-zero reference has no relative error, so the absolute error is used, −log2(max|result|). A result that holds
    NaN has no precision at all: −inf.
    """
    error = float(np.max(np.abs(result - reference)))
    magnitude = float(np.max(np.abs(reference))) or 1.0
    if math.isnan(error):
        return -math.inf
    return FLOAT64_BITS if error == 0.0 else min(FLOAT64_BITS, -math.log2(error / magnitude))


def _padded(vector: Vector, places: int) -> Vector:
    return np.pad(vector, (0, places - vector.size))
