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

from helora_core.adapter.lora import LoRAModule
from helora_core.adapter.synthetic import synthetic_module
from helora_core.artifact.read import read_artifact
from helora_core.artifact.write import write_artifact
from helora_core.backend import envelope
from helora_core.backend.envelope import PayloadKind
from helora_core.compiler.compiled import CompiledModule
from helora_core.compiler.rounds import Phase, RoundKind, counts_of
from helora_core.errors import (
    CorrelationUsed,
    CorruptPayload,
    InvalidInput,
    LeakageRefused,
    LimitExceeded,
)
from helora_core.host.manager import get_manager
from helora_core.parties.client import Client
from helora_core.parties.messages import MaskedDownload, Span, decode
from helora_core.parties.prepared import MaskedRequest
from helora_core.parties.server import Server
from helora_core.parties.store import MemoryStore, Ticket
from helora_numpy.backend import NumPyBackend
from tests.parties.ahead import ASSUME, EXACT, TRIMMED, integer_delta, prepared, prepared_module, unit
from tests.parties.pair import MODULES, SHAPE, Pair, altered, client_of, server_of, through, upload_of, x_of


class FailsHalfway(NumPyBackend):
    """A backend whose second answer of a message fails."""

    calls = 0

    def online_weights(self, matrices: Any) -> Any:
        weights, backend = super().online_weights(matrices), self

        class Weights:
            def answer(self, y: bytes, masks: Any, top_bits: int) -> bytes:
                backend.calls += 1
                if backend.calls == 2:
                    raise RuntimeError("halfway")
                return weights.answer(y, masks, top_bits)

        return Weights()


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair.of()


EXTREME = st.one_of(
    arrays.arrays(np.float64, (3, SHAPE.d_in), elements=st.floats(-1e300, 1e300, allow_subnormal=True)),
    st.integers(0, 99).map(lambda seed: x_of(3, seed)),
    st.sampled_from([np.zeros((3, 4)), np.ones((3, 4)), np.eye(4)[:3] * 2.0**900, -np.full((3, 4), 2.0**-1060)]),
)


def filled(pair: Pair, names: tuple[str, ...], correlations: int) -> None:
    """A pool for these modules with as many correlations, or more."""
    level = pair.client.pools.get(names)
    if level is None or level.left < correlations:
        pair.prepare(list(names), 1000)


class TestDelta:
    @given(x=EXTREME, names=st.sampled_from([("q",), ("v",), ("v", "q")]))
    def test_in_exact_mode_it_is_the_lora_in_integers(self, pair: Pair, x: Any, names: tuple[str, ...]) -> None:
        filled(pair, ("q", "v"), 3)
        request = through(pair.client.begin(names, x), pair.session)
        for name in names:
            np.testing.assert_array_equal(request.deltas[name], integer_delta(MODULES[name], x))
            self.is_within_its_bound(request, name, x)

    @given(x=EXTREME)
    def test_otherwise_it_is_within_the_trim(self, pair: Pair, x: Any) -> None:
        filled(pair, ("trimmed",), 3)
        request = through(pair.client.begin("trimmed", x), pair.session)
        off = np.abs(request.delta - integer_delta(MODULES["trimmed"], x))
        assert (off <= 2 * unit(MODULES["trimmed"], x)).all()
        self.is_within_its_bound(request, "trimmed", x)

    def is_within_its_bound(self, request: Any, name: str, x: Any) -> None:
        exact = MODULES[name].module.reference_delta(x)  # type: ignore[union-attr]
        smallest = 8 * np.finfo(np.float64).smallest_subnormal  # the reference's own rounding, next to zero
        off = np.max(np.abs(request.deltas[name] - exact), axis=1)
        assert (off <= request.error_bounds[name] + smallest).all()

    def test_the_trim_is_not_biased(self, pair: Pair) -> None:
        """Over many tokens what it adds cancels out: two divisions that round down take one unit off, which is added
        again."""
        x = x_of(4000, 5)
        filled(pair, ("trimmed",), len(x))
        pair.prepare("trimmed", len(x))
        off = (pair.delta("trimmed", x) - integer_delta(MODULES["trimmed"], x)) / unit(MODULES["trimmed"], x)
        deviation = off.std() / np.sqrt(off.size)
        assert 0.2 < off.std() < 1
        assert abs(off.mean()) < 5 * deviation
        pair.client.discard("trimmed")

    def test_tokens_beyond_a_batch(self) -> None:
        pair = Pair.of()
        pair.prepare("q", 8200)  # two batches
        pair.prepare("q", 10)
        assert pair.client.pools["q",].left == 8210
        for tokens in (4090, 4090, 19, 10):  # the third is of the first batch, the second, and what came later
            x = x_of(tokens, tokens)
            np.testing.assert_array_equal(pair.delta("q", x), integer_delta(MODULES["q"], x))
        assert pair.client.pools["q",].left == pair.session.correlations == 1

    @pytest.mark.parametrize("packing", [EXACT, TRIMMED])
    def test_dead_modules_features_and_rows_cost_nothing(self, packing: str) -> None:
        module = synthetic_module(SHAPE, seed=3, name="sparse")
        down, up = module.down.copy(), module.up.copy()
        down[:, 2], up[1] = 0.0, 0.0
        modules = {
            name: prepared(LoRAModule(name, down, up * factor, 1.0), packing)
            for name, factor in (("sparse", 1.0), ("dead", 0.0))
        }
        server = server_of(modules)
        client = client_of(server)
        pair = Pair(server, client, server.open(client.evaluation_keys()))
        pair.prepare("sparse", 3)
        x = x_of(2)
        request = client.begin(["sparse", "dead"], x)
        assert len(upload_of(request.message()).numbers) == 2 * 3 * 8
        through(request, pair.session)
        off = np.abs(request.deltas["sparse"] - integer_delta(modules["sparse"], x))
        assert (off <= (0 if packing == EXACT else 2) * unit(modules["sparse"], x)).all()
        assert not request.deltas["dead"].any()
        with pytest.raises(InvalidInput, match="nothing to prepare"):
            client.prepare("dead", 1)


