"""Level and scale of every value, and every law that a program can break."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.backend.capabilities import Encoding
from helora_core.compiler.checks import NOMINAL_SLACK_BITS, Scales, ValueInfo, annotate, check_headroom
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.errors import InvalidProgram, LevelExhausted, PrecisionLost, ScaleMismatch
from helora_core.packing.protocol import ScaleRole
from helora_core.params.ckks import CKKSParams

Refused = Callable[..., AbstractContextManager[None]]

INPUT = Op(kind=OpKind.INPUT, positions=(0,))


def rotate(arg: int, steps: int = 1) -> Op:
    return Op(kind=OpKind.ROTATE, args=(arg,), steps=steps)


def multiply(arg: int, constant: str = "c", role: ScaleRole | None = ScaleRole.DOWN) -> Op:
    return Op(kind=OpKind.MULTIPLY_PLAIN, args=(arg,), constant=constant, role=role)


def rescale(arg: int) -> Op:
    return Op(kind=OpKind.RESCALE, args=(arg,))


def add(left: int, right: int) -> Op:
    return Op(kind=OpKind.ADD, args=(left, right))


def dot(args: tuple[int, ...], constants: tuple[str, ...], role: ScaleRole | None = ScaleRole.DOWN) -> Op:
    return Op(kind=OpKind.DOT_PLAIN, args=args, constants=constants, role=role)


def numbers(args: tuple[int, ...], positions: tuple[int, ...], constant: str = "v") -> Op:
    return Op(kind=OpKind.DOT_SCALARS, args=args, constant=constant, role=ScaleRole.DOWN, positions=positions)


def mask(arg: int, name: str = "z") -> Op:
    return Op(kind=OpKind.MASK, args=(arg,), constant=name)


def ask(*args: int) -> Op:
    return Op(kind=OpKind.ASK_CLIENT, args=args)


def unmask(arg: int, *names: str) -> Op:
    return Op(kind=OpKind.UNMASK, args=(arg,), constants=names)


def sanitize(*args: int) -> Op:
    return Op(kind=OpKind.SANITIZE, args=args, bits=40)


def program(*ops: Op, outputs: tuple[int | None, ...] | None = None) -> Program:
    return Program(slots=512, ops=ops, outputs=(len(ops) - 1,) if outputs is None else outputs)


def infos(*pairs: tuple[int, int]) -> tuple[ValueInfo, ...]:
    return tuple(ValueInfo(level=level, scale_bits=bits) for level, bits in pairs)


class TestScales:
    def test_each_role_has_its_own(self) -> None:
        scales = Scales(input_bits=40, down_bits=30, up_bits=20)
        assert [scales.of(ScaleRole.DOWN), scales.of(ScaleRole.UP)] == [30, 20]


class TestWhatIsKnownOfAValue:
    def test_a_fresh_ciphertext_has_all_levels_and_the_input_scale(self, params: CKKSParams) -> None:
        scales = Scales(input_bits=33, down_bits=40, up_bits=40)
        assert annotate(program(INPUT), params, scales) == infos((2, 33))

    def test_rotations_and_sums_change_neither(self, params: CKKSParams, scales: Scales) -> None:
        assert annotate(program(INPUT, rotate(0), add(0, 1)), params, scales) == infos((2, 40), (2, 40), (2, 40))

    def test_a_product_has_the_product_of_the_scales(self, params: CKKSParams) -> None:
        scales = Scales(input_bits=40, down_bits=30, up_bits=20)
        products = program(INPUT, multiply(0, "d", ScaleRole.DOWN), multiply(0, "u", ScaleRole.UP))
        assert annotate(products, params, scales) == infos((2, 40), (2, 70), (2, 60))

    def test_a_rescale_takes_the_last_prime_left(self) -> None:
        params = CKKSParams(ring_degree=1024, data_bits=(60, 35, 30), special_bits=(60,), scale_bits=40)
        scales = Scales(input_bits=100, down_bits=40, up_bits=40)
        assert annotate(program(INPUT, rescale(0), rescale(1)), params, scales) == infos((2, 100), (1, 70), (0, 35))

    def test_fused_sums_have_the_product_of_the_scales(self, params: CKKSParams) -> None:
        scales = Scales(input_bits=40, down_bits=30, up_bits=20)
        sums = program(INPUT, dot((0, 0), ("a", "b")), dot((0,), ("u",), ScaleRole.UP), numbers((0, 0), (3, 1)))
        assert annotate(sums, params, scales) == infos((2, 40), (2, 70), (2, 60), (2, 70))

    def test_sanitising_and_masks_change_neither(self, params: CKKSParams, scales: Scales) -> None:
        ops = (
            INPUT,
            *(op for i in (0, 2) for op in (multiply(i, f"c{i}"), rescale(i + 1))),
            mask(4),
            unmask(5, "z"),
            sanitize(6),
        )
        assert annotate(program(*ops), params, scales)[4:] == infos((0, 40), (0, 40), (0, 40), (0, 40))

    def test_an_answer_is_fresh_and_as_large_as_the_modulus_it_is_for(self, params: CKKSParams) -> None:
        """Integers modulo the lower primes, times the upper ones."""
        scales = Scales(input_bits=90, down_bits=30, up_bits=30)
        ops = (INPUT, rescale(0), rescale(1), mask(2), ask(3, 3))
        assert annotate(program(*ops), params, scales)[3:] == infos((0, 10), (2, 10 + 80))

    def test_a_result_that_is_zero_has_no_value(self, params: CKKSParams, scales: Scales) -> None:
        assert annotate(program(INPUT, outputs=(None, 0)), params, scales) == infos((2, 40))
        assert annotate(program(outputs=(None,)), params, scales) == ()

    @given(st.data())
    def test_lawful_programs_pass(
        self, params: CKKSParams, scales: Scales, programs: st.SearchStrategy[Program], data: st.DataObject
    ) -> None:
        drawn = data.draw(programs)
        assert len(annotate(drawn, params, scales)) == len(drawn.ops)


class TestRefusals:
    @pytest.mark.parametrize(
        ("broken", "words"),
        [
            pytest.param(program(INPUT, outputs=()), "without outputs", id="no output"),
            pytest.param(program(INPUT, outputs=(1,)), "does not exist", id="output not there"),
            pytest.param(program(INPUT, outputs=(0, -1)), "does not exist", id="negative output"),
            pytest.param(program(INPUT, rotate(1)), "%1: rotate cannot read (1,)", id="reads itself"),
            pytest.param(program(INPUT, rotate(2), INPUT), "%1: rotate cannot read (2,)", id="reads what follows"),
            pytest.param(program(INPUT, rotate(-1)), "%1: rotate cannot read (-1,)", id="negative operand"),
            pytest.param(program(INPUT, Op(kind=OpKind.INPUT, args=(0,))), "%1: input", id="input with operand"),
            pytest.param(program(INPUT, Op(kind=OpKind.ROTATE, steps=1)), "%1: rotate", id="rotate without operand"),
            pytest.param(program(INPUT, Op(kind=OpKind.RESCALE, args=(0, 0))), "%1: rescale", id="rescale of two"),
            pytest.param(program(INPUT, Op(kind=OpKind.ADD, args=(0,))), "%1: add", id="add of one"),
            pytest.param(
                program(INPUT, Op(kind=OpKind.MULTIPLY_PLAIN, args=(0, 0), constant="c", role=ScaleRole.UP)),
                "%1: multiply_plain",
                id="product of two",
            ),
            pytest.param(program(INPUT, rotate(0, 0)), "rotation by 0 is outside 1..511", id="rotate by 0"),
            pytest.param(program(INPUT, rotate(0, -1)), "rotation by -1", id="rotate right"),
            pytest.param(program(INPUT, rotate(0, 512)), "rotation by 512", id="rotate all around"),
            pytest.param(program(INPUT, multiply(0, "")), "%1: a product needs", id="constant without name"),
            pytest.param(program(INPUT, multiply(0, role=None)), "%1: a product needs", id="constant without role"),
            pytest.param(
                program(INPUT, multiply(0, "a"), rescale(1), add(0, 2)),
                "%3: operands are at levels 2 and 1",
                id="sum across levels",
            ),
            pytest.param(
                program(INPUT, multiply(0, "a"), rescale(1), multiply(2, "a")),
                "%3: constant 'a' is used at two levels",
                id="constant at two levels",
            ),
            pytest.param(
                program(INPUT, multiply(0, "a"), multiply(0, "a", ScaleRole.UP)),
                "%2: constant 'a' is used at two levels or scales",
                id="constant in two roles",
            ),
            pytest.param(
                program(INPUT, multiply(0, "a"), multiply(1, "b"), multiply(2, "c")),
                "%3: a scale of 2^160 is not between 1 and the 140 bits",
                id="scale outgrows the modulus",
            ),
            pytest.param(program(INPUT, rescale(0)), "%1: a scale of 2^0", id="scale sinks to 1"),
            pytest.param(program(Op(kind=OpKind.INPUT)), "%0: an input without a position", id="input without place"),
            pytest.param(program(INPUT, dot((), ())), "%1: dot_plain cannot read ()", id="sum of nothing"),
            pytest.param(program(INPUT, dot((0, 1), ("a", "b"))), "%1: dot_plain", id="sum reads itself"),
            pytest.param(program(INPUT, dot((0, 0), ("a",))), "2 operands and 1 plaintexts", id="plaintext missing"),
            pytest.param(program(INPUT, dot((0,), ("a",), None)), "%1: a product needs", id="sum without role"),
            pytest.param(program(INPUT, numbers((0, 0), (1,))), "2 operands and 1 numbers", id="number missing"),
            pytest.param(program(INPUT, numbers((0,), (1,), "")), "%1: a product needs", id="numbers without name"),
            pytest.param(
                program(INPUT, multiply(0, "a"), rescale(1), dot((0, 2), ("b", "c"))),
                "%3: operands are at levels 2 and 1",
                id="fused sum across levels",
            ),
            pytest.param(
                program(INPUT, multiply(0, "a"), rescale(1), dot((2,), ("a",))),
                "%3: constant 'a' is used at two levels",
                id="constant of a fused sum at two levels",
            ),
            pytest.param(
                program(INPUT, numbers((0,), (0,)), rescale(1), numbers((2,), (1,))),
                "%3: constant 'v' is used at two levels",
                id="numbers at two levels",
            ),
            pytest.param(
                program(INPUT, multiply(0, "v"), numbers((0,), (0,))),
                "%2: constant 'v' is used",
                id="numbers that are a plaintext too",
            ),
            pytest.param(
                program(INPUT, mask(0)),
                "%1: a mask at level 2, above which no prime is left",
                id="mask at the highest level",
            ),
            pytest.param(program(INPUT, mask(0, "")), "%1: a product needs", id="mask without name"),
            pytest.param(program(INPUT, unmask(0)), "%1: no mask is named", id="unmask of nothing"),
            pytest.param(program(INPUT, ask()), "%1: ask_client cannot read ()", id="question about nothing"),
            pytest.param(program(INPUT, sanitize(0, 0)), "%1: sanitize cannot read (0, 0)", id="two sanitised"),
            pytest.param(
                msgspec.structs.replace(program(INPUT, rotate(0)), encoding=Encoding.COEFFICIENTS),
                "%1: coefficients do not rotate",
                id="rotation of coefficients",
            ),
        ],
    )
    def test_a_program_that_breaks_a_law_is_refused(
        self, refused: Refused, params: CKKSParams, scales: Scales, broken: Program, words: str
    ) -> None:
        with refused(InvalidProgram, words, hint="fault of the packing or of a compiler pass"):
            annotate(broken, params, scales)

    @pytest.mark.parametrize("slots", [256, 1024])
    def test_a_program_for_another_slot_count_is_refused(
        self, refused: Refused, params: CKKSParams, scales: Scales, slots: int
    ) -> None:
        """Rotations are cyclic in the slots of the ring: a program for fewer would turn the rest into its own."""
        other = msgspec.structs.replace(program(INPUT), slots=slots)
        with refused(InvalidProgram, f"for {slots} slots", "has 512"):
            annotate(other, params, scales)

    def test_the_scale_must_fit_the_modulus_left(self, refused: Refused, params: CKKSParams, scales: Scales) -> None:
        """A product of 80 bits fits the 140 bits of level 2 and the 100 of level 1, not the 60 of level 0."""
        ops: list[Any] = [INPUT]
        for level in (2, 1):
            ops += [multiply(len(ops) - 1, f"c{level}"), rescale(len(ops))]
        assert annotate(program(*ops), params, scales)[-1] == ValueInfo(level=0, scale_bits=40)
        with refused(InvalidProgram, "2^80", "the 60 bits", "level 0"):
            annotate(program(*ops, multiply(4, "c0")), params, scales)

    @pytest.mark.parametrize("summed", [add(1, 0), numbers((1, 0), (0, 1))])
    def test_values_of_different_scales_cannot_be_added(
        self, refused: Refused, params: CKKSParams, scales: Scales, summed: Op
    ) -> None:
        with refused(ScaleMismatch, "%2: operands have scales 2^80 and 2^40", hint="fault of the packing"):
            annotate(program(INPUT, multiply(0), summed), params, scales)

    def test_a_spent_value_cannot_be_rescaled(self, refused: Refused) -> None:
        params = CKKSParams(ring_degree=1024, data_bits=(60,), special_bits=(60,), scale_bits=40)
        scales = Scales(input_bits=59, down_bits=40, up_bits=40)
        with refused(LevelExhausted, "%1: rescale of %0", "level 0", hint="fault of the packing"):
            annotate(program(INPUT, rescale(0)), params, scales)


@pytest.mark.parametrize("primes", [(), (2**60 - 93, 2**40 - 87, 2**40 - 167)])
@pytest.mark.parametrize(("flood_bits", "mask_bits"), [(0, 0), (135, 0), (0, 139)])
@given(rescaled=st.booleans())
def test_results_and_what_is_rescaled_stay_below_half_the_modulus(
    params: CKKSParams, primes: tuple[int, ...], flood_bits: int, mask_bits: int, rescaled: bool
) -> None:
    """Twice the largest value, and 8.6 deviations of a flood or, a coefficient, of a mask over 512 slots."""
    params = msgspec.structs.replace(params, data_primes=primes)
    room_bits = (math.log2(math.prod(primes)) if primes else 140 - NOMINAL_SLACK_BITS) - 1
    ops = (INPUT, rescale(0)) if rescaled else (INPUT,)
    floods, masks = ({0: bits} if bits else {} for bits in (flood_bits, mask_bits))

    def check(scale_bits: int) -> None:
        values = annotate(program(*ops), params, Scales(input_bits=scale_bits, down_bits=40, up_bits=40))
        check_headroom(program(*ops), values, params, floods, masks)

    fits = [
        bits
        for bits in range(100, 139)
        if 2.0 ** (bits + 1) + 8.6 * 2.0**flood_bits + 8.6 * 2.0**mask_bits / math.sqrt(512) < 2.0**room_bits
    ]
    check(fits[-1])
    with pytest.raises(PrecisionLost, match="%0: values of"):
        check(fits[-1] + 1)
