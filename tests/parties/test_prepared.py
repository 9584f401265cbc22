"""Correlations made ahead of time: exact integers online, each correlation once, and nothing of x in what is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.artifact.read import read_artifact
from helora_core.artifact.write import write_artifact
from helora_core.backend import envelope
from helora_core.backend.envelope import PayloadKind
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.compiler.rounds import Phase, RoundKind, counts_of
from helora_core.errors import (
    BackendUnavailable,
    CorrelationUsed,
    CorruptPayload,
    ForeignCiphertext,
    InvalidInput,
    LimitExceeded,
    PoolEmpty,
    UnexpectedMessage,
)
from helora_core.parties.client import Client
from helora_core.parties.limits import ServerLimits
from helora_core.parties.messages import Span
from helora_core.parties.server import Server
from helora_core.parties.store import MemoryStore
from tests.parties.ahead import MANAGER, integer_delta, prepared_module
from tests.parties.pair import MODULES, SHAPE, Pair, altered, client_of, server_of, upload_of, x_of


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair.of()


EXTREME = st.one_of(
    arrays.arrays(np.float64, (3, SHAPE.d_in), elements=st.floats(-1e300, 1e300, allow_subnormal=True)),
    st.integers(0, 99).map(lambda seed: x_of(3, seed)),
    st.sampled_from([np.zeros((3, 4)), np.ones((3, 4)), np.eye(4)[:3] * 2.0**900, -np.full((3, 4), 2.0**-1060)]),
)


class TestDelta:
    @given(x=EXTREME, names=st.sampled_from([("q",), ("v",), ("v", "q")]))
    def test_it_is_the_lora_in_integers_exactly(self, pair: Pair, x: Any, names: tuple[str, ...]) -> None:
        if pair.client.pools.get(("q", "v"), None) is None or pair.client.pools["q", "v"].left < 3:
            pair.prepare(["q", "v"], 1000)
        request = pair.client.begin(names, x)
        request.receive(pair.session.answer(request.message()))
        for name in names:
            np.testing.assert_array_equal(request.deltas[name], integer_delta(MODULES[name], x))
            exact = MODULES[name].module.reference_delta(x)  # type: ignore[union-attr]
            assert (np.max(np.abs(request.deltas[name] - exact), axis=1) <= request.error_bounds[name]).all()

    def test_no_weight_is_rounded_to_zero_under_encryption_and_to_another_number_online(self) -> None:
        """Libraries put something in the place of a zero; it would be multiplied by r, which is as large as t."""
        shape = ModuleShape.parse("8:3:2")
        small = synthetic_module(shape, seed=5, name="small")
        down = small.down.copy()
        down[:, 1::2] *= 2.0**-12
        sparse = LoRAModule("small", down, small.up, small.scaling)
        plan = compile_plan(shape, MANAGER.load_packing("ahead"), module=sparse, precision_bits=0.1)
        compiled = CompiledModule(sparse, (Part(name="small", d_out=3),), plan)
        x = synthetic_activations(shape, 4, seed=1)
        for name in ("numpy", "tenseal"):
            try:
                backend = MANAGER.load_backend(name)
            except BackendUnavailable:
                continue
            server = Server({"small": compiled}, backend)
            client = Client(server.offer(), backend=backend, load_packing=MANAGER.load_packing)
            pair = Pair(server, client, server.open(client.evaluation_keys()))
            pair.prepare("small", 4)
            result = client.run("small", x, pair.session)
            np.testing.assert_array_equal(result.delta, integer_delta(compiled, x))
            errors = np.max(np.abs(result.delta - sparse.reference_delta(x)), axis=1)
            assert (errors <= result.error_bounds["small"]).all()

    def test_tokens_beyond_a_run_and_a_batch(self) -> None:
        pair = Pair.of()
        pair.prepare("q", 8200)  # two runs
        pair.prepare("q", 10)
        assert pair.client.pools["q",].left == 8210
        for tokens in (8190, 5, 14):  # beyond the first run, the last of the batch, the first of the next
            x = x_of(tokens, tokens)
            np.testing.assert_array_equal(pair.delta("q", x), integer_delta(MODULES["q"], x))
        assert pair.client.pools["q",].left == pair.session.correlations == 1

    def test_dead_modules_features_and_rows_cost_nothing(self) -> None:
        module = synthetic_module(SHAPE, seed=3, name="sparse")
        down, up = module.down.copy(), module.up.copy()
        down[:, 2], up[1] = 0.0, 0.0
        modules = {}
        for name, factor in (("sparse", 1.0), ("dead", 0.0)):
            sparse = LoRAModule(name, down, up * factor, 1.0)
            plan = compile_plan(SHAPE, MANAGER.load_packing("ahead"), module=sparse, precision_bits=0.5)
            modules[name] = CompiledModule(sparse, (Part(name=name, d_out=SHAPE.d_out),), plan)
        server = server_of(modules)
        client = client_of(server)
        pair = Pair(server, client, server.open(client.evaluation_keys()))
        pair.prepare("sparse", 3)
        x = x_of(2)
        request = client.begin(["sparse", "dead"], x)
        assert len(upload_of(request.message()).ciphertexts[0][0]) == 2 * 2 * 3 * 8
        request.receive(pair.session.answer(request.message()))
        np.testing.assert_array_equal(request.deltas["sparse"], integer_delta(modules["sparse"], x))
        assert not request.deltas["dead"].any()
        with pytest.raises(InvalidInput, match="nothing to prepare"):
            client.prepare("dead", 1)


class TestMessages:
    def test_what_is_sent_is_uniform_whatever_x_is(self, pair: Pair) -> None:
        """y of extreme x by fresh correlations: each residue in a sixteenth of its range about as often as in any."""
        plan = pair.client.plans["q"]
        for x in (np.zeros((2000, 4)), np.full((2000, 4), 1e9), np.eye(4)[np.zeros(2000, dtype=int)]):
            pair.prepare("q", 2000)
            upload = upload_of(pair.client.begin("q", x).message())
            y = np.frombuffer(upload.ciphertexts[0][0], dtype="<u8").reshape(plan.correlation.lower, -1)  # type: ignore[union-attr]
            for residues in y:
                counts, _ = np.histogram(residues.astype(np.float64), bins=16, range=(0.0, float(residues.max())))
                chi2 = float(((counts - counts.mean()) ** 2 / counts.mean()).sum())
                assert chi2 < 60, "15 degrees of freedom: 60 comes once in a million times"
            pair.client.discard("q")

    def test_masks_of_modules_runs_and_places_differ(self, pair: Pair) -> None:
        """For y = 0 the server's answer is its mask alone."""
        pair.prepare(["q", "v"], 10)
        request = pair.client.begin(["q", "v"], x_of(10))
        upload = upload_of(request.message())
        zero = (bytes(len(upload.ciphertexts[0][0])),)
        answer = pair.session.answer(altered(request.message(), ciphertexts=(zero,)))
        download = envelope.opened(PayloadKind.DOWNLOAD, None, answer).payload
        numbers = np.frombuffer(b"".join(each[0] for each in msgspec.msgpack.decode(download)[2]), dtype="<u8")
        assert len(set(numbers.tolist())) == numbers.size == 2 * 2 * 10 * SHAPE.d_out

    @pytest.mark.parametrize("named", [True, False])
    def test_a_retry_is_answered_alike_and_another_y_is_not(self, pair: Pair, named: bool, refused: Any) -> None:
        pair.prepare("q", 4)
        request = pair.client.begin("q", x_of(2))
        message = request.message()
        answer = pair.session.answer(message)
        assert pair.session.answer(message) == answer
        y = upload_of(message).ciphertexts[0][0]
        other = ((bytes([y[0] ^ 1]) + y[1:],),)
        if named:
            with refused(UnexpectedMessage):
                pair.session.answer(altered(message, ciphertexts=other))
        else:
            with refused(CorrelationUsed, "used", hint="Begin the request again"):
                pair.session.answer(altered(message, ciphertexts=other, request=bytes(16)))
        request.receive(answer)
        pair.client.discard("q")

    def test_a_second_session_of_the_same_keys_knows_what_is_used(self, pair: Pair, refused: Any) -> None:
        pair.prepare("q", 2)
        request = pair.client.begin("q", x_of(1))
        second = pair.server.open(pair.client.evaluation_keys())
        second.answer(request.message())
        with refused(CorrelationUsed):
            pair.session.answer(request.message())
        pair.client.discard("q")

    def test_what_does_not_fit_is_refused_and_uses_nothing(self, pair: Pair, refused: Any) -> None:
        pair.prepare("q", 4)
        request = pair.client.begin("q", x_of(2))
        message, left = request.message(), pair.session.correlations
        (span,) = upload_of(message).spans
        y = upload_of(message).ciphertexts[0][0]
        for changes, kind in (
            ({"spans": (Span(bytes(16), 0, 2),)}, CorrelationUsed),
            ({"spans": (Span(span.batch, 3, 2),)}, CorrelationUsed),
            ({"spans": (Span(span.batch, 1 << 31, 2),)}, CorrelationUsed),
            ({"spans": (Span(span.batch, 0, 1),) * 2}, CorrelationUsed),
            ({"spans": (Span(span.batch, 0, 1),)}, UnexpectedMessage),
            ({"spans": (Span(span.batch, 0, 3),), "tokens": 3}, CorruptPayload),
            ({"modules": ("v",)}, CorrelationUsed),
            ({"modules": ("online",), "plans": (MODULES["online"].plan.digest,)}, ForeignCiphertext),
            ({"modules": ("q", "online")}, InvalidInput),
            ({"number": 0}, UnexpectedMessage),
            ({"ciphertexts": ((y[:-8],),)}, CorruptPayload),
            ({"ciphertexts": ((b"\xff" * len(y),),)}, CorruptPayload),
            ({"ciphertexts": ()}, CorruptPayload),
        ):
            with refused(kind):
                pair.session.answer(altered(message, **changes))
        assert pair.session.correlations == left
        request.receive(pair.session.answer(message))
        pair.client.discard("q")

    def test_a_batch_is_prepared_once(self, refused: Any) -> None:
        now = [0.0]
        pair = Pair.of(clock=lambda: now[0])
        preparation = pair.client.prepare("q", 2)
        answer = pair.session.answer(preparation.message())
        now[0] += 2 * pair.server.limits.idle_s
        with refused(UnexpectedMessage, "was prepared"):
            pair.session.answer(preparation.message())
        preparation.receive(answer)
        x = x_of(2)
        np.testing.assert_array_equal(pair.delta("q", x), integer_delta(MODULES["q"], x))


