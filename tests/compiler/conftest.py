"""Programs drawn at random, what they compute, and how many ciphertexts they keep alive."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import strategies as st

from helora_core.compiler.checks import Scales
from helora_core.compiler.ir import Op, OpKind, Program, plaintexts
from helora_core.execution.reference import execute_plain
from helora_core.packing.protocol import ScaleRole, Vector
from helora_core.params.ckks import CKKSParams

PARAMS = CKKSParams(ring_degree=1024, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)
SCALES = Scales(input_bits=40, down_bits=40, up_bits=40)


DRAWN = tuple(kind for kind in OpKind if kind is not OpKind.INPUT)
NUMBERS = 3
"""Numbers in each vector that a program's ``DOT_SCALARS`` draw from."""


@st.composite
def _programs(draw: st.DrawFn, kinds: tuple[OpKind, ...] = DRAWN) -> Program:
    """Programs of up to 25 operations that keep every law under PARAMS and SCALES, much of them repeated or unused.

    Of ``kinds``, those are drawn that a value's level and scale allow; what they do not allow becomes a rotation.
    """
    ops = [_input(0)]
    state = [(PARAMS.max_level, SCALES.input_bits)]  # level and scale
    for i in range(1, draw(st.integers(1, 25))):
        kind = draw(st.sampled_from((OpKind.INPUT, *kinds)))
        arg = draw(st.integers(0, i - 1))
        level, scale = state[arg]
        alike = [j for j in range(i) if state[j] == state[arg]]
        args: tuple[int, ...] = (arg,)
        if kind in (OpKind.ADD, OpKind.DOT_PLAIN, OpKind.DOT_SCALARS, OpKind.ASK_CLIENT):
            further = 1 if kind is OpKind.ADD else draw(st.integers(0, 3))
            args = (arg, *(draw(st.sampled_from(alike)) for _ in range(further)))
        product = scale + SCALES.down_bits
        if kind is OpKind.INPUT:
            op, after = _input(sum(op.kind is OpKind.INPUT for op in ops)), (PARAMS.max_level, SCALES.input_bits)
        elif kind in (OpKind.MULTIPLY_PLAIN, OpKind.DOT_PLAIN, OpKind.DOT_SCALARS) and _fits(level, product):
            op, after = draw(_products(kind, args, level)), (level, product)
        elif kind is OpKind.RESCALE and level and scale > PARAMS.data_bits[level]:
            op, after = Op(kind=kind, args=args), (level - 1, scale - PARAMS.data_bits[level])
        elif kind is OpKind.ADD:
            op, after = Op(kind=kind, args=args), state[arg]
        elif kind is OpKind.SANITIZE:
            op, after = Op(kind=kind, args=args, bits=40), state[arg]
        elif kind is OpKind.MASK and level < PARAMS.max_level:
            op, after = Op(kind=kind, args=args, constant=f"mask.{i}"), state[arg]
        elif kind is OpKind.ASK_CLIENT and _fits(PARAMS.max_level, answered := scale + _gained(level)):
            op, after = Op(kind=kind, args=args), (PARAMS.max_level, answered)
        elif kind is OpKind.UNMASK:
            op, after = Op(kind=kind, args=args, constants=("mask.1",)), state[arg]
        else:
            steps = draw(st.sampled_from([1, 2, PARAMS.slots // 2, PARAMS.slots - 1]))
            op, after = Op(kind=OpKind.ROTATE, args=(arg,), steps=steps), state[arg]
        ops.append(op)
        state.append(after)
    outputs = draw(st.lists(st.integers(0, len(ops) - 1), min_size=1, max_size=3))
    return Program(slots=PARAMS.slots, ops=tuple(ops), outputs=tuple(outputs))


def _input(place: int) -> Op:
    return Op(kind=OpKind.INPUT, positions=(place,))


@st.composite
def _products(draw: st.DrawFn, kind: OpKind, args: tuple[int, ...], level: int) -> Op:
    role = draw(st.sampled_from(ScaleRole))
    names = tuple(f"{role.value}.{level}.{draw(st.integers(0, 1))}" for _ in args)
    if kind is OpKind.MULTIPLY_PLAIN:
        return Op(kind=kind, args=args, constant=names[0], role=role)
    if kind is OpKind.DOT_PLAIN:
        return Op(kind=kind, args=args, constants=names, role=role)
    positions = tuple(draw(st.integers(0, NUMBERS - 1)) for _ in args)
    return Op(kind=kind, args=args, constant=f"numbers.{names[0]}", role=role, positions=positions)


def _fits(level: int, scale_bits: int) -> bool:
    return scale_bits < PARAMS.modulus_bits_at(level)


def _gained(level: int) -> int:
    """What a client's answer to a value of this level is larger than that."""
    return sum(PARAMS.data_bits[level + 1 :])


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
    """Draw with ``data.draw(programs)``: every kind of operation, also several rounds."""
    return _programs()


@pytest.fixture(scope="session")
def one_round() -> st.SearchStrategy[Program]:
    """Programs that do not ask the client in between."""
    several = (OpKind.MASK, OpKind.ASK_CLIENT, OpKind.UNMASK)
    return _programs(tuple(kind for kind in DRAWN if kind not in several))


@pytest.fixture(scope="session")
def constants() -> Callable[[Program], dict[str, Vector]]:
    """Plaintexts and vectors of numbers for a program, normal and dependent on their names alone."""

    def make(program: Program) -> dict[str, Vector]:
        plain = {name: program.slots for op in program.ops for name in plaintexts(op)}
        numbers = {op.constant: NUMBERS for op in program.ops if op.kind is OpKind.DOT_SCALARS}
        return {
            name: np.random.default_rng([1, *name.encode()]).normal(size=size)
            for name, size in {**plain, **numbers}.items()
        }

    return make


@pytest.fixture(scope="session")
def computed(constants: Callable[[Program], dict[str, Vector]]) -> Callable[..., list[Vector]]:
    """The results of a program, on inputs that depend on their position alone.

    The constants are those of ``constants`` if none are given. The client answers with its vectors, each the next
    one's multiple, so that their order matters.
    """

    def answer(received: list[Vector]) -> Vector:
        return sum((place * vector for place, vector in enumerate(received, start=1)), np.zeros_like(received[0]))

    def run(program: Program, given: Mapping[str, Vector] | None = None) -> list[Vector]:
        inputs = [np.random.default_rng([0, place]).normal(size=program.slots) for place in program.input_positions]
        return execute_plain(program, inputs, constants(program) if given is None else given, answer=answer)

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
