"""Calibration: everything is timed where it can be, and what cannot be told apart is refused; no time is judged.

Long, since each kind of operation is timed and refused in a way of its own.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.backend.capabilities import Encoding, RescaleMode
from helora_core.backend.session import open_sessions
from helora_core.compiler.ahead import RINGS_AHEAD, chain_ahead
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.request import BackendTraits
from helora_core.errors import CapabilityMissing, InsecureParameters, InvalidInput, InvalidParameters
from helora_core.host.manager import get_manager
from helora_core.params.ckks import CKKSParams
from helora_core.params.presets import FAST
from helora_core.params.security import TABLES, require_secure, security_verdict
from helora_core.planning.calibrate import calibrate, fit_costs
from helora_core.planning.chains import DEFAULT_CHAINS, chains_for
from helora_core.planning.profile import Profile
from helora_core.planning.program_probes import ProgramBench
from tests.conftest import AHEAD_OF_TIME, EXACT
from tests.registered import ACCEPTED, online_packings, packings_ahead

SHALLOW = CKKSParams(ring_degree=8192, data_bits=(60, 40), special_bits=(60,), scale_bits=40)

AT_EVERY_LEVEL = {
    "encode_slots", "encode_coefficients", "encode_scalar", "multiply_plain", "multiply_scalar", "dot_first",
    "dot_further", "add", "add_plain", "rotate", "rotate_first", "rotate_further", "server_send", "client_receive",
    "decrypt_slots", "decrypt_coefficients",
}  # fmt: skip
AT_THE_TOP = {
    "encrypt_slots", "encrypt_coefficients", "encrypt_public_slots", "client_send", "server_receive", "embed",
    "unembed", "sanitize", "sanitize_trimmed",
}  # fmt: skip


@pytest.fixture(scope="module")
def profile(backend: Any) -> Profile:
    return calibrate(backend, chains=(SHALLOW,), rounds=2, library="some", library_version="1.2")


def altered(backend: Any, **capabilities: Any) -> Any:
    """The backend with other capabilities, which is another backend."""

    class Altered(type(backend)):  # type: ignore[misc]
        pass

    Altered.capabilities = msgspec.structs.replace(backend.capabilities, **capabilities)
    return Altered()


def operations(profile: Profile, level: int, chain: int = 0) -> set[str]:
    """What was timed at a level, operations within programs apart."""
    return {each for each in every_operation(profile, level, chain) if not each.startswith("program_")}


def every_operation(profile: Profile, level: int, chain: int = 0) -> set[str]:
    return {figure.operation for figure in profile.chains[chain].figures if figure.level == level}


class TestFigures:
    def test_every_operation_is_timed_at_every_level_where_there_is_one(self, profile: Profile) -> None:
        assert operations(profile, 0) == AT_EVERY_LEVEL | {"mask"}
        assert operations(profile, 1) == AT_EVERY_LEVEL | AT_THE_TOP | {"rescale", "unmask"}

    def test_each_has_one_figure_a_level(self, profile: Profile) -> None:
        counted = Counter((figure.operation, figure.level) for figure in profile.chains[0].figures)
        assert set(counted.values()) == {1}

    def test_times_are_positive_and_the_smallest_is_no_more_than_the_median(self, profile: Profile) -> None:
        for figure in profile.chains[0].figures:
            if not figure.operation.endswith(("_first", "_further")) and not figure.operation.startswith("program_"):
                assert 0 < figure.minimum_ns <= figure.median_ns
                assert figure.samples == 2

    def test_figures_are_plain_numbers(self, profile: Profile) -> None:
        assert {type(figure.median_ns) for figure in profile.chains[0].figures} == {float}
        assert msgspec.json.decode(msgspec.json.encode(profile), type=Profile) == profile

    def test_without_hoisting_each_rotation_costs_as_much(self, backend: Any) -> None:
        timed = calibrate(altered(backend, hoisting=False), chains=(SHALLOW,), rounds=1)
        for level in (0, 1):
            times = {timed.figure(name, SHALLOW, level).median_ns
                     for name in ("rotate", "rotate_first", "rotate_further")}  # fmt: skip
            assert len(times) == 1

    def test_the_chain_is_what_the_library_really_uses(self, profile: Profile, backend: Any) -> None:
        resolved = backend.resolve(SHALLOW)
        chain = profile.chains[0]
        assert (chain.ring_degree, chain.data_bits, chain.special_bits) == (
            8192,
            resolved.data_bits,
            resolved.special_bits,
        )

    def test_provenance_names_the_library_and_the_rounds(self, profile: Profile, backend: Any) -> None:
        provenance = profile.provenance
        assert (provenance.backend, provenance.library, provenance.library_version, provenance.rounds) == (
            backend.name, "some", "1.2", 2,
        )  # fmt: skip

    @pytest.mark.parametrize("packing", ["rank_bsgs", "zero_moai"])
    def test_the_default_chains_have_all_that_a_plan_executes(self, numpy_backend: Any, packing: str) -> None:
        plan = compile_plan(ModuleShape.parse("37:90:5"), get_manager().load_packing(packing), private_weights=False)
        alike = [
            chain
            for chain in DEFAULT_CHAINS
            if (chain.ring_degree, len(chain.data_bits)) == (plan.params.ring_degree, len(plan.params.data_bits))
        ]
        timed = calibrate(numpy_backend, chains=alike, rounds=1)
        for op in plan.program.ops:
            if op.kind.value in AT_EVERY_LEVEL | {"rescale"}:
                assert timed.figure(op.kind.value, plan.params, plan.values[op.args[0]].level).median_ns > 0
        assert timed.figure("encrypt_slots", plan.params).median_ns > 0
        for output in plan.program.results:
            assert timed.figure("decrypt_slots", plan.params, plan.values[output].level).median_ns > 0


PROGRAMS = {
    "program_run", "program_decompose", "program_rotate", "program_divide", "program_multiply",
    "program_multiply_rotated", "program_run_numbers", "program_multiply_number",
}  # fmt: skip


class TestPrograms:
    def test_operations_within_programs_are_fitted_at_every_level(self, numpy_backend: Any) -> None:
        timed = calibrate(numpy_backend, chains=(SHALLOW,), rounds=1)
        for level, more in ((0, set()), (1, {"program_rescale"})):
            found = every_operation(timed, level) - operations(timed, level)
            assert found == PROGRAMS | more

    def test_a_backend_without_programs_has_none(self, numpy_backend: Any) -> None:
        timed = calibrate(altered(numpy_backend, programs=False), chains=(SHALLOW,), rounds=1)
        assert all(every_operation(timed, level) == operations(timed, level) for level in (0, 1))

    def test_the_parts_of_each_are_those_of_its_program(self, numpy_backend: Any) -> None:
        """What a trace sees of a probe is what its time is charged to."""
        client, server = open_sessions(numpy_backend, SHALLOW, range(1, 9))
        vectors = list(np.random.default_rng(0).uniform(-1, 1, (8, 16)))
        ciphertexts = [server.receive(client.send(client.encrypt(each, scale_bits=40))) for each in vectors]
        bench = ProgramBench(server, ciphertexts, vectors, 30, rotates=True)
        seen: set[str] = set()
        for parts, tape in bench.programs():
            done: Counter[str] = Counter()
            bench.call(tape, trace=lambda kind, times, done=done: done.update({kind: times}))()
            assert done["keyswitches"] == parts.get("program_rotate", 0)
            assert done["rescales"] == parts.get("program_rescale", 0)
            assert done["ct_pt"] == sum(times for name, times in parts.items() if "_multiply" in name)
            seen |= set(parts)
        assert seen == PROGRAMS | {"program_rescale"}


class TestAheadOfTime:
    """Backends that plans can run ahead of time on have chains of such plans."""

    @pytest.mark.parametrize("ring_degree", [4096, 8192])
    def test_all_that_a_batch_and_a_request_take_is_timed(self, numpy_backend: Any, ring_degree: int) -> None:
        chain = chain_ahead(ring_degree)
        timed = calibrate(numpy_backend, chains=(chain,), rounds=1)
        figures = timed.chain(chain).figures
        assert timed.chains[0].wrap_bits == chain.wrap_bits
        wanted = {*AHEAD_OF_TIME, *(EXACT if chain.max_level else ())}
        assert {(figure.operation, figure.level) for figure in figures} == {(name, chain.max_level) for name in wanted}
        for name in ("ahead_key", "ahead_encrypt", "ahead_decrypt", "ahead_sums", "ahead_result"):
            assert timed.figure(name, chain).median_ns > 0

    @pytest.mark.parametrize("packing", packings_ahead())
    def test_the_chains_are_those_of_plans(self, packing: str) -> None:
        strategy = get_manager().load_packing(packing)
        plan = compile_plan(ModuleShape.parse("64:64:4"), strategy, assume=ACCEPTED, precision_bits=8)
        assert plan.params in chains_for(correlations=True)

    def test_the_smallest_ring_is_timed_too(self) -> None:
        assert chain_ahead(4096) in chains_for(correlations=True)

    def test_a_ring_that_is_asked_for_has_its_own_alone(self) -> None:
        for ring_degree in (2048, *RINGS_AHEAD):
            ahead = [chain for chain in chains_for((ring_degree,), correlations=True) if chain.wrap_bits]
            assert ahead == [chain_ahead(n) for n in RINGS_AHEAD if n == ring_degree]

    def test_a_backend_that_cannot_has_none(self) -> None:
        assert not any(chain.wrap_bits for chain in chains_for())

    def test_a_table_that_refuses_one_is_noted(self, numpy_backend: Any) -> None:
        """Unlike others these chains cannot be shortened: their primes hide noise."""
        table = "adps16-quantum"
        assert not security_verdict(chain_ahead(4096), table=table).secure
        timed = calibrate(numpy_backend, chains=(chain_ahead(4096), chain_ahead(8192)), rounds=1, table=table)
        (refused,) = timed.refused
        assert (refused.ring_degree, refused.wrap_bits, refused.code) == (4096, 64, "insecure-parameters")


class TestAbilities:
    def test_hoisted_rotations_are_fitted_from_several_at_once(self, numpy_backend: Any) -> None:
        """The emulation hoists for real as far as anybody can see: a loop over its own ``rotate``."""
        asked: Counter[int] = Counter()
        keys: set[int] = set()

        class Hoisting(type(numpy_backend)):  # type: ignore[misc]
            capabilities = msgspec.structs.replace(numpy_backend.capabilities, hoisting=True, programs=False)

            def generate_keys(self, params: Any, rotation_steps: Any, **options: Any) -> Any:
                keys.update(rotation_steps)
                decryptor, evaluator = super().generate_keys(params, rotation_steps, **options)

                def rotate_many(ciphertext: Any, steps: Any) -> list[Any]:
                    asked[len(steps)] += 1
                    return [evaluator.rotate(ciphertext, step) for step in steps]

                evaluator.rotate_many = rotate_many
                return decryptor, evaluator

        timed = calibrate(Hoisting(), chains=(SHALLOW,), rounds=1)
        assert set(asked) == {1, 2, 4, 8}
        assert keys == set(range(1, 9))
        for level in (0, 1):
            assert timed.figure("rotate_first", SHALLOW, level).samples == 4
            assert timed.figure("rotate_further", SHALLOW, level).median_ns >= 0

    def test_what_a_backend_cannot_do_is_left_out(self, numpy_backend: Any) -> None:
        plain = altered(numpy_backend, encodings=frozenset({Encoding.SLOTS}), public_key=False)
        timed = operations(calibrate(plain, chains=(SHALLOW,), rounds=1), 1)
        assert {"encrypt_coefficients", "encode_coefficients", "encrypt_public_slots"}.isdisjoint(timed)
        assert {"encode_slots", "encode_scalar", "rotate"} <= timed

    def test_products_that_fit_nowhere_are_left_out(self, numpy_backend: Any) -> None:
        """With one scale for all plaintexts, a base prime of 60 bits holds no product of two scales of 40."""
        timed = calibrate(altered(numpy_backend, free_plaintext_scale=False), chains=(FAST,), rounds=1)
        products = {"multiply_plain", "multiply_scalar", "dot_first", "dot_further"}
        assert products.isdisjoint(operations(timed, 0))
        assert products <= operations(timed, 1)

    def test_masks_are_timed_below_the_highest_level_where_integers_are_exact(self, backend: Any) -> None:
        doubles = altered(backend, encodings=backend.capabilities.encodings - {Encoding.INTEGERS})
        timed = calibrate(doubles, chains=(SHALLOW,), rounds=1)
        assert not {"mask", "unmask", "sanitize_trimmed"} & (operations(timed, 0) | operations(timed, 1))

    @pytest.mark.parametrize("special_bits", [(), (20,)], ids=["none", "too short"])
    def test_without_a_special_prime_fit_for_it_nothing_rotates(
        self, numpy_backend: Any, special_bits: tuple[int, ...]
    ) -> None:
        bare = CKKSParams(ring_degree=4096, data_bits=(53, 33), special_bits=special_bits, scale_bits=33)
        timed = operations(calibrate(numpy_backend, chains=(bare,), rounds=1), 1)
        assert not {name for name in timed if name.startswith("rotate")}
        assert "multiply_plain" in timed


class TestRounds:
    def test_each_is_reported(self, numpy_backend: Any) -> None:
        done: list[None] = []
        calibrate(numpy_backend, chains=(SHALLOW,), rounds=3, on_round=lambda: done.append(None))
        assert len(done) == 3

    def test_there_must_be_one(self, numpy_backend: Any) -> None:
        with pytest.raises(InvalidInput, match="0 rounds"):
            calibrate(numpy_backend, chains=(SHALLOW,), rounds=0)

    def test_there_must_be_a_chain(self, numpy_backend: Any) -> None:
        with pytest.raises(InvalidInput, match="no chain"):
            calibrate(numpy_backend, chains=())


class TestRefusals:
    INSECURE = CKKSParams(ring_degree=1024, data_bits=(40, 30), special_bits=(40,), scale_bits=30)

    def test_a_chain_that_is_refused_is_noted_and_left_out(self, numpy_backend: Any) -> None:
        timed = calibrate(numpy_backend, chains=(self.INSECURE, SHALLOW), rounds=1)
        assert [chain.ring_degree for chain in timed.chains] == [8192]
        (refused,) = timed.refused
        assert (refused.ring_degree, refused.data_bits, refused.code) == (1024, (40, 30), "insecure-parameters")
        assert refused.reason

    def test_if_all_are_it_is_the_refusal(self, numpy_backend: Any) -> None:
        with pytest.raises(InsecureParameters):
            calibrate(numpy_backend, chains=(self.INSECURE,), rounds=1)

    def test_a_library_that_rescales_by_itself_cannot_be_calibrated(self, numpy_backend: Any) -> None:
        with pytest.raises(CapabilityMissing, match="rescales by itself"):
            calibrate(altered(numpy_backend, rescale=RescaleMode.AUTOMATIC), rounds=1)


class TestChains:
    def test_the_default_ones_are_secure(self) -> None:
        for params in DEFAULT_CHAINS:
            require_secure(params)

    @pytest.mark.parametrize("packing", sorted(online_packings()))
    @pytest.mark.parametrize("sanitize_bits", [0, 40])
    def test_the_default_ones_are_those_of_plans(self, packing: str, sanitize_bits: int) -> None:
        for shape in ("576:192:8", "1536:1536:16"):
            plan = compile_plan(
                ModuleShape.parse("64:64:8" if packing.startswith("halevi") else shape),
                get_manager().load_packing(packing),
                tokens=4,
                sanitize_bits=sanitize_bits,
                private_weights=False,
            )
            chain = plan.params
            assert (chain.ring_degree, len(chain.data_bits), len(chain.special_bits)) in [
                (each.ring_degree, len(each.data_bits), len(each.special_bits)) for each in DEFAULT_CHAINS
            ]

    def test_a_backend_that_is_fast_with_short_primes_only_gets_those_and_the_chains_that_its_plans_have(self) -> None:
        traits = BackendTraits.of([get_manager().load_backend("rns").capabilities])
        chains = chains_for(traits=traits)
        kinds = {(each.ring_degree, len(each.data_bits), len(each.special_bits)) for each in chains}
        assert max(max(chain.data_bits + chain.special_bits) for chain in chains) == traits.longest_prime_bits
        for name, shape in (("cheetah", "1536:1536:16"), ("cpmm", "576:768:16"), ("cheetah_two_round", "1536:1536:32")):
            packing = get_manager().load_packing(name)
            plan = compile_plan(ModuleShape.parse(shape), packing, tokens=4, private_weights=False, traits=traits)
            chain = plan.params
            assert (chain.ring_degree, len(chain.data_bits), len(chain.special_bits)) in kinds
        for chain in chains_for(traits=BackendTraits(longest_prime_bits=50)):
            assert chain.special_bits or chain.max_level == 0

    @pytest.mark.thorough
    def test_unless_chains_are_given_those_of_the_backend_are_timed(self) -> None:
        """Else an engine's own plans would be refused for want of figures."""
        engine = get_manager().load_backend("rns")
        timed = calibrate(engine, rounds=1)
        wanted = chains_for(traits=BackendTraits.of([engine.capabilities]), correlations=True)
        assert not timed.refused
        assert [(each.ring_degree, each.data_bits, each.special_bits, each.wrap_bits) for each in timed.chains] == [
            (each.ring_degree, each.data_bits, each.special_bits, each.wrap_bits) for each in wanted
        ]

    def test_rings_restrict_them(self) -> None:
        assert chains_for() == DEFAULT_CHAINS
        assert chains_for((8192, 8192)) == tuple(chain for chain in DEFAULT_CHAINS if chain.ring_degree == 8192)

    def test_another_ring_gets_chains_of_its_own(self) -> None:
        chains = chains_for((32768, 4096))
        assert [(chain.ring_degree, len(chain.data_bits)) for chain in chains] == [
            (32768, 1), (32768, 2), (32768, 3), (4096, 1), (4096, 2),
        ]  # fmt: skip

    def test_a_ring_that_is_none_is_refused(self) -> None:
        with pytest.raises(InvalidParameters):
            chains_for((5000,))


