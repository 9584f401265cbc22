"""Programs on ciphertexts do what the same programs do on plain vectors, and hold no more of them than they need."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.ledger import Ledger, OperationCounts
from helora_core.backend.session import ClientSession, ServerSession, open_sessions
from helora_core.compiler.checks import annotate
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.plan import Plan
from helora_core.errors import ForeignCiphertext, InvalidInput, MissingRotationKey, SlotOverflow
from helora_core.execution.constants import EncodedConstants, encode_constants
from helora_core.execution.executor import Execution
from helora_core.execution.programs import programs_of
from helora_core.execution.reference import execute_plain, precision_bits, run_plain
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import ScaleRole
from helora_core.parties.client_run import ClientRun

PACKINGS = ("rank_bsgs", "zero_moai")


class Bench(NamedTuple):
    """A compiled module with open sessions."""

    plan: Plan
    module: LoRAModule
    client: ClientSession
    server: ServerSession
    ledger: Ledger


def with_program(plan: Plan, program: Program) -> Plan:
    """The plan with another program, checked."""
    return replace(plan, program=program, values=annotate(program, plan.params, plan.scales))


def run(bench: Any, x: Any, *, whole: bool = True) -> Any:
    """One run by hand, both roles in one place."""
    owner = bench.module if bench.plan.packing.client_finishes else None
    client_run = ClientRun(bench.plan.for_module(bench.module), x, module=owner)
    uploaded = [bench.server.deserialize(payload) for payload in client_run.inputs(bench.client)]
    constants = encode_constants(bench.plan, bench.module, bench.server.encoder)
    outputs = Execution(bench.plan, constants, whole=whole).proceed(bench.server, uploaded)
    return client_run.result(bench.client, [bench.server.serialize(output) for output in outputs]).delta


class TestAgainstTheReference:
    @pytest.mark.parametrize("whole", [True, False])
    @pytest.mark.parametrize("packing", PACKINGS)
    @pytest.mark.parametrize("shape", ["37:90:5", "576:192:8"])
    def test_a_run_is_the_plain_run_within_the_precision_asked_for(
        self, backend: Any, make_bench: Any, shape: str, packing: str, whole: bool
    ) -> None:
        bench = make_bench(backend, shape, packing, params=None)
        if whole and not bench.server.encoder.prepares:
            pytest.skip("this library runs programs operation by operation, which the other half of this test sees")
        x = synthetic_activations(bench.plan.shape, bench.plan.tokens_per_run, seed=2)
        found = run(bench, x, whole=whole)
        assert precision_bits(found, run_plain(bench.plan, bench.module, x)) > 12
        assert precision_bits(found, bench.module.reference_delta(x)) > 12

    @settings(max_examples=20)
    @given(
        shape=st.builds(ModuleShape, d_in=st.integers(1, 40), d_out=st.integers(1, 40), rank=st.integers(1, 9)),
        packing=st.sampled_from(PACKINGS),
        data=st.data(),
    )
    def test_any_shape_any_number_of_tokens(
        self, numpy_backend: Any, make_bench: Any, shape: ModuleShape, packing: str, data: st.DataObject
    ) -> None:
        bench = make_bench(numpy_backend, str(shape), packing)
        tokens = data.draw(st.integers(1, bench.plan.tokens_per_run))
        x = synthetic_activations(shape, tokens, seed=data.draw(st.integers(0, 99)))
        found = run(bench, x)
        assert found.shape == (tokens, shape.d_out)
        assert precision_bits(found, bench.module.reference_delta(x)) > 12

    @pytest.mark.parametrize("whole", [True, False])
    def test_every_kind_of_operation_means_what_the_reference_says(
        self, backend: Any, make_bench: Any, whole: bool
    ) -> None:
        bench = make_bench(backend)
        slots, steps = bench.plan.params.slots, bench.plan.rotation_steps[:2]
        down = ScaleRole.DOWN
        program = Program(
            slots=slots,
            ops=(
                Op(kind=OpKind.INPUT, positions=(0,)),
                Op(kind=OpKind.INPUT, positions=(1,)),
                Op(kind=OpKind.ROTATE, args=(0,), steps=steps[0]),
                Op(kind=OpKind.ROTATE, args=(0,), steps=steps[1]),
                Op(kind=OpKind.ADD, args=(2, 1)),
                Op(kind=OpKind.MULTIPLY_PLAIN, args=(4,), constant="w", role=down),
                Op(kind=OpKind.DOT_PLAIN, args=(3, 1, 4), constants=("w", "v", "v"), role=down),
                Op(kind=OpKind.DOT_SCALARS, args=(3, 1, 4), constant="n", role=down, positions=(2, 0, 2)),
                Op(kind=OpKind.ADD, args=(5, 6)),
                Op(kind=OpKind.ADD, args=(8, 7)),
                Op(kind=OpKind.RESCALE, args=(9,)),
                Op(kind=OpKind.ROTATE, args=(10,), steps=steps[1]),
            ),
            outputs=(11, None, 10, 11),
        )
        plan = with_program(bench.plan, program)
        rng = np.random.default_rng(0)
        x, y, w, v = rng.uniform(-1, 1, (4, slots))
        numbers = {"w": w, "v": v, "n": np.array([0.5, -3.0, 0.25])}
        uploaded = [bench.client.encrypt(each, scale_bits=36) for each in (x, y)]
        programs = programs_of(plan, bench.server.encoder) if whole else None
        constants = EncodedConstants(plan, bench.server.encoder, 1 << 30, 0, programs)
        for name, vector in numbers.items():
            constants.put(name, vector)
        outputs = Execution(plan, constants).proceed(bench.server, uploaded)
        for found, expected in zip(outputs, execute_plain(program, [x, y], numbers), strict=True):
            np.testing.assert_allclose(bench.client.decrypt(found), expected, rtol=0, atol=1e-4)
        assert bench.ledger.counts().minus(OperationCounts(decrypts=3)) == plan.counts.minus(
            OperationCounts(decrypts=3)
        )

    def test_sanitised_results_are_the_same_within_their_flood(self, backend: Any) -> None:
        shape = ModuleShape.parse("37:90:5")
        plan = compile_plan(shape, get_manager().load_packing("rank_bsgs"), sanitize_bits=20, private_weights=False)
        ledger = Ledger()
        client, server = open_sessions(backend, plan.params, plan.rotation_steps, ledger=ledger, public_key=True)
        bench = Bench(plan, synthetic_module(shape, seed=1), client, server, ledger)
        x = synthetic_activations(shape, 3, seed=2)
        assert precision_bits(run(bench, x), bench.module.reference_delta(x)) > 12
        assert ledger.counts() == plan.counts


class HandedOver(list[Any]):
    """Ciphertexts that the list lets go of as they are read, so that only the executor holds them."""

    def __iter__(self) -> Iterator[Any]:
        while self:
            yield self.pop(0)


class TestMemory:
    @staticmethod
    def peaks(program: Program) -> int:
        """Most values alive at once if each is dropped after its last reader: counted off the operations alone.

        Hoisted rotations are all made by the first of them.
        """
        last = {value: i for i, op in enumerate(program.ops) for value in (*op.args, i)}
        last.update(dict.fromkeys(program.results, len(program.ops)))
        born = {i: group[0] for group in program.hoisted_groups() for i in group}
        return max(sum(born.get(value, value) <= i <= last[value] for value in last) for i in range(len(program.ops)))

    @pytest.mark.parametrize(("shape", "packing"), [("37:90:5", "rank_bsgs"), ("16:16:64", "rank_bsgs"),
                                                    ("200:200:16", "zero_moai")])  # fmt: skip
    def test_dead_ciphertexts_are_let_go(
        self, numpy_backend: Any, make_bench: Any, monkeypatch: pytest.MonkeyPatch, shape: str, packing: str
    ) -> None:
        bench = make_bench(numpy_backend, shape, packing)
        evaluator = bench.server.evaluator
        made: list[weakref.ref[Any]] = []
        alive: list[int] = []

        class Watched:
            """The evaluator itself, with an eye on what it makes."""

            def __getattr__(self, name: str) -> Any:
                operation = getattr(evaluator, name)

                def watched(*args: Any, **kwargs: Any) -> Any:
                    result = operation(*args, **kwargs)
                    made.extend(map(weakref.ref, result if isinstance(result, list) else [result]))
                    alive.append(sum(reference() is not None for reference in made))
                    return result

                return watched

        x = synthetic_activations(bench.plan.shape, 1, seed=0)
        inputs = HandedOver(bench.client.encrypt(v, scale_bits=36) for v in bench.plan.pack(x))
        made += [weakref.ref(inputs[i]) for i in range(len(inputs))]
        constants = encode_constants(bench.plan, bench.module, bench.server.encoder)
        monkeypatch.setattr(bench.server, "evaluator", Watched())
        Execution(bench.plan, constants, whole=False).proceed(bench.server, inputs)
        assert max(alive) == self.peaks(bench.plan.program)

    def test_the_peak_of_rank_bsgs_does_not_grow_with_its_products(self, numpy_backend: Any, make_bench: Any) -> None:
        """64 products a stage, and never more alive than the 8 baby steps and the few terms being added up."""
        plan = make_bench(numpy_backend, "16:16:64").plan
        assert plan.counts.ct_pt == 128
        figures = plan.layout.figures
        assert figures["baby_steps_down"] == figures["baby_steps_up"] == 8
        assert self.peaks(plan.program) <= 8 + 4


class TestRefusals:
    @pytest.mark.parametrize("given_inputs", [0, 2])
    def test_the_number_of_ciphertexts_must_be_the_programs(
        self, numpy_backend: Any, make_bench: Any, given_inputs: int
    ) -> None:
        bench = make_bench(numpy_backend)
        ciphertext = bench.client.encrypt(np.ones(4), scale_bits=36)
        constants = encode_constants(bench.plan, bench.module, bench.server.encoder)
        with pytest.raises(InvalidInput, match=f"takes 1 ciphertexts and was given {given_inputs}"):
            Execution(bench.plan, constants).proceed(bench.server, given_inputs * [ciphertext])

    def test_what_a_program_asks_ends_a_round(self, numpy_backend: Any, make_bench: Any) -> None:
        bench = make_bench(numpy_backend)
        ops = (
            Op(kind=OpKind.INPUT, positions=(0,)),
            Op(kind=OpKind.ADD, args=(0, 0)),
            Op(kind=OpKind.ASK_CLIENT, args=(1,)),
            Op(kind=OpKind.ADD, args=(2, 0)),
        )
        program = Program(slots=bench.plan.params.slots, ops=ops, outputs=(3, 1))
        plan = with_program(bench.plan, program)
        execution = Execution(plan, EncodedConstants(plan, bench.server.encoder, 0, 0))
        sent = bench.client.encrypt(np.ones(4), scale_bits=36)
        with pytest.raises(InvalidInput, match="Round 0 of the program takes 1 ciphertexts and was given 0"):
            execution.proceed(bench.server, [])
        (asked,) = execution.proceed(bench.server, [sent])
        assert not execution.done
        both = execution.proceed(bench.server, [asked])
        assert execution.done
        found = [bench.client.decrypt(each)[0] for each in both]
        np.testing.assert_allclose(found, [3.0, 2.0], atol=1e-4)
        with pytest.raises(InvalidInput, match="is over"):
            execution.proceed(bench.server, [sent])

    def test_a_module_of_another_shape_is_refused(self, numpy_backend: Any, make_bench: Any) -> None:
        bench = make_bench(numpy_backend)
        other = synthetic_module(ModuleShape.parse("37:90:4"), seed=0, name="layers.7.q_proj")
        with pytest.raises(InvalidInput, match=r"layers\.7\.q_proj has shape 37:90:4; the plan is for 37:90:5"):
            encode_constants(bench.plan, other, bench.server.encoder)

    def test_constants_too_long_for_the_slots_are_refused(
        self, numpy_backend: Any, make_bench: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = make_bench(numpy_backend)
        long = [(name, np.ones(513)) for name in bench.plan.constant_specs]
        monkeypatch.setattr(type(bench.plan.layout), "constants", lambda self, module: iter(long))
        with pytest.raises(SlotOverflow, match="513 values do not fit 512 slots"):
            encode_constants(bench.plan, bench.module, bench.server.encoder)

    def test_a_server_without_the_plans_keys_refuses(self, numpy_backend: Any, make_bench: Any) -> None:
        bench, other = make_bench(numpy_backend), make_bench(numpy_backend, packing="zero_moai")
        x = synthetic_activations(bench.plan.shape, 1, seed=0)
        mixed = bench._replace(client=other.client, server=other.server)
        with pytest.raises(MissingRotationKey):
            run(mixed, x)

    def test_ciphertexts_of_another_client_are_refused(self, backend: Any, make_bench: Any) -> None:
        bench, other = make_bench(backend), make_bench(backend)
        ciphertext = other.client.encrypt(np.ones(4), scale_bits=36)
        constants = encode_constants(bench.plan, bench.module, bench.server.encoder)
        with pytest.raises(ForeignCiphertext):
            Execution(bench.plan, constants).proceed(bench.server, [ciphertext])


class TestConstants:
    @pytest.mark.parametrize("packing", PACKINGS)
    def test_exactly_the_plans_constants_are_encoded(self, numpy_backend: Any, make_bench: Any, packing: str) -> None:
        bench = make_bench(numpy_backend, packing=packing)
        made: list[int] = []
        constants = encode_constants(bench.plan, bench.module, bench.server.encoder, on_constant=made.append)
        assert made == [1] * len(bench.plan.constant_specs)
        for name, spec in bench.plan.constant_specs.items():
            plaintext = constants.plaintext(name)
            assert (plaintext.level, plaintext.scale) == (spec.level, 2.0**spec.scale_bits)

    def test_what_the_program_does_not_use_is_not_encoded(
        self, numpy_backend: Any, make_bench: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = make_bench(numpy_backend)
        given = [*bench.plan.layout.constants(bench.module), ("spare", np.ones(4))]
        monkeypatch.setattr(type(bench.plan.layout), "constants", lambda self, module: iter(given))
        constants = encode_constants(bench.plan, bench.module, bench.server.encoder)
        with pytest.raises(KeyError):
            constants.plaintext("spare")

    def test_encoding_is_not_counted(self, numpy_backend: Any, make_bench: Any) -> None:
        bench = make_bench(numpy_backend)
        encode_constants(bench.plan, bench.module, bench.server.encoder)
        assert bench.ledger.counts() == OperationCounts()
