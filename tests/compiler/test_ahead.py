"""Parameters and traffic of plans that run ahead of time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part, require_one_input
from helora_core.compiler.cost import Budget
from helora_core.compiler.key_sets import key_sets
from helora_core.compiler.plan import Plan
from helora_core.compiler.requirements import require_capabilities
from helora_core.errors import BudgetExceeded, CapabilityMissing, InsecureParameters, InvalidInput, InvalidParameters
from helora_core.host.manager import get_manager
from helora_core.params.ckks import CKKSParams
from tests.registered import ACCEPTED

USUAL = ModuleShape.parse("576:768:16")


def planned(shape: ModuleShape = USUAL, packing: str = "precomputed", **options: Any) -> Plan:
    strategy = get_manager().load_packing(packing)
    return compile_plan(shape, strategy, assume=ACCEPTED, **{"precision_bits": 8.0, **options})


class TestParameters:
    @pytest.mark.parametrize(
        ("ring", "modulus", "limit"), [(None, 148, 214), (8192, 148, 214), (4096, 105, 106), (16384, 148, 430)]
    )
    def test_the_modulus_counts_its_wrap_limb(self, ring: int | None, modulus: int, limit: int) -> None:
        plan = planned(ring_degree=ring)
        assert plan.params.ring_degree == (ring or 8192)
        assert (plan.verdict.modulus_bits, plan.verdict.limit_bits, plan.params.special_bits) == (modulus, limit, ())
        assert plan.verdict.secure

    @pytest.mark.parametrize("ring", [1024, 2048, 32768])
    def test_other_rings_are_refused(self, refused: Any, ring: int) -> None:
        with refused(InvalidParameters, f"a ring of {ring}", hint="4096, 8192 or 16384"):
            planned(ring_degree=ring)

    def test_exact_results_take_two_primes(self, refused: Any) -> None:
        with refused(InvalidParameters, "precomputed_exact", "4096", hint="8192 or 16384"):
            planned(packing="precomputed_exact", ring_degree=4096)

    def test_more_security_takes_a_larger_ring(self, refused: Any) -> None:
        assert planned(security_bits=192, table="he-standard-2018").params.ring_degree == 8192
        assert planned(security_bits=256).params.ring_degree == 16384
        with refused(InsecureParameters, "105"):
            planned(ring_degree=4096, security_bits=192)

    @pytest.mark.parametrize(
        "change", [{"wrap_bits": 0, "data_bits": (60, 60)}, {"special_bits": (30,)}, {"data_bits": (42,)}]
    )
    def test_parameters_of_another_kind_are_refused(self, refused: Any, change: dict[str, Any]) -> None:
        usual: dict[str, Any] = {"data_bits": (42, 42), "special_bits": (), "wrap_bits": 64}
        params = CKKSParams(ring_degree=8192, scale_bits=60, **usual | change)
        with refused(InvalidParameters, "precomputed_exact", "wrap limb", hint="to the plan"):
            planned(packing="precomputed_exact", params=params)

    def test_all_modules_have_one_key_set(self) -> None:
        """Whatever their grids are."""
        plans = [planned(), planned(ModuleShape.parse("4096:4096:16")), planned(packing="precomputed_exact")]
        assert len({plan.scales.input_bits + plan.scales.down_bits for plan in plans}) > 1
        (keys,) = key_sets(plans)
        assert (keys.rotation_steps, keys.public_key) == ((), False)

    def test_modules_of_one_input_share_it_if_x_is_on_one_grid(self) -> None:
        plans = {"q": planned(), "k": planned(ModuleShape.parse("576:192:16"))}
        require_one_input(plans)
        with pytest.raises(InvalidInput):
            require_one_input(plans | {"v": planned(ModuleShape.parse("576:192:16"), ring_degree=4096)})

    def test_a_backend_needs_the_ability(self, refused: Any) -> None:
        backend = get_manager().load_backend("tenseal")
        assert not backend.capabilities.correlations
        with refused(CapabilityMissing, "tenseal", "ahead of time", "576:768:16", hint="`correlations`"):
            require_capabilities(backend, planned())


class TestPhases:
    @given(
        d_in=st.integers(1, 900), d_out=st.integers(1, 900), rank=st.integers(1, 30), tokens=st.integers(1, 20_000),
        exact=st.booleans(),
    )  # fmt: skip
    def test_bytes_are_numbers_packed_to_their_bits(
        self, d_in: int, d_out: int, rank: int, tokens: int, exact: bool
    ) -> None:
        plan = planned(ModuleShape(d_in=d_in, d_out=d_out, rank=rank), "precomputed_exact" if exact else "precomputed")
        assert plan.correlation is not None
        how = plan.correlation.how
        assert plan.bytes_for(tokens) == (8 * d_in * tokens, -(-d_out * tokens * plan.correlation.answer_bits // 8))
        assert (plan.bytes_up, plan.bytes_down) == plan.bytes_for(8192)
        of_result = how.top_bits + how.key_bits + (84 if exact else 0)
        assert plan.ahead_bytes == (d_in * 8192 * 148 // 8, d_out * 8192 * of_result // 8)

    def test_both_are_shown(self) -> None:
        row = planned().to_dict(tokens=3)
        assert row["round_trips"] == 1
        assert row["phases"]["offline"] == {
            "round_trips": 1, "correlations": 8192, "rotations": 0, "keyswitches": 0, "ct_pt": 21504,
            "additions": 16 * 575 + 768 * 15, "rescales": 0, "sanitizes": 768, "encrypts": 576, "decrypts": 768,
            "bytes_up_per_token": 10656, "bytes_down_per_token": 5952, "kept_bytes_per_token": 2592,
            "distance_bits": pytest.approx(79.05, abs=0.01),
        }  # fmt: skip
        assert row["phases"]["online"] == {
            "round_trips": 1, "bytes_up_per_token": 4608, "bytes_down_per_token": 2304,
            "multiplications_per_token": 16 * (576 + 768), "answer_bits": 24,
            "bits_per_query": pytest.approx(45.8, abs=0.01),
        }  # fmt: skip
        assert (row["bytes_up_estimate"], row["bytes_down_estimate"]) == (3 * 4608, 3 * 2304)
        assert (row["wrap_bits"], row["modulus_bits"], row["assumes"]) == (64, 148, ["honest keys"])

    def test_budgets_are_for_what_is_sent_online(self) -> None:
        plan = planned()
        plan.check_budget(1, Budget(bytes=4608 + 2304))
        with pytest.raises(BudgetExceeded, match="bytes per token"):
            plan.check_budget(1, Budget(bytes=4608 + 2303))


def test_every_part_of_a_compiled_module_fits() -> None:
    plan = planned()
    assert "precomputed" in repr(CompiledModule(_Weights(), (Part(name="m", d_out=768),), plan))


class _Weights:
    name, shape, exponent = "m", USUAL, 0

    def vectors(self, plan: Plan) -> Any:
        raise NotImplementedError
