"""The reference: plain vectors, the direction of rotations, and a measure of precision that NaN cannot fool."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.execution.reference import execute_plain, precision_bits, run_plain
from helora_core.packing.protocol import ScaleRole, Vector
from helora_core.packing.rank_bsgs import RankBSGS
from helora_core.packing.zero_moai import ZeroMOAI

INPUT = Op(kind=OpKind.INPUT)
IOTA = np.arange(1.0, 5.0)


def run(*ops: Op, inputs: list[Vector], constants: dict[str, Vector] | None = None) -> list[float]:
    program = Program(slots=4, ops=ops, outputs=(len(ops) - 1,))
    (result,) = execute_plain(program, inputs, constants or {})
    return list(result)


class TestOperations:
    def test_rotation_by_k_moves_slot_i_plus_k_to_slot_i(self) -> None:
        assert run(INPUT, Op(kind=OpKind.ROTATE, args=(0,), steps=1), inputs=[IOTA]) == [2, 3, 4, 1]

    def test_products_and_sums_are_slot_wise(self) -> None:
        times = Op(kind=OpKind.MULTIPLY_PLAIN, args=(0,), constant="c", role=ScaleRole.DOWN)
        plus = Op(kind=OpKind.ADD, args=(0, 1))
        constants = {"c": np.array([2.0, 0.0, -1.0, 0.5])}
        assert run(INPUT, times, plus, inputs=[IOTA], constants=constants) == [3, 2, 0, 6]

    def test_a_rescale_leaves_values_as_they_are(self) -> None:
        assert run(INPUT, Op(kind=OpKind.RESCALE, args=(0,)), inputs=[IOTA]) == [1, 2, 3, 4]

    def test_short_vectors_are_padded_with_zeros(self) -> None:
        times = Op(kind=OpKind.MULTIPLY_PLAIN, args=(0,), constant="c", role=ScaleRole.DOWN)
        assert run(INPUT, times, inputs=[IOTA], constants={"c": np.array([3.0])}) == [3, 0, 0, 0]
        assert run(INPUT, inputs=[np.array([7.0, 8.0])]) == [7, 8, 0, 0]

    def test_inputs_are_taken_and_outputs_given_in_order(self) -> None:
        program = Program(slots=2, ops=(INPUT, INPUT), outputs=(1, 0, 1))
        given_back = execute_plain(program, [np.array([1.0, 2.0]), np.array([3.0, 4.0])], {})
        assert [vector.tolist() for vector in given_back] == [[3, 4], [1, 2], [3, 4]]

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_too_few_or_too_many_inputs_are_refused(self, count: int) -> None:
        with pytest.raises(ValueError, match=r"zip\(\)"):
            execute_plain(Program(slots=4, ops=(INPUT, INPUT), outputs=(0,)), [IOTA] * count, {})


class TestRunPlain:
    @pytest.mark.parametrize("packing", [RankBSGS(), ZeroMOAI()], ids=["rank_bsgs", "zero_moai"])
    def test_it_gives_delta(self, packing: RankBSGS | ZeroMOAI) -> None:
        """Δ = 2 · [[1], [0], [-1]] · ([[1, 10]] · x)."""
        module = LoRAModule("m", np.array([[1.0, 10.0]]), np.array([[1.0], [0.0], [-1.0]]), 2.0)
        plan = compile_plan(module.shape, packing, private_weights=False)
        assert run_plain(plan, module, np.array([[3.0, 4.0]])).tolist() == [[86, 0, -86]]


class TestPrecision:
    @pytest.mark.parametrize(
        ("result", "reference", "bits"),
        [
            ([1.0, 2.0], [1.0, 2.0], 53),
            ([0.0, 0.0], [0.0, 0.0], 53),
            ([1.0, 4.0 + 2**-8], [1.0, 4.0], 10),
            ([1.0 - 2**-8, -4.0], [1.0, -4.0], 10),
            ([8.0], [4.0], 0),
            ([20.0], [4.0], -2),
            ([2**-20], [0.0], 20),
            ([8.0], [0.0], -3),
        ],
    )
    def test_it_is_minus_log2_of_the_largest_error_relative_to_the_largest_value(
        self, result: list[float], reference: list[float], bits: float
    ) -> None:
        assert precision_bits(np.array(result), np.array(reference)) == bits

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_result_that_is_not_finite_has_none(self, value: float) -> None:
        assert precision_bits(np.array([1.0, value]), np.array([1.0, 2.0])) == -math.inf
        assert precision_bits(np.array([0.0, value]), np.zeros(2)) == -math.inf

    @given(st.floats(1e-300, 1e-6), st.floats(1e-3, 1e3))
    def test_it_never_exceeds_that_of_a_double(self, error: float, value: float) -> None:
        assert precision_bits(np.array([value + error]), np.array([value])) <= 53
        assert precision_bits(np.array([error]), np.zeros(1)) <= 53
