"""Client and server: Δ, what is shared, what is refused, and what passes between them."""

from __future__ import annotations

import asyncio
import gc
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import ModuleShape
from helora_core.backend import envelope
from helora_core.backend.checked_backend import checked
from helora_core.backend.envelope import PayloadKind
from helora_core.errors import (
    CorruptPayload,
    ForeignCiphertext,
    HeloraError,
    InsecureParameters,
    InvalidInput,
    LeakageRefused,
    LimitExceeded,
    UnexpectedMessage,
)
from helora_core.host.manager import get_manager
from helora_core.params.presets import FAST
from helora_core.parties.client import Client
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.parties.limits import ServerLimits
from helora_core.parties.messages import Upload, decode
from helora_core.parties.server import Server
from helora_core.parties.session import Session
from tests.conftest import examples
from tests.parties.conftest import SHAPE, compiled, x_of
from tests.parties.pair import altered

ALIVE = ("layer.q_proj", "layer.v_proj", "layer.two_rounds")


def reference(lora: CompiledLoRA, name: str, x: Any) -> Any:
    (module,) = (each.module for each in lora.modules if each.name == name)
    return module.reference_delta(x)  # type: ignore[union-attr]


def finished(request: Any, session: Session) -> Any:
    while not request.done:
        request.receive(session.answer(request.message()))
    return request


def served(lora: CompiledLoRA, **limits: Any) -> tuple[Client, Session]:
    server = lora.server(limits=ServerLimits(**limits))
    client = lora.client(server.offer())
    return client, server.open(client.evaluation_keys())


@pytest.fixture(scope="module")
def pair(lora: CompiledLoRA) -> tuple[Client, Session]:
    return lora.open()


