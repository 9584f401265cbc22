"""Whatever happens to whichever frame, each request is answered once, with the right Δ, and computed once."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from helora_core.errors import ConnectionLost

REQUESTS = 3
FRAMES = range(REQUESTS + 1)  # the first is open, or the welcome
KINDS = ("KILL", "TRUNCATE", "DELAY", "DUPLICATE", "REORDER", "DROP")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_one_fault_at_any_frame(serving: Any, relayed: Any, world: Any, silence: Any, kind: str, up: bool) -> None:
    served = serving(credits=REQUESTS)

    def happens_to(frame: int, silent_s: float) -> bool:
        if kind == "DROP":
            silence(silent_s)
        before = served.computed
        relay = relayed(served.host.port, (kind, up, frame, 0))
        client, session = served.session(relay.url)
        with ThreadPoolExecutor(REQUESTS) as threads:  # at once, so that there is something to reorder
            xs = [world.x(1, seed) for seed in range(REQUESTS)]
            results = list(threads.map(partial(client.run, "q", link=session), xs))
        assert all(world.right(result, x) for result, x in zip(results, xs, strict=True))
        assert served.computed - before == REQUESTS, f"{kind} of frame {frame}"
        session.close()
        return bool(relay.happened)

    for frame in FRAMES:  # on a machine that is slow for a moment, the client may start anew before that frame
        assert any(happens_to(frame, silent_s) for silent_s in (0.2, 2, 20)), f"{kind} of frame {frame}"


def test_a_socket_that_is_cut_again_and_again(serving: Any, relayed: Any, world: Any) -> None:
    served = serving()
    cuts = [("KILL", up, frame, number) for number, (up, frame) in enumerate([(True, 1), (False, 1)] * 8)]
    relay = relayed(served.host.port, *cuts)
    client, session = served.session(relay.url)
    for seed in range(20):
        assert world.right(client.run("q", world.x(2, seed), session), world.x(2, seed))
    assert session.reconnects >= len(cuts)
    assert served.computed == 20
    assert served.metric("helora_sessions_opened_total") == 1


def test_two_rounds_survive_a_cut_between_them(serving: Any, relayed: Any, world: Any) -> None:
    served = serving(world.lora("numpy", "cheetah_two_round"))
    for up, frame in itertools.product((True, False), (1, 2)):
        relay = relayed(served.host.port, ("KILL", up, frame, 0))
        client, session = served.session(relay.url)
        assert world.right(client.run("q", world.x(2), session), world.x(2))
        session.close()


def test_others_go_on_while_one_takes_nothing(serving: Any, world: Any) -> None:
    """A client that asks and reads nothing fills its window, and holds up no other one."""
    import socket

    served = serving(window_bytes=1 << 20, stall_s=600)  # the slow one stays for as long as this takes
    slow_client, slow = served.session()
    messages = [slow_client.begin("q", world.x(1)).message() for _ in range(8)]
    slow._wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for number, message in enumerate(messages, 1):
        slow._asked = number
        slow._send(number, message)
    client, session = served.session()
    for seed in range(10):
        assert world.right(client.run("q", world.x(1, seed), session), world.x(1, seed))
    (of_slow,) = [each for each in served.service.sessions.all if each.name == slow._name]
    assert of_slow.socket is not None
    assert of_slow.exchange.window_bytes <= (1 << 20) + max(map(len, messages))


def test_a_server_that_is_gone_is_given_up_in_time(
    serving: Any, relayed: Any, world: Any, refused: Any, unreachable: Any
) -> None:
    served = serving()
    relay = relayed(served.host.port)
    client, session = served.session(relay.url)
    client.delta("q", world.x(1), session)
    session._timeout = 0.5  # not before: on a slow machine the server is silent for as long while it is there
    relay.port = 1
    relay.cut()
    with refused(ConnectionLost, "for 0.5 seconds"):
        client.delta("q", world.x(1), session)
    unreachable()
    with pytest.raises(ConnectionLost):  # and at once from now on
        client.delta("q", world.x(1), session)


def test_a_forgotten_session_is_opened_anew(serving: Any, world: Any) -> None:
    """Idle for longer than the server remembers: keys are there, and the next request finds a new session."""
    served = serving()
    client, session = served.session()
    client.delta("q", world.x(1), session)
    opened = served.metric("helora_sessions_opened_total")
    served.later(served.service.limits.ttl_s + 1)
    assert not len(served.service.sessions)
    assert world.right(client.run("q", world.x(1), session), world.x(1))
    assert served.metric("helora_sessions_opened_total") > opened
    assert served.metric("helora_key_uploads_total") == 1


def test_a_second_socket_takes_the_session_over(serving: Any, world: Any) -> None:
    served = serving()
    client, session = served.session()
    client.delta("q", world.x(1), session)
    half_open, session._wire = session._wire, None  # the server does not know that it is gone
    assert world.right(client.run("q", world.x(1), session), world.x(1))
    half_open.close()
    assert world.right(client.run("q", world.x(1), session), world.x(1))
    assert served.metric("helora_sessions") == 1
