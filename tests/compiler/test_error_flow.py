"""The rules of the flow, worked out by hand for programs of one or two operations."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.compiler.checks import Scales, annotate
from helora_core.compiler.error_flow import ErrorFlow, rounding_slack
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.noisy import Noisy
from helora_core.packing.protocol import ScaleRole
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import NoiseModel, keyswitch_std, rescale_std

SHAPE = ModuleShape(d_in=6, d_out=5, rank=4)
SCALES = Scales(input_bits=90, down_bits=20, up_bits=25)
N = 1024


def followed(
    params: CKKSParams, *ops: Op, inputs: int = 1, encoding: Encoding = Encoding.SLOTS, nominal: bool = False
) -> Noisy:
    """The last value of a program whose operations follow its inputs."""
    sent = (Op(kind=OpKind.INPUT, positions=(place,)) for place in range(inputs))
    program = Program(slots=params.slots, ops=(*sent, *ops), outputs=(inputs + len(ops) - 1,), encoding=encoding)
    values = annotate(program, params, SCALES)
    (last,) = ErrorFlow(
        program=program, values=values, params=params, scales=SCALES, shape=SHAPE, merged=False,
        noise_model=NoiseModel(), nominal_scales=nominal,
    ).results()  # fmt: skip
    return last


@pytest.mark.parametrize(
    ("kind", "encoding", "inputs", "gain", "square"),
    [
        (OpKind.DOT_SCALARS, Encoding.SLOTS, 6, 1.0, 1 / 4),
        (OpKind.DOT_PLAIN, Encoding.SLOTS, 6, 1.0, rounding_slack(6) * N / 12),
        # Two blocks of three columns: the four rows of a plaintext meet the noise of each, over a row's columns.
        (OpKind.DOT_PLAIN, Encoding.COEFFICIENTS, 2, 2 * 4 * 3 / 6, 1 / 4),
    ],
)
def test_a_row_spreads_noise_and_adds_up_its_rounding(
    params: CKKSParams, kind: OpKind, encoding: Encoding, inputs: int, gain: float, square: float
) -> None:
    names = tuple(f"c{i}" for i in range(inputs))
    named = {"constant": "c", "positions": tuple(range(inputs))} if kind is OpKind.DOT_SCALARS else {"constants": names}
    product = Op(kind=kind, args=tuple(range(inputs)), role=ScaleRole.DOWN, **named)
    last = followed(params, product, inputs=inputs, encoding=encoding)
    assert last.variance == pytest.approx(followed(params, encoding=encoding).variance * gain, rel=1e-6, abs=0)
    assert last.down_rounding == pytest.approx(SHAPE.d_in * square * 4.0**-SCALES.down_bits, rel=1e-6, abs=0)
    assert (last.up_rounding, last.drift) == (0, 0)


def test_a_rescale_adds_its_rounding_and_drifts_where_scales_are_nominal(params: CKKSParams) -> None:
    fresh, rescale = followed(params).variance, Op(kind=OpKind.RESCALE, args=(0,))
    usual, nominal = followed(params, rescale), followed(params, rescale, nominal=True)
    scale = 2.0 ** (SCALES.input_bits - params.data_bits[-1])
    assert usual.variance == nominal.variance == pytest.approx(fresh + (rescale_std(N) / scale) ** 2, rel=1e-6, abs=0)
    spacing = 2 * N * math.log(2.0**40) / 2.0**40
    assert (usual.drift, nominal.drift) == (0, pytest.approx(len(params.data_bits) * spacing, rel=1e-6, abs=0))
    primes = (2**60 - 93, 2**40 - 87, 2**40 - 167)
    known = followed(msgspec.structs.replace(params, data_primes=primes), rescale, nominal=True)
    assert known.drift == pytest.approx(167 / primes[-1], rel=1e-6, abs=0)


def test_a_key_switch_is_noisiest_in_slot_0_and_later_rotations_move_it(params: CKKSParams) -> None:
    product = Op(kind=OpKind.MULTIPLY_PLAIN, args=(0,), constant="c", role=ScaleRole.DOWN)
    turned = followed(params, product, *(Op(kind=OpKind.ROTATE, args=(i,), steps=3) for i in (1, 2)))
    assert turned.spikes is not None
    assert set(np.flatnonzero(turned.spikes)) == {0, params.slots - 3}


def test_without_a_special_prime_digits_are_divided_by_one_as_long_as_they(params: CKKSParams) -> None:
    bare = msgspec.structs.replace(params, special_bits=())
    product = Op(kind=OpKind.MULTIPLY_PLAIN, args=(0,), constant="c", role=ScaleRole.DOWN)
    still, turned = (followed(bare, product, *ops) for ops in ((), (Op(kind=OpKind.ROTATE, args=(1,), steps=3),)))
    even = keyswitch_std(N, bare.data_bits, max(bare.data_bits)) / 2.0 ** (SCALES.input_bits + SCALES.down_bits)
    assert sum(turned.variances) - sum(still.variances) == pytest.approx(even**2, rel=1e-3, abs=0.0)


@pytest.mark.parametrize("terms", [1, 7, 100, 10**4, 10**7])
def test_rounding_exceeds_its_slack_once_in_four_billion_rows_and_not_much_more_rarely(terms: int) -> None:
    """By Chernoff's bound on χ² of so many terms."""
    excess = rounding_slack(terms) / 2
    exponent = terms / 2 * (excess - 1 - math.log(excess))
    assert 32 <= exponent / math.log(2) <= 32 * 1.3
