"""Programs drawn at random, what they compute, and how many ciphertexts they keep alive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import strategies as st

from helora_core.compiler.checks import Scales
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.packing.protocol import ScaleRole, Vector
from helora_core.params.ckks import CKKSParams
from helora_core.runtime.reference import execute_plain

PARAMS = CKKSParams(ring_degree=1024, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)
SCALES = Scales(input_bits=40, down_bits=40, up_bits=40)


@st.composite
def _programs(draw: st.DrawFn) -> Program:
    """Programs of up to 25 operations that keep every law under PARAMS and SCALES, much of them repeated or unused."""
    ops = [Op(kind=OpKind.INPUT)]
    state = [(PARAMS.max_level, False)]  # level, and whether the scale is that of a product
    for i in range(1, draw(st.integers(1, 25))):
        kind = draw(st.sampled_from(list(OpKind)))
        arg = draw(st.integers(0, i - 1))
        level, product = state[arg]
        if kind is OpKind.INPUT:
            op, after = Op(kind=kind), (PARAMS.max_level, False)
        elif kind is OpKind.MULTIPLY_PLAIN and level and not product:
            role = draw(st.sampled_from(ScaleRole))
            name = f"{role.value}.{level}.{draw(st.integers(0, 1))}"
            op, after = Op(kind=kind, args=(arg,), constant=name, role=role), (level, True)
        elif kind is OpKind.RESCALE and product:
            op, after = Op(kind=kind, args=(arg,)), (level - 1, False)
        elif kind is OpKind.ADD:
            other = draw(st.sampled_from([j for j in range(i) if state[j] == state[arg]]))
            op, after = Op(kind=kind, args=(arg, other)), state[arg]
        else:
            steps = draw(st.sampled_from([1, 2, PARAMS.slots // 2, PARAMS.slots - 1]))
            op, after = Op(kind=OpKind.ROTATE, args=(arg,), steps=steps), state[arg]
        ops.append(op)
        state.append(after)
    outputs = draw(st.lists(st.integers(0, len(ops) - 1), min_size=1, max_size=3))
    return Program(slots=PARAMS.slots, ops=tuple(ops), outputs=tuple(outputs))


@pytest.fixture(scope="session")
def params() -> CKKSParams:
    """Small, quick and insecure: three data primes of 60, 40 and 40 bits, 512 slots."""
    return PARAMS


@pytest.fixture(scope="session")
def scales() -> Scales:
    """2^40 for everything, as ``params`` has it."""
    return SCALES


@pytest.fixture(scope="session")
def programs() -> st.SearchStrategy[Program]:
    """Draw with ``data.draw(programs)``."""
    return _programs()


@pytest.fixture(scope="session")
def computed() -> Callable[[Program], list[Vector]]:
    """The outputs of a program on inputs that depend on their place alone and constants that depend on their name."""

    def run(program: Program) -> list[Vector]:
        def vector(seed: Sequence[int]) -> Vector:
            return np.random.default_rng(seed).normal(size=program.slots)

        inputs = [vector([0, place]) for place in range(len(program.inputs))]
        constants: Mapping[str, Vector] = {
            op.constant: vector([1, *op.constant.encode()]) for op in program.ops if op.constant
        }
        return execute_plain(program, inputs, constants)

    return run


@pytest.fixture(scope="session")
def peak_live() -> Callable[[Program], int]:
    """The most ciphertexts alive at once when each is dropped after its last use."""

    def peak(program: Program) -> int:
        alive, most = 0, 0
        for freed in program.last_reads():
            alive += 1
            most = max(most, alive)
            alive -= len(freed)
        return most

    return peak
