"""Answers that are given at once: the same bytes as otherwise, and nothing that waits, writes or takes long."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from helora_core.errors import CorrelationUsed
from helora_core.parties import batches as batches_module
from helora_core.parties.store import MemoryStore
from tests.parties.ahead import integer_delta
from tests.parties.pair import MODULES, SHAPE, Pair, x_of


def ready(**options: Any) -> Pair:
    """A pair whose modules are ready to be asked for."""
    pair = Pair.of(**options)
    pair.prepare(["q", "v"], 500)
    pair.delta("q", x_of(1))
    return pair


def test_it_is_the_answer_and_again_the_same_bytes() -> None:
    pair = ready()
    for seed in range(5):
        x = x_of(1 + seed, seed)
        request = pair.client.begin("q", x)
        answer = pair.session.answer_at_once(request.message())
        assert answer is not None
        assert pair.session.answer_at_once(request.message()) == pair.session.answer(request.message()) == answer
        request.receive(answer)
        np.testing.assert_array_equal(request.deltas["q"], integer_delta(MODULES["q"], x))


def served_otherwise(pair: Pair, request: Any, module: str, x: Any) -> None:
    """It is not answered at once; nothing has changed, so that it is answered after all."""
    left = pair.session.correlations
    assert pair.session.answer_at_once(request.message()) is None
    assert pair.session.correlations == left
    request.receive(pair.session.answer(request.message()))
    np.testing.assert_array_equal(request.deltas[module], integer_delta(MODULES[module], x))


def test_ciphertexts_are_not() -> None:
    pair = Pair.of()
    assert pair.session.answer_at_once(pair.client.begin("online", x_of(1)).message()) is None


def test_what_has_to_be_made_ready_first_is_not() -> None:
    pair = ready()
    served_otherwise(pair, pair.client.begin("v", x_of(2)), "v", x_of(2))
    other = pair.server.open(pair.client.evaluation_keys())
    request = pair.client.begin("q", x_of(1))
    assert other.answer_at_once(request.message()) is None
    request.receive(other.answer(request.message()))


def test_what_takes_more_products_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = ready()
    products = SHAPE.d_in * SHAPE.rank + SHAPE.rank * SHAPE.d_out
    monkeypatch.setattr(batches_module, "AT_ONCE_PRODUCTS", 3 * products)
    assert pair.session.answer_at_once(pair.client.begin("q", x_of(3)).message()) is not None
    served_otherwise(pair, pair.client.begin("q", x_of(4)), "q", x_of(4))


def test_a_message_that_moves_the_durable_mark_is_not() -> None:
    pair = ready(store=MemoryStore())
    at_once = [pair.session.answer_at_once(pair.client.begin("q", x_of(1, seed)).message()) for seed in range(100)]
    waited = [place for place, answer in enumerate(at_once) if answer is None]
    assert waited == list(range(63, 100))  # nothing moved it: one of the first 64 was used before
    request = pair.client.begin("q", x_of(1))
    pair.session.answer(request.message())
    assert pair.session.answer_at_once(pair.client.begin("q", x_of(1)).message()) is not None


def test_nobody_else_is_waited_for() -> None:
    pair = ready()
    request, held, done = pair.client.begin("q", x_of(1)), threading.Event(), threading.Event()
    (shared,) = pair.session._batches.values()

    def hold() -> None:
        with shared.lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    assert pair.session.answer_at_once(request.message()) is None
    done.set()
    thread.join()
    served_once = pair.session.answer_at_once(request.message())
    assert served_once is not None


def test_a_used_correlation_is_refused_at_once(refused: Any) -> None:
    pair = ready()
    request = pair.client.begin("q", x_of(1))
    other = pair.server.open(pair.client.evaluation_keys())
    other.answer(request.message())
    with refused(CorrelationUsed):
        pair.session.answer_at_once(request.message())
