"""Sums of ciphertexts times numbers on a tape: a product of matrices for all that read the same, with the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from helora_core.backend.primes import distinct_ntt_primes
from helora_core.backend.tape import Instruction, InstructionKind, LevelAndScale, Tape, TapeConstant, TapeRun
from helora_rns.programs.operations import OperationsExecutable, grouped
from helora_rns.scheme import encoding
from helora_rns.scheme.ciphertexts import Ciphertext, Plaintext
from helora_rns.scheme.context import Context, Parameters
from helora_rns.scheme.encryption import Decryptor, Encryptor
from helora_rns.scheme.evaluation import Evaluator
from helora_rns.scheme.keys import SecretKey

N, SCALE, WEIGHT_SCALE = 1024, 2.0**20, 2.0**18
PRIMES = distinct_ntt_primes((50, 34), N)
RING = Context(Parameters(N, PRIMES))

ROWS = {"a": (0, 1, 2), "b": (0, 1, 2), "c": (0, 2), "d": (0, 1, 2)}


def tape() -> Tape:
    """Three sums of all inputs, between them one of two; the first is rescaled before the others come."""
    instructions, result = [], 3
    for name, args in ROWS.items():
        last = name == "d"
        instructions.append(
            Instruction(
                kind=InstructionKind.DOT_SCALARS, args=args, result=result, level=1, scale=SCALE * WEIGHT_SCALE,
                constants=(name,), positions=args[::-1], freed=args if last else (),
            )
        )  # fmt: skip
        result += 1
        if name == "a":
            rescaled = Instruction(
                kind=InstructionKind.RESCALE, args=(3,), result=4, level=0, scale=SCALE * WEIGHT_SCALE / PRIMES[1],
                freed=(3,),
            )  # fmt: skip
            instructions.append(rescaled)
            result += 1
    constants = {name: TapeConstant(1, WEIGHT_SCALE, numbers=True) for name in ROWS}
    return Tape((LevelAndScale(1, SCALE),) * 3, constants, tuple(instructions), (4, 5, 6, 7))


@pytest.fixture(scope="module")
def vectors() -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=3) for name in ROWS}


def test_sums_of_the_same_values_are_one_group() -> None:
    groups = grouped(tape())
    assert {first: [each.result for each in group] for first, group in groups.items()} == {3: [3, 5, 7], 6: [6]}


def test_they_have_the_bits_of_products_one_by_one(
    vectors: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]],
) -> None:
    secret = SecretKey(RING)
    encryptor, decryptor, evaluator = Encryptor(RING, secret), Decryptor(RING, secret), Evaluator(RING)
    x = np.random.default_rng(2).normal(size=(3, N))
    inputs = [encryptor.encrypt(encoding.coefficients_of_numbers(RING, each, SCALE), SCALE) for each in x]

    def one_by_one(name: str, args: tuple[int, ...]) -> Ciphertext:
        constants = [
            Plaintext(encoding.constant(RING, vectors[name][at], WEIGHT_SCALE, RING.basis(1)), 1, WEIGHT_SCALE)
            for at in args[::-1]
        ]
        return evaluator.dot_plain([inputs[i] for i in args], constants)

    executable = OperationsExecutable(RING, tape())
    traced: dict[str, int] = {}
    loaded = executable.load({}, vectors)
    run = TapeRun(evaluator, loaded, tuple(inputs))
    first, *others = executable.run([run], trace=lambda kind, count: traced.__setitem__(kind, count))[0]
    assert (first.values == evaluator.rescale(one_by_one("a", ROWS["a"])).values).all()
    for name, found in zip(("b", "c", "d"), others, strict=True):
        assert (found.values == one_by_one(name, ROWS[name]).values).all()
        expected = sum(vectors[name][2 - i] * x[i] for i in ROWS[name])
        numbers = decryptor.coefficients(found) / found.scale
        assert np.max(np.abs(numbers - expected)) < 2.0**-13
    assert sum(traced.values()) > 0