class TestMessages:
    def test_what_is_sent_is_uniform_whatever_x_is(self, pair: Pair) -> None:
        """y of extreme x by fresh correlations: in each sixteenth of a word's range about as often as in any."""
        for x in (np.zeros((2000, 4)), np.full((2000, 4), 1e9), np.eye(4)[np.zeros(2000, dtype=int)]):
            pair.prepare("q", 2000)
            upload = upload_of(pair.client.begin("q", x).message())
            y = np.frombuffer(upload.numbers, dtype="<u8")
            counts = np.bincount((y >> np.uint64(60)).astype(np.int64), minlength=16)
            chi2 = float(((counts - counts.mean()) ** 2 / counts.mean()).sum())
            assert chi2 < 60, "15 degrees of freedom: 60 comes once in a million times"
            pair.client.discard("q")

    def test_masks_of_modules_and_places_differ(self, pair: Pair) -> None:
        """For y = 0 the server's answer is its mask alone."""
        pair.prepare(["q", "v"], 10)
        request = pair.client.begin(["q", "v"], x_of(10))
        zero = bytes(len(upload_of(request.message()).numbers))
        answer = pair.session.answer(altered(request.message(), numbers=zero))
        download = envelope.opened(PayloadKind.MASKED_DOWNLOAD, None, answer).payload
        numbers = np.frombuffer(b"".join(decode(download, MaskedDownload).results), dtype="<u8")
        assert len(set(numbers.tolist())) == numbers.size == 2 * 10 * SHAPE.d_out

    def test_a_retry_is_answered_alike_and_another_y_is_not(self, pair: Pair, refused: Any) -> None:
        pair.prepare("q", 4)
        request = pair.client.begin("q", x_of(2))
        message = request.message()
        answer = pair.session.answer(message)
        assert pair.session.answer(message) == answer
        y = upload_of(message).numbers
        with refused(CorrelationUsed, "used", hint="Begin the request again"):
            pair.session.answer(altered(message, numbers=bytes([y[0] ^ 1]) + y[1:]))
        assert pair.session.answer(message) == answer
        request.receive(answer)
        pair.client.discard("q")

    def test_a_second_session_of_the_same_client_knows_what_is_used(self, pair: Pair, refused: Any) -> None:
        pair.prepare("q", 2)
        request = pair.client.begin("q", x_of(1))
        second = pair.server.open(pair.client.evaluation_keys())
        second.answer(request.message())
        with refused(CorrelationUsed):
            pair.session.answer(request.message())
        pair.client.discard("q")

    def test_no_mask_is_lost_to_a_library_that_fails(self, refused: Any) -> None:
        """Masks that were made are overwritten when they were used; what fails halfway has to get them again."""
        backend = FailsHalfway()
        server = Server(MODULES, backend, assume=ASSUME)
        client = Client(server.offer(), backend=backend)
        pair = Pair(server, client, server.open(client.evaluation_keys()))
        pair.prepare(["q", "v"], 20)
        for tokens in (1, 1, 3, 1):
            x = x_of(tokens, tokens)
            request = client.begin(["q", "v"], x)
            backend.calls = 0
            with pytest.raises(RuntimeError, match="halfway"):
                pair.session.answer(request.message())
            through(request, pair.session)
            for name in ("q", "v"):
                np.testing.assert_array_equal(request.deltas[name], integer_delta(MODULES[name], x))

    def test_pads_are_overwritten_when_they_were_used(self, pair: Pair) -> None:
        pair.prepare("q", 4)
        client = pair.client
        route = client._route(("q",), 2)
        tokens, taken = route.tokens(x_of(2)), route.pools.take(route.digests, 2)  # type: ignore[union-attr]
        assert taken.pads.all()
        MaskedRequest(route, tokens, taken=taken, ticket=Ticket(None))  # type: ignore[arg-type]
        assert not taken.pads.any()
        client.discard("q")

    def test_an_answer_is_not_as_long_as_the_client_likes(self, pair: Pair, refused: Any) -> None:
        pair.prepare("q", 2)
        message, left = pair.client.begin("q", x_of(1)).message(), pair.session.correlations
        for modules in ((0, 0), (0,) * 60_000):
            with refused(CorruptPayload, "twice"):
                pair.session.answer(altered(message, modules=modules))
        assert pair.session.correlations == left
        pair.client.discard("q")

    def test_correlations_of_one_module_do_not_answer_for_another(self, pair: Pair, refused: Any) -> None:
        """They were counted as queries of the module that they were made for."""
        for name in ("q", "v"):
            pair.prepare(name, 2)
        messages = [pair.client.begin(name, x_of(1)).message() for name in ("q", "v")]
        uploads, left = [upload_of(each) for each in messages], pair.session.correlations
        spans, numbers = uploads[0].spans + uploads[1].spans, uploads[0].numbers + uploads[1].numbers
        with refused(CorrelationUsed, "different modules"):
            pair.session.answer(altered(messages[0], spans=spans, numbers=numbers))
        assert pair.session.correlations == left
        for name in ("q", "v"):
            pair.client.discard(name)

    def test_many_single_correlations_do_not_hold_up_who_answers_at_once(self, pair: Pair) -> None:
        pair.prepare("q", 64)
        message = pair.client.begin("q", x_of(1)).message()
        (span,) = upload_of(message).spans
        pair.session.answer(message)  # what is named is ready from here on
        free = [place for place in range(64) if place != span.start]
        many = altered(message, spans=tuple(Span(span.batch, place, 1) for place in free), numbers=b"")
        assert pair.session.answer_at_once(many) is None
        pair.client.discard("q")

    def test_what_does_not_fit_is_refused_and_uses_nothing(self, pair: Pair, refused: Any) -> None:
        pair.prepare("q", 4)
        request = pair.client.begin("q", x_of(2))
        message, left = request.message(), pair.session.correlations
        (span,), y = upload_of(message).spans, upload_of(message).numbers
        batch, start = span.batch, span.start
        for changes, kind in (
            ({"spans": (Span(bytes(16), 0, 2),)}, CorrelationUsed),
            ({"spans": (Span(batch, 3, 2),)}, CorrelationUsed),
            ({"spans": (Span(batch, 1 << 31, 2),)}, CorrelationUsed),
            ({"spans": (Span(batch, start, 1),) * 2}, CorrelationUsed),
            ({"spans": (Span(batch, start, 2), Span(batch, start + 1, 1))}, CorrelationUsed),
            ({"spans": (Span(batch, start, 1),)}, CorruptPayload),
            ({"spans": (Span(batch, start, 3),)}, CorruptPayload),
            ({"spans": (Span(batch, start, 1 << 31),)}, LimitExceeded),
            ({"spans": ()}, CorruptPayload),
            ({"modules": (1,)}, CorrelationUsed),
            ({"modules": ()}, CorruptPayload),
            ({"numbers": y[:-8]}, CorruptPayload),
            ({"numbers": y + y}, CorruptPayload),
            ({"numbers": b""}, CorruptPayload),
        ):
            with refused(kind):
                pair.session.answer(altered(message, **changes))
        assert pair.session.correlations == left
        request.receive(pair.session.answer(message))
        pair.client.discard("q")


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
        assert (ahead.phase, ahead.correlations, ahead.round_trips) == (Phase.OFFLINE, 8193, 6)
        assert (online.phase, online.correlations, online.round_trips) == (Phase.ONLINE, 3, 1)
        assert 3 * 32 < online.bytes_up < 3 * 32 + 400
        assert 3 * 24 < online.bytes_down < 3 * 24 + 400
        pair.client.discard("q")

    def test_the_plan_shows_both_where_there_are_two(self) -> None:
        shown = MODULES["q"].plan.to_dict()["phases"]
        assert shown["offline"]["correlations"] == MODULES["q"].plan.tokens_per_run
        assert shown["online"]["bytes_up_per_token"] == 8 * SHAPE.d_in
        assert shown["online"]["bytes_down_per_token"] == 8 * SHAPE.d_out
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
    with refused(CorrelationUsed, "as they are served now", hint="prepare again"):
        session.answer(client.begin("q", x_of(1)).message())


def test_a_server_without_the_adapter_does_the_same(tmp_path: Path) -> None:
    write_artifact(tmp_path / "served", [MODULES["q"]])
    (stored,) = read_artifact(tmp_path / "served", get_manager().load_packing, assume=ASSUME).modules
    modules = {"q": CompiledModule(stored, stored.parts, stored.plan.with_exponent(stored.exponent))}
    server = server_of(modules)
    client = client_of(server)
    pair = Pair(server, client, server.open(client.evaluation_keys()))
    pair.prepare("q", 3)
    np.testing.assert_array_equal(pair.delta("q", x_of(3)), integer_delta(MODULES["q"], x_of(3)))


def test_no_server_serves_them_unless_honest_keys_are_accepted(refused: Any) -> None:
    with refused(LeakageRefused, "forged key", hint="--assume honest-keys"):
        server_of({"q": MODULES["q"]}, assume=())
