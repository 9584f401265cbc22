"""Correlations made ahead of time: exact integers online, each correlation once, and nothing of x in what is sent."""

from __future__ import annotations

from dataclasses import dataclass
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
from helora_core.backend import envelope, key_export
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
    InvalidParameters,
    InvalidProgram,
    LimitExceeded,
    NotDurable,
    PoolEmpty,
    PrecisionLost,
    UnexpectedMessage,
)
from helora_core.execution import modular
from helora_core.packing.protocol import Grid, ProgramBuilder
from helora_core.params.ckks import CKKSParams
from helora_core.parties.client import Client
from helora_core.parties.limits import ServerLimits
from helora_core.parties.messages import Span, Upload, decode, encode
from helora_core.parties.server import Server
from helora_core.parties.session import Session
from helora_core.parties.store import Deferred, DirectoryStore, MemoryStore
from tests.parties.ahead import GRID, MANAGER, Ahead, AheadLayout, integer_delta, prepared_module
from tests.parties.conftest import compiled

SHAPE = ModuleShape.parse("4:3:2")
MODULES = {name: prepared_module(name, seed, SHAPE) for seed, name in enumerate(("q", "v"))}
MODULES["online"] = compiled("online", "rank_bsgs", 0, SHAPE)
BACKEND = MANAGER.load_backend("numpy")


def x_of(tokens: int, seed: int = 0) -> Any:
    return synthetic_activations(SHAPE, tokens, seed=seed)


def server_of(modules: dict[str, CompiledModule] | None = None, **options: Any) -> Server:
    return Server(modules or MODULES, BACKEND, **options)


def client_of(server: Server, **options: Any) -> Client:
    return Client(server.offer(), backend=BACKEND, load_packing=MANAGER.load_packing, **options)


@dataclass
class Pair:
    """Both parties."""

    server: Server
    client: Client
    session: Session

    @classmethod
    def of(cls, **options: Any) -> Pair:
        server = server_of(**options)
        client = client_of(server)
        return cls(server, client, server.open(client.evaluation_keys()))

    def prepare(self, modules: Any, correlations: int) -> Any:
        preparation = self.client.prepare(modules, correlations)
        while not preparation.done:
            preparation.receive(self.session.answer(preparation.message()))
        return preparation

    def delta(self, modules: Any, x: Any) -> Any:
        return self.client.delta(modules, x, self.session)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair.of()


def upload_of(message: bytes) -> Upload:
    return decode(envelope.opened(PayloadKind.UPLOAD, None, message).payload, Upload)


def altered(message: bytes, **changes: Any) -> bytes:
    """The message with other fields, well sealed."""
    opened = envelope.opened(PayloadKind.UPLOAD, None, message)
    upload = msgspec.structs.replace(decode(opened.payload, Upload), **changes)
    return envelope.wrap(PayloadKind.UPLOAD, opened.key_id, encode(upload), opened.origin)


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


class TestLaws:
    """Of programs ahead of time: what breaks one is refused when it is compiled."""

    def emitted(self, emit: Any, **attributes: Any) -> Any:
        class Layout(AheadLayout):
            def emit(self, builder: ProgramBuilder) -> None:
                emit(self, builder)

        class Faulty(Ahead):
            def layouts(self, shape: Any, slots: int, **options: Any) -> Any:
                yield Layout(shape, 2 * slots)

        for name, value in attributes.items():
            setattr(Faulty, name, value)
        return compile_plan(SHAPE, Faulty(), precision_bits=0.5)

    def test_randomness_and_activations_do_not_mix(self) -> None:
        def mixed(layout: AheadLayout, builder: ProgramBuilder) -> None:
            builder.output(builder.mask(builder.rescale(builder.add(builder.random(), builder.input())), "s"))

        with pytest.raises(InvalidProgram, match="takes activations"):
            self.emitted(mixed)

    def test_every_result_has_a_mask_of_its_own(self) -> None:
        def bare(layout: AheadLayout, builder: ProgramBuilder) -> None:
            builder.output(builder.rescale(builder.random()))

        def twice(layout: AheadLayout, builder: ProgramBuilder) -> None:
            r = builder.rescale(builder.random())
            builder.output(builder.mask(r, "s"))
            builder.output(builder.mask(r, "s"))

        with pytest.raises(InvalidProgram, match="no mask"):
            self.emitted(bare)
        with pytest.raises(InvalidProgram, match="same mask"):
            self.emitted(twice)

    def test_a_grid_fits_doubles_and_the_primes(self) -> None:
        with pytest.raises(InvalidParameters, match="47 bits"):
            self.emitted(AheadLayout.emit, grid=Grid(20, 13, 14))
        short = CKKSParams(ring_degree=8192, data_bits=(28, 40), special_bits=(60,), scale_bits=40)
        with pytest.raises(InvalidParameters, match="do not fit"):
            compile_plan(SHAPE, Ahead(), params=short)

    def test_noise_that_reaches_the_grid_is_refused(self) -> None:
        narrow = CKKSParams(ring_degree=8192, data_bits=(40, 40, 40), special_bits=(60,), scale_bits=40)
        plan = compile_plan(SHAPE, Ahead(), params=narrow)
        assert plan.correlation is not None
        assert plan.correlation.guard_bits < 52 + GRID.x_bits
        with pytest.raises(PrecisionLost, match="reaches the grid"):
            plan.precision()


