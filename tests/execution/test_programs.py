"""A round cut into tapes gives the round's results, and core gives a library only inputs that fit its tape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.checked_programs import ProgramRun
from helora_core.backend.tape import InstructionKind
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.errors import (
    ForeignCiphertext,
    InvalidInput,
    LevelExhausted,
    LevelMismatch,
    MissingRotationKey,
    PrecisionLost,
    ScaleMismatch,
)
from helora_core.execution.constants import ConstantCache, encode_constants
from helora_core.execution.executor import Execution, Turn, proceed_together
from helora_core.execution.programs import programs_of
from helora_core.packing.protocol import ScaleRole
from tests.execution.test_executor import PACKINGS, with_program

DOWN = ScaleRole.DOWN


def tapes(plan: Any, encoder: Any) -> list[Any]:
    return [
        stage.executable.tape for stages in programs_of(plan, encoder).rounds for stage in stages if stage.executable
    ]


@pytest.fixture
def bench(numpy_backend: Any, make_bench: Any) -> Any:
    return make_bench(numpy_backend)


@pytest.fixture
def loaded(bench: Any) -> Any:
    """An executable of a plan's only stage, weights, and an upload."""
    constants = encode_constants(bench.plan, bench.module, bench.server.encoder)
    ((stage,),) = constants.programs.rounds
    x = synthetic_activations(bench.plan.shape, 1, seed=0)
    inputs = [bench.client.encrypt(vector, scale_bits=36) for vector in bench.plan.pack(x)]
    run = ProgramRun(bench.server.evaluator.unmetered, constants.weights(stage.executable), inputs)
    return stage.executable, run


class TestTapes:
    @pytest.mark.parametrize("packing", PACKINGS)
    def test_every_value_is_made_before_it_is_read_and_freed_after(
        self, numpy_backend: Any, make_bench: Any, packing: str
    ) -> None:
        bench = make_bench(numpy_backend, packing=packing)
        for tape in tapes(bench.plan, bench.server.encoder):
            alive, made = set(range(len(tape.inputs))), len(tape.inputs)
            for each in tape.instructions:
                assert alive.issuperset(each.args)
                assert each.result == made
                made += max(1, len(each.steps))
                alive |= set(range(each.result, made))
                assert alive.issuperset(each.freed)
                alive.difference_update(each.freed)
            # What is alive at the end is what is returned, and nothing else.
            assert alive == set(tape.outputs)

    def test_a_sum_is_one_instruction_however_many_its_terms(self, bench: Any) -> None:
        """But a sum that is read twice, or returned, is made itself."""
        ops = (
            Op(kind=OpKind.INPUT, positions=(0,)),
            Op(kind=OpKind.ROTATE, args=(0,), steps=1),
            Op(kind=OpKind.ADD, args=(0, 1)),
            Op(kind=OpKind.ADD, args=(2, 0)),  # 0 + 1 + 0
            Op(kind=OpKind.ADD, args=(3, 3)),
            Op(kind=OpKind.ADD, args=(4, 1)),  # 3 + 3 + 1
            Op(kind=OpKind.ADD, args=(5, 0)),
        )
        plan = with_program(bench.plan, Program(slots=bench.plan.params.slots, ops=ops, outputs=(5, 6)))
        (tape,) = tapes(plan, bench.server.encoder)
        sums = {each.result: each.args for each in tape.instructions if each.kind is InstructionKind.ADD}
        assert sums == {2: (0, 1, 0), 3: (2, 2, 1), 4: (3, 0)}
        assert tape.outputs == (3, 4)

    def test_what_reads_masks_or_draws_randomness_comes_between_tapes(self, bench: Any) -> None:
        """A sum of a sanitised value and others: two stages, and the value itself goes to the second."""
        ops = (
            Op(kind=OpKind.INPUT, positions=(0,)),
            Op(kind=OpKind.ADD, args=(0, 0)),
            Op(kind=OpKind.SANITIZE, args=(1,), bits=20),
            Op(kind=OpKind.ADD, args=(2, 1)),
            Op(kind=OpKind.ADD, args=(1, 0)),
        )
        plan = with_program(bench.plan, Program(slots=bench.plan.params.slots, ops=ops, outputs=(3, 4)))
        first, second = programs_of(plan, bench.server.encoder).rounds[0]
        assert (first.inputs, first.outputs) == ((0,), (1, 4))
        assert first.kept >= {1, 2, 4}
        assert [step.value for step in first.afterwards] == [2]
        assert (second.inputs, second.outputs, second.afterwards) == ((1, 2), (3,), ())

    def test_modules_of_one_plan_share_what_was_prepared(self, bench: Any) -> None:
        cache = ConstantCache()
        modules = [synthetic_module(bench.plan.shape, seed=seed, name=f"m{seed}") for seed in (1, 2)]
        first, second = (cache.constants(bench.plan, each, bench.server.encoder) for each in modules)
        assert first.programs is second.programs is not None

    def test_what_is_not_kept_encoded_runs_operation_by_operation(self, bench: Any) -> None:
        constants = encode_constants(bench.plan, bench.module, bench.server.encoder, byte_budget=0)
        assert constants.programs is None