class TestPools:
    def test_an_empty_pool_is_refused_or_another_plan_is_taken(self, pair: Pair, refused: Any) -> None:
        x = x_of(3)
        pair.client.discard(["q", "v"])
        pair.prepare("q", 2)
        with refused(PoolEmpty, "3 correlations", "has 2", hint="client.prepare"):
            pair.client.begin("q", x)
        request = pair.client.begin("q", x, otherwise="online")
        while not request.done:
            request.receive(pair.session.answer(request.message()))
        reference = MODULES["online"].module.reference_delta(x)  # type: ignore[union-attr]
        assert np.max(np.abs(request.delta - reference)) < 1e-2
        assert pair.client.pools["q",].left == 2
        pair.client.discard("q")

    def test_levels_tell_what_is_left_and_what_is_low(self) -> None:
        server = server_of()
        client = client_of(server, low_water=3)
        pair = Pair(server, client, server.open(client.evaluation_keys()))
        pair.prepare(["q", "v"], 4)
        pair.prepare("v", 1)
        levels = {modules: (level.left, level.low) for modules, level in client.pools.items()}
        assert levels == {("q", "v"): (4, False), ("v",): (1, True)}
        pair.delta("v", x_of(1))  # of the pool for v alone
        pair.delta("v", x_of(2))
        levels = {modules: (level.left, level.low) for modules, level in client.pools.items()}
        assert levels == {("q", "v"): (2, True), ("v",): (0, True)}

    def test_a_server_bounds_what_clients_prepare(self, refused: Any) -> None:
        pair = Pair.of(limits=ServerLimits(correlations=10, batches=2))
        with refused(LimitExceeded, "1 to 10"):
            pair.prepare("q", 11)
        pair.prepare("q", 6)
        with refused(LimitExceeded, "6 correlations", hint="Use some"):
            pair.prepare("q", 6)
        pair.prepare("q", 2)
        with refused(LimitExceeded, "2 batches"):
            pair.prepare("q", 1)
        pair.delta("q", x_of(6))
        pair.prepare("q", 1)

    def test_nothing_to_prepare_is_said(self, pair: Pair, refused: Any) -> None:
        for modules, count in (("online", 1), (["q", "online"], 1), ("q", 0)):
            with refused(InvalidInput):
                pair.client.prepare(modules, count)


