"""Times of single operations, and what a plan's counts make of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.backend.capabilities import RescaleMode
from helora_core.compiler.compile import compile_plan
from helora_core.errors import InsecureParameters
from helora_core.manager import get_manager
from helora_core.params.ckks import CKKSParams
from helora_core.params.presets import FAST
from helora_core.runtime.measure import can_measure, measure_operations, predict_ms


@pytest.fixture(scope="module")
def times(numpy_backend: Any) -> dict[tuple[str, int], float]:
    return measure_operations(numpy_backend, FAST, calls=1)


def test_every_operation_is_timed_at_every_level_where_it_can_be(times: dict[tuple[str, int], float]) -> None:
    """No rescale and no product of two full scales at the bottom; only fresh ciphertexts are encrypted."""
    everywhere = {(kind, level) for kind in ("encode", "rotate", "add", "decrypt") for level in (0, 1, 2)}
    assert set(times) == everywhere | {("encrypt", 2)} | {
        (kind, level) for kind in ("multiply_plain", "rescale") for level in (1, 2)
    }
    assert min(times.values()) > 0


def test_other_levels_may_be_left_out(numpy_backend: Any) -> None:
    timed = measure_operations(numpy_backend, FAST, levels=(1,), calls=1)
    assert {level for kind, level in timed if kind == "rotate"} == {1}


@pytest.mark.parametrize("packing", ["rank_bsgs", "zero_moai"])
def test_what_is_measured_is_enough_to_predict_a_plan(numpy_backend: Any, packing: str) -> None:
    plan = compile_plan(ModuleShape.parse("37:90:5"), get_manager().load_packing(packing))
    assert predict_ms(plan, measure_operations(numpy_backend, plan.params, calls=1)) > 0


@pytest.mark.parametrize("packing", ["rank_bsgs", "zero_moai"])
def test_a_prediction_is_each_operation_once_at_its_own_level(packing: str) -> None:
    plan = compile_plan(ModuleShape.parse("200:200:70"), get_manager().load_packing(packing), params=FAST)
    asked: Counter[tuple[str, int]] = Counter()

    class Prices(dict[tuple[str, int], float]):
        def __missing__(self, operation: tuple[str, int]) -> float:
            asked[operation] += 1
            return 1.0

    counts = plan.counts
    total = counts.rotations + counts.ct_pt + counts.additions + counts.rescales + counts.encrypts + counts.decrypts
    assert predict_ms(plan, Prices()) == total
    by_kind: Counter[str] = Counter()
    for (kind, _), number in asked.items():
        by_kind[kind] += number
    assert by_kind["rotate"] == counts.rotations
    assert by_kind["decrypt"] == counts.decrypts
    assert asked["encrypt", 2] == counts.encrypts
    assert asked["multiply_plain", 2] == sum(name.startswith("down") for name in plan.constant_specs)
    assert {level for kind, level in asked if kind == "decrypt"} == {2 - plan.packing.depth}


def test_insecure_parameters_are_not_measured(numpy_backend: Any) -> None:
    with pytest.raises(InsecureParameters):
        measure_operations(
            numpy_backend, CKKSParams(ring_degree=1024, data_bits=(40, 30), special_bits=(40,), scale_bits=30)
        )


def test_levels_that_are_not_the_programs_cannot_be_timed(numpy_backend: Any) -> None:
    class Automatic(type(numpy_backend)):  # type: ignore[misc]
        capabilities = msgspec.structs.replace(numpy_backend.capabilities, rescale=RescaleMode.AUTOMATIC)

    assert can_measure(numpy_backend)
    assert not can_measure(Automatic())