class TestDurable:
    """``Deferred`` stores: nothing leaves before it is acknowledged."""

    def test_a_request_waits_for_its_own_writes_and_all_before(self, refused: Any) -> None:
        server, store = server_of(), Deferred()
        client = client_of(server, store=store)
        pair = Pair(server, client, server.open(client.evaluation_keys()))
        pair.prepare("q", 200)
        first = client.begin("q", x_of(1))
        second = client.begin("q", x_of(1))  # of the chunk that the first one reserves
        third = client.begin("q", x_of(100))  # reserves another
        for request in (first, second, third):
            with refused(NotDurable, "have to be durable", hint="written()"):
                request.message()
        assert first.durable == second.durable == third.durable[:-1]
        first.written()
        first.message()
        second.message()
        with refused(NotDurable, "1 writes"):
            third.message()
        assert [write.key.split(".")[0] for write in third.durable] == ["mark"]
        third.written()
        third.receive(pair.session.answer(third.message()))

    def test_a_server_waits_as_well_and_then_answers(self, refused: Any) -> None:
        pair = Pair.of(store=Deferred())
        preparation = pair.client.prepare("q", 200)
        for exchange in (preparation, lambda: pair.client.begin("q", x_of(2))):
            request: Any = exchange() if callable(exchange) else exchange
            for _ in range(2):
                with refused(NotDurable, hint="written()"):
                    pair.session.answer(request.message())
            assert pair.session.durable
            pair.session.written()
            request.receive(pair.session.answer(request.message()))
        further = pair.client.begin("q", x_of(2))
        further.receive(pair.session.answer(further.message()))  # of the chunk that is reserved already

    def test_a_batch_is_never_kept_without_its_mark(self) -> None:
        """Of each party's writes, as many as one likes survive a crash: the batch is gone, or marked, or unused."""
        stores = {"pool": Deferred(), "batch": Deferred()}
        server = server_of(store=stores["batch"])
        client = client_of(server, store=stores["pool"])
        pair = Pair(server, client, server.open(client.evaluation_keys()))

        def answered(exchange: Any) -> None:
            message = exchange._message  # nothing is acknowledged: all writes of the test stay pending
            with pytest.raises(NotDurable):
                pair.session.answer(message)
            exchange.receive(pair.session._held[exchange._id].answer)

        answered(client.prepare("q", 3))
        unused = {kind: len(store.pending()) for kind, store in stores.items()}
        for _ in range(3):
            answered(client.begin("q", x_of(1)))
        marks = {"pool": "mark", "batch": "used"}
        for kind, store in stores.items():
            writes = store.pending()
            assert [write.key.split(".")[0] for write in writes[unused[kind] :]] == [marks[kind], kind, marks[kind]]
            for count in range(unused[kind] + 1, len(writes) + 1):
                survived = MemoryStore()
                survived.put_many(writes[:count])
                assert not survived.names(f"{kind}.") or survived.names(f"{marks[kind]}.")

    def test_who_opens_a_store_later_puts_the_earlier_one_out(self, refused: Any) -> None:
        server, store = server_of(), MemoryStore()
        client = client_of(server, store=store)
        pair = Pair(server, client, server.open(client.evaluation_keys()))
        pair.prepare("q", 200)
        client.begin("q", x_of(1))
        later = client_of(server, store=store)
        later.__dict__["_sessions"] = client._sessions
        assert later.pools["q",].left == 200 - 64
        for each, start in ((client, 1), (later, 64)):
            (span,) = upload_of(each.begin("q", x_of(63)).message()).spans
            assert (span.start, span.count) == (start, 63)
        with refused(NotDurable, "Another party"):
            client.begin("q", x_of(1))


def test_a_client_goes_on_after_a_restart_with_its_keys_and_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_export, "SCRYPT_LOG_N", 14)
    server = server_of(store=MemoryStore())
    with DirectoryStore(tmp_path) as store:
        client = client_of(server, store=store)
        pair = Pair(server, client, server.open(client.evaluation_keys()))
        pair.prepare("q", 100)
        pair.delta("q", x_of(2))
        exported = client.export_keys("a passphrase")
    with DirectoryStore(tmp_path) as store:
        options = {"backend": BACKEND, "load_packing": MANAGER.load_packing, "store": store}
        restored = Client.restore(server.offer(), exported, "a passphrase", **options)
        assert restored.pools["q",].left == 100 - 2 - 63
        x = x_of(35, 1)
        np.testing.assert_array_equal(restored.delta("q", x, pair.session), integer_delta(MODULES["q"], x))
        assert [name.split(".")[0] for name in store.names("")] == ["owner"], "a batch that is used up is deleted"


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


def test_rows_are_drawn_by_their_number_alone_and_below_the_primes() -> None:
    primes = ((1 << 60) + (1 << 59), 97)  # of the first, a third of all words is beyond its last multiple
    seed = bytes(range(32))
    together = modular.drawn(seed, range(50), primes, 7)
    apart = [modular.drawn(seed, [row], primes, 7) for row in range(50)]
    np.testing.assert_array_equal(together, np.concatenate(apart, axis=1))
    assert all((rows < np.uint64(prime)).all() for rows, prime in zip(together, primes, strict=True))
    assert not np.array_equal(together, modular.drawn(bytes(32), range(50), primes, 7))


@given(data=st.data())
def test_products_modulo_a_prime_are_exact(data: st.DataObject) -> None:
    prime = data.draw(st.sampled_from([1152921504606830593, 1125899906826241, 65537]))
    bits = data.draw(st.integers(1, 50))
    matrix = data.draw(arrays.arrays(np.int64, (3, 4), elements=st.integers(-(1 << bits), 1 << bits)))
    values = data.draw(arrays.arrays(np.uint64, (1, 2, 4), elements=st.integers(0, prime - 1)))
    mask = np.zeros((1, 2, 3), dtype=np.uint64)
    found = modular.answered((matrix,), values, mask, [prime])
    exact = values[0].astype(object) @ matrix.T.astype(object) % prime
    assert found[0].tolist() == exact.tolist()