class TestDelta:
    @pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of the fixture
    @examples(6)
    @given(name=st.sampled_from(ALIVE), tokens=st.integers(1, 3), seed=st.integers(0, 99))
    def test_it_is_the_adapters_within_the_bound(self, lora: Any, pair: Any, name: str, tokens: int, seed: int) -> None:
        client, session = pair
        x = x_of(tokens, seed)
        request = finished(client.begin(name, x), session)
        errors = np.max(np.abs(request.delta - reference(lora, name, x)), axis=1)
        assert (errors <= request.error_bounds[name]).all()
        plan = client.plans[name]
        assert request.report.executed == plan.counts.times(plan.runs(tokens))
        assert request.report.round_trips == len(plan.rounds)
        again = client.delta(name, x, session)
        assert (np.max(np.abs(again - request.delta), axis=1) <= 2 * request.error_bounds[name]).all()

    def test_an_ending_names_a_module_and_an_ambiguous_one_none(self, pair: Any, refused: Any) -> None:
        client, session = pair
        assert client.delta("q_proj", x_of(1), session).shape == (1, SHAPE.d_out)
        with refused(InvalidInput, "no module matches 'o_proj'"):
            client.begin("o_proj", x_of(1))

    def test_a_backend_that_prepares_nothing_says_so(self, pair: Any) -> None:
        assert pair[1].prepare(3) == 0

    def test_a_dead_module_needs_nobody(self, pair: Any) -> None:
        client, _ = pair
        request = client.begin("layer.dead", x_of(3))
        assert request.done
        assert not request.delta.any()
        assert request.report.round_trips == request.report.bytes_up == 0

    def test_many_tokens_go_in_messages_that_the_server_reads(self, lora: Any) -> None:
        client, session = served(lora, message_bytes=500_000)
        sent = []

        class Listening:
            def answer(self, message: bytes) -> bytes:
                sent.append(len(message))
                return session.answer(message)

        plan = client.plans["layer.q_proj"]
        x = x_of(3 * plan.tokens_per_run + 1)
        told: list[int] = []
        result = client.run("layer.q_proj", x, Listening(), on_tokens=told.append)
        assert np.max(np.abs(result.delta - reference(lora, "layer.q_proj", x))) < 1e-2
        assert len(sent) > 1
        assert max(sent) <= 500_000
        assert sum(told) == len(x)
        assert result.report.executed == plan.counts.times(4)

    def test_an_answer_may_be_as_long_as_what_was_asked_for(
        self, pair: Any, refused: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And no longer. Messages that nobody asked for have a limit of their own."""
        monkeypatch.setattr("helora_core.parties.request.MOST_MESSAGE_BYTES", 1)
        client, session = pair
        request = client.begin("layer.q_proj", x_of(2 * client.plans["layer.q_proj"].tokens_per_run))
        answer = session.answer(request.message())
        with refused(CorruptPayload, "bytes"):
            request.receive(answer + bytes(4 * len(answer) + (4 << 20)))
        request.receive(answer)
        assert request.done

    def test_stated_activations_are_refused_before_any_key(self, lora: Any, refused: Any) -> None:
        client = lora.client(lora.server().offer())
        for x in (np.ones((1, 5)), np.ones(SHAPE.d_in), np.full((1, SHAPE.d_in), np.nan), np.ones((0, SHAPE.d_in))):
            with refused(InvalidInput, "activations"):
                client.delta("q_proj", x, None)  # type: ignore[arg-type]


class TestSharing:
    def test_one_encrypted_input_serves_all_modules_that_take_it(self, lora: Any, pair: Any) -> None:
        client, session = pair
        x = x_of(2)
        names = ["layer.q_proj", "layer.v_proj", "layer.dead"]
        request = finished(client.begin(names, x), session)
        for name in names:
            np.testing.assert_allclose(request.deltas[name], reference(lora, name, x), atol=1e-2)
        assert request.report.executed.encrypts == client.plans["layer.q_proj"].counts.encrypts
        assert request.report.executed.rotations == 2 * client.plans["layer.q_proj"].counts.rotations
        assert request.delta.shape == (2, 3 * SHAPE.d_out)

    def test_modules_of_other_inputs_are_refused_on_both_sides(self, lora: Any, pair: Any, refused: Any) -> None:
        client, _ = pair
        with refused(InvalidInput, "do not take the same ciphertexts", hint="one by one"):
            client.begin(["q_proj", "two_rounds"], x_of(1))

    def test_equal_signatures_are_those_of_equal_packed_inputs(self) -> None:
        plans = [
            compiled("m", packing, 1, ModuleShape.parse(shape), private_weights=False).plan
            for packing, shape in (("rank_bsgs", "24:20:3"), ("rank_bsgs", "24:20:4"), ("cheetah", "24:20:3"))
        ]
        again = compiled("other", "rank_bsgs", 5, private_weights=False).plan
        assert again.input_signature == plans[0].input_signature
        assert plans[2].input_signature != plans[0].input_signature

    def test_weights_are_encoded_once_for_all_sessions(self, lora: Any) -> None:
        server = lora.server()
        held = []
        for _ in range(3):
            client = lora.client(server.offer())
            session = server.open(client.evaluation_keys())
            client.delta("q_proj", x_of(1), session)
            held.append((server.served.constants.bytes_held, session))
        assert held[0][0] == held[-1][0] > 0


class TestDoors:
    def test_weights_are_private_unless_said_otherwise(self, refused: Any) -> None:
        shown = compiled("m", "zero_moai", 1, private_weights=False)
        backend = get_manager().load_backend("numpy")
        with refused(LeakageRefused, "zero_moai"):
            Server({"m": shown}, backend)
        with refused(LeakageRefused, "in the clear", hint="adapter's owner"):
            Client(Server({"m": shown}, backend, private_weights=False).offer())
        lora = CompiledLoRA((shown,), backend, secure=False, private_weights=False)
        client, session = lora.open()
        np.testing.assert_allclose(client.delta("m", x_of(1), session), reference(lora, "m", x_of(1)), atol=1e-2)

    def test_a_client_insists_on_its_own_security(self, lora: Any, refused: Any) -> None:
        plan = compiled("m", "rank_bsgs", 1, params=FAST)
        offer = Server({"m": plan}, lora.backend).offer()
        with refused(InsecureParameters):
            Client(offer, security_bits=256)

    def test_a_backend_behind_cores_checks_is_the_same_backend(self, lora: Any) -> None:
        backend = checked(lora.backend)
        server = Server({each.name: each for each in lora.modules}, backend)
        assert server.offer() == lora.server().offer()
        client = Client(server.offer(), backend=backend)
        assert client.delta("q_proj", x_of(1), server.open(client.evaluation_keys())).shape == (1, SHAPE.d_out)

    def test_a_server_serves_something(self, lora: Any, refused: Any) -> None:
        with refused(InvalidInput, "no modules"):
            Server({}, lora.backend)

    def test_no_more_sessions_than_allowed_and_closing_makes_room(self, lora: Any, refused: Any) -> None:
        server = lora.server(limits=ServerLimits(sessions=1))
        client = lora.client(server.offer())
        session = server.open(client.evaluation_keys())
        with refused(LimitExceeded, "1 sessions", hint="close"):
            server.open(client.evaluation_keys())
        session.close()
        with refused(ForeignCiphertext, "closed"):
            session.answer(client.begin("q_proj", x_of(1)).message())
        again = server.open(client.evaluation_keys())
        assert client.delta("q_proj", x_of(1), again).shape == (1, SHAPE.d_out)
        del again
        gc.collect()
        server.open(client.evaluation_keys())  # a session that nobody holds is open no more

    def test_neither_party_can_be_pickled_or_holds_the_other(self, pair: Any) -> None:
        for party in pair:
            with pytest.raises(HeloraError, match="neither pickled nor copied"):
                pickle.dumps(party)


class TestDeviatingClients:
    def test_what_does_not_fit_the_plan_is_refused_and_the_request_goes_on(self, lora: Any, refused: Any) -> None:
        client, session = served(lora)
        request = client.begin("two_rounds", x_of(1))
        message = request.message()
        sent = decode(envelope.opened(PayloadKind.UPLOAD, None, message).payload, Upload).ciphertexts
        for wrong in ((), ((),), sent * 2, (sent[0] * 2,)):
            with refused(CorruptPayload, "does not hold the ciphertexts"):
                session.answer(altered(message, ciphertexts=wrong))
        for changes, kind in (
            ({"modules": ()}, InvalidInput),
            ({"modules": ("layer.two_rounds",) * 2}, InvalidInput),
            ({"modules": ("nothing",)}, InvalidInput),
            ({"modules": ("layer.two_rounds", "layer.q_proj")}, InvalidInput),
            ({"modules": ("layer.q_proj",)}, InvalidInput),  # which has another plan
            ({"plans": ()}, InvalidInput),
            # of other parameters than these keys'
            ({"modules": ("layer.q_proj",), "plans": (lora.modules[0].plan.digest,)}, ForeignCiphertext),
            ({"tokens": 0}, LimitExceeded),
            ({"tokens": 1 << 30}, LimitExceeded),
            ({"number": 1}, UnexpectedMessage),
        ):
            with refused(kind):
                session.answer(altered(message, **changes))
        assert session.requests == 0
        request.receive(session.answer(message))
        answer = request.message()
        for changes in ({"ciphertexts": ()}, {"ciphertexts": sent * 2}):
            with refused(CorruptPayload, "does not hold the ciphertexts"):
                session.answer(altered(answer, **changes))
        for changes in ({"follows": bytes(32)}, {"number": 2}, {"tokens": 2}, {"modules": ("layer.q_proj",)}):
            with refused(UnexpectedMessage):
                session.answer(altered(answer, **changes))
        request.receive(session.answer(answer))
        np.testing.assert_allclose(request.delta, reference(lora, "layer.two_rounds", x_of(1)), atol=1e-2)

    def test_masks_of_requests_that_nobody_goes_on_with_are_bounded(self, lora: Any, refused: Any) -> None:
        client, session = served(lora, kept_bytes=1_000_000)
        with refused(LimitExceeded, "in flight hold", hint="Finish"):
            for _ in range(64):
                session.answer(client.begin("two_rounds", x_of(1)).message())
        assert 1 < session.requests < 20


def test_many_requests_interleave_on_streams_of_one_process(lora: CompiledLoRA) -> None:
    """Two sessions and three modules over asyncio streams; nothing in core waits or has a thread."""

    async def carried(reader: asyncio.StreamReader) -> bytes:
        return await reader.readexactly(int.from_bytes(await reader.readexactly(8), "big"))

    async def serve(session: Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                message = await carried(reader)
            except asyncio.IncompleteReadError:
                writer.close()
                return
            answer = session.answer(message)
            await asyncio.sleep(0)
            writer.write(len(answer).to_bytes(8, "big") + answer)
            await writer.drain()

    async def ask(client: Client, name: str, port: int, seed: int) -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = client.begin(name, x_of(1, seed))
        while not request.done:
            message = request.message()
            writer.write(len(message).to_bytes(8, "big") + message)
            await writer.drain()
            request.receive(await carried(reader))
        writer.close()
        await writer.wait_closed()
        return float(np.max(np.abs(request.delta - reference(lora, name, x_of(1, seed)))))

    async def everything() -> list[float]:
        server = lora.server(limits=ServerLimits(requests=100))
        clients = [lora.client(server.offer()) for _ in range(2)]
        ports, listening = [], []
        for client in clients:
            session = server.open(client.evaluation_keys())

            async def serving(r: Any, w: Any, session: Session = session) -> None:
                await serve(session, r, w)

            listening.append(await asyncio.start_server(serving, "127.0.0.1", 0, limit=1 << 24))
            ports.append(listening[-1].sockets[0].getsockname()[1])
        asked = [ask(clients[i % 2], ALIVE[i % 3], ports[i % 2], i) for i in range(100)]
        errors = await asyncio.gather(*asked)
        for each in listening:
            each.close()
        return errors

    assert max(asyncio.run(everything())) < 1e-2


def test_unfinished_requests_say_so(pair: Any, refused: Any) -> None:
    client, session = pair
    request = client.begin("q_proj", x_of(1))
    with refused(UnexpectedMessage, "not ready yet"):
        _ = request.delta
    finished(request, session)
    with refused(UnexpectedMessage, "done"):
        request.message()


def test_an_answer_to_masks_that_were_forgotten_is_refused(lora: CompiledLoRA, refused: Any) -> None:
    """The first message comes again when the request is forgotten: a new request, under the same name."""
    now = [0.0]
    server = Server({each.name: each for each in lora.modules}, lora.backend, clock=lambda: now[0])
    client = lora.client(server.offer())
    session = server.open(client.evaluation_keys())
    request = client.begin("two_rounds", x_of(1))
    first = request.message()
    request.receive(session.answer(first))
    now[0] += 2 * server.limits.idle_s
    session.answer(first)
    with refused(UnexpectedMessage, "follows another answer", hint="begin the request again"):
        session.answer(request.message())