class TestPhases:
    def test_each_phase_counts_for_itself(self, pair: Pair) -> None:
        plan = pair.client.plans["q"]
        assert [(turn.phase, turn.kind) for turn in plan.rounds] == [
            (Phase.OFFLINE, RoundKind.HOMOMORPHIC),
            (Phase.ONLINE, RoundKind.MODULAR),
        ]
        ahead = pair.prepare("q", 8193).report
        request = pair.client.begin("q", x_of(3))
        request.receive(pair.session.answer(request.message()))
        online = request.report
        assert ahead.executed == counts_of(plan.rounds, Phase.OFFLINE).times(2) == plan.counts.times(2)
        assert not any(msgspec.structs.asdict(online.executed).values())
        assert (ahead.phase, ahead.correlations, ahead.round_trips) == (Phase.OFFLINE, 8193, 1)
        assert (online.phase, online.correlations, online.round_trips) == (Phase.ONLINE, 3, 1)
        assert 3 * 64 < online.bytes_up < 3 * 64 + 400
        assert 3 * 48 < online.bytes_down < 3 * 48 + 400
        pair.client.discard("q")

    def test_the_plan_shows_both_where_there_are_two(self) -> None:
        shown = MODULES["q"].plan.to_dict()["phases"]
        assert shown["offline"]["correlations"] == MODULES["q"].plan.tokens_per_run
        assert shown["online"]["bytes_up_per_token"] == 2 * 8 * SHAPE.d_in
        assert shown["online"]["bytes_down_per_token"] == 2 * 8 * SHAPE.d_out
        assert "phases" not in MODULES["online"].plan.to_dict()


def test_correlations_of_other_weights_are_refused(refused: Any) -> None:
    store = MemoryStore()
    server = server_of(store=store)
    client = client_of(server)
    pair = Pair(server, client, server.open(client.evaluation_keys()))
    pair.prepare("q", 2)
    other = prepared_module("q", 9, SHAPE)
    assert other.plan.digest == MODULES["q"].plan.digest
    session = server_of({**MODULES, "q": other}, store=store).open(client.evaluation_keys())
    with refused(CorrelationUsed, "do not exist for these modules"):
        session.answer(client.begin("q", x_of(1)).message())


def test_a_server_without_the_adapter_does_the_same(tmp_path: Path) -> None:
    write_artifact(tmp_path / "served", [MODULES["q"]])
    (stored,) = read_artifact(tmp_path / "served", MANAGER.load_packing).modules
    modules = {"q": CompiledModule(stored, stored.parts, stored.plan.with_exponent(stored.exponent))}
    server = server_of(modules)
    client = client_of(server)
    pair = Pair(server, client, server.open(client.evaluation_keys()))
    pair.prepare("q", 3)
    np.testing.assert_array_equal(pair.delta("q", x_of(3)), integer_delta(MODULES["q"], x_of(3)))