class TestTogether:
    def test_each_run_is_credited_with_its_own_operations(self, bench: Any) -> None:
        constants = encode_constants(bench.plan, bench.module, bench.server.encoder)
        x = synthetic_activations(bench.plan.shape, 1, seed=0)
        inputs = [bench.client.encrypt(vector, scale_bits=36) for vector in bench.plan.pack(x)]
        bench.ledger.reset()
        runs = [Execution(bench.plan, constants, whole=whole) for whole in (True, False, True)]
        proceed_together([Turn(run, bench.server, inputs) for run in runs])
        assert bench.ledger.counts() == bench.plan.rounds[0].server_counts.times(3)
        assert bench.ledger.elapsed_ns()["programs"] > 0
        assert all(run.done for run in runs)


class TestRefusals:
    """What would be refused operation by operation is refused when a program is prepared, loaded or run."""

    @pytest.mark.parametrize(("ops", "refusal"), [
        ((Op(kind=OpKind.RESCALE, args=(0,)), Op(kind=OpKind.ADD, args=(0, 1))), LevelMismatch),
        ((Op(kind=OpKind.MULTIPLY_PLAIN, args=(0,), constant="w", role=DOWN), Op(kind=OpKind.ADD, args=(0, 1))),
         ScaleMismatch),
        ((Op(kind=OpKind.RESCALE, args=(0,)), Op(kind=OpKind.RESCALE, args=(1,)), Op(kind=OpKind.RESCALE, args=(2,)),
          Op(kind=OpKind.RESCALE, args=(3,))), LevelExhausted),
        (tuple(Op(kind=OpKind.MULTIPLY_PLAIN, args=(i,), constant="w", role=DOWN) for i in range(5)), PrecisionLost),
    ])  # fmt: skip
    def test_operands_that_do_not_go_together(self, bench: Any, ops: tuple[Op, ...], refusal: type[Exception]) -> None:
        """Past the compiler's own check, which follows nominal scales: here the program comes with a tame one's."""
        whole = (Op(kind=OpKind.INPUT, positions=(0,)), *ops)
        tame = tuple(Op(kind=OpKind.ADD, args=(i, i)) for i in range(len(ops)))
        plan = with_program(
            bench.plan, Program(slots=bench.plan.params.slots, ops=(whole[0], *tame), outputs=(len(ops),))
        )
        specs = bench.plan.constant_specs
        plan = replace(plan, program=Program(slots=bench.plan.params.slots, ops=whole, outputs=(len(ops),)))
        plan.__dict__["constant_specs"] = {"w": next(iter(specs.values()))}
        with pytest.raises(refusal):
            programs_of(plan, bench.server.encoder)

    def test_weights_that_are_not_the_tapes(self, bench: Any, loaded: Any) -> None:
        executable, run = loaded
        constants = encode_constants(bench.plan, bench.module, bench.server.encoder)
        every = {name: constants.plaintext(name) for name in executable.tape.constants}
        name, spec = next(iter(executable.tape.constants.items()))
        encode = bench.server.encoder.encode
        short = {each: plaintext for each, plaintext in every.items() if each != name}
        with pytest.raises(InvalidInput, match="constants are not"):
            executable.load(short, {})
        with pytest.raises(LevelMismatch):
            executable.load(every | {name: encode(np.ones(3), level=0, scale_bits=20)}, {})
        with pytest.raises(ScaleMismatch):
            executable.load(every | {name: encode(np.ones(3), level=spec.level, scale_bits=20)}, {})
        with pytest.raises(ForeignCiphertext):
            executable.load(every | {name: object()}, {})
        assert executable.run([run])

    def test_inputs_that_are_not_the_tapes(self, bench: Any, loaded: Any, numpy_backend: Any, make_bench: Any) -> None:
        executable, run = loaded
        other = make_bench(numpy_backend)
        lower = bench.server.evaluator.rescale(run.inputs[0])
        for inputs, refusal in (
            ([], InvalidInput),
            ([other.client.encrypt(np.ones(3), scale_bits=36)], ForeignCiphertext),
            ([bench.client.encrypt(np.ones(3), scale_bits=35)], ScaleMismatch),
            ([lower], LevelMismatch),
        ):
            with pytest.raises(refusal):
                executable.run([run, run._replace(inputs=inputs)])

    def test_keys_that_lack_a_rotation_and_weights_of_another_program(
        self, bench: Any, loaded: Any, numpy_backend: Any, make_bench: Any
    ) -> None:
        executable, run = loaded
        other = make_bench(numpy_backend, packing="zero_moai")
        sent = other.client.encrypt(np.ones(3), scale_bits=36)
        with pytest.raises(MissingRotationKey):
            executable.run([run._replace(evaluator=other.server.evaluator.unmetered, inputs=[sent])])
        constants = encode_constants(other.plan, other.module, other.server.encoder)
        ((stage,),) = constants.programs.rounds
        with pytest.raises(ForeignCiphertext):
            executable.run([run._replace(weights=constants.weights(stage.executable))])
        assert executable.run([]) == []