class TestFit:
    NAMES = ("first", "further")
    DESIGN = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 3.0], [1.0, 7.0]])

    def test_costs_are_those_that_the_measurements_are_made_of(self) -> None:
        costs = fit_costs(self.NAMES, self.DESIGN, self.DESIGN @ np.array([5.0, 0.25]))
        np.testing.assert_allclose(costs, (5.0, 0.25))

    def test_short_measurements_weigh_as_much_as_long_ones(self) -> None:
        """A tenth too much, of the longest alone, is not made up for by a first one that costs nothing."""
        times = self.DESIGN @ np.array([1.0, 1.0]) * np.array([1.0, 1.0, 1.0, 1.1])
        first, further = fit_costs(self.NAMES, self.DESIGN, times)
        assert first == pytest.approx(1.0, abs=0.05)
        assert further == pytest.approx(1.0, abs=0.1)

    def test_no_cost_is_negative(self) -> None:
        assert min(fit_costs(self.NAMES, self.DESIGN, np.array([10.0, 9.0, 8.0, 7.0]))) == 0.0

    def test_one_measurement_cannot_tell_two_operations_apart(self) -> None:
        with pytest.raises(InvalidInput, match="cannot tell first, further apart"):
            fit_costs(self.NAMES, np.array([[1.0, 1.0]]), np.array([1.0]))

    def test_only_what_is_mixed_up_is_named(self) -> None:
        """Two operations that always come together, beside one that comes alone too."""
        design = np.array([[1.0, 2.0, 2.0], [0.0, 1.0, 1.0], [3.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
        with pytest.raises(InvalidInput, match="cannot tell decrypt, decode apart"):
            fit_costs(("send", "decrypt", "decode"), design, np.ones(4))

    def test_an_operation_that_was_never_done_is_named(self) -> None:
        with pytest.raises(InvalidInput, match="cannot tell idle apart"):
            fit_costs(("busy", "idle"), np.array([[1.0, 0.0], [2.0, 0.0]]), np.ones(2))

    def test_shapes_must_match(self) -> None:
        with pytest.raises(InvalidInput, match="shape"):
            fit_costs(self.NAMES, np.eye(3), np.ones(3))


@pytest.mark.parametrize("table", TABLES)
def test_chains_are_those_of_the_default_with_primes_that_the_table_allows(table: str) -> None:
    chains = chains_for(table=table)
    kinds = [(each.ring_degree, len(each.data_bits), each.special_bits) for each in chains]
    assert kinds == [(each.ring_degree, len(each.data_bits), each.special_bits) for each in DEFAULT_CHAINS]
    for chain, default in zip(chains, DEFAULT_CHAINS, strict=True):
        assert security_verdict(chain, table=table).secure
        assert chain == default or not security_verdict(default, table=table).secure


def test_other_rings_get_chains_of_the_table() -> None:
    for chain in chains_for([32768], table="adps16-quantum"):
        assert security_verdict(chain, table="adps16-quantum").secure
