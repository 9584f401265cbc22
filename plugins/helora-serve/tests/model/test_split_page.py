"""The split page in headless Chromium, under its policy: what it answers, what it survives, and what it gives away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helora_serve.base.convert import convert
from helora_serve.capture import messages
from helora_serve.host import Host
from helora_serve.split.frames import Forward, decode_from_client, rows_of
from tests.harness.history.chromium import Chromium
from tests.loading import module_at

ASKED, MOST = "where is the lighthouse?", 12
FIRST = """(async () => {
  const {Split} = await import('/web/chat/split.js');
  globalThis.told = [];
  globalThis.own = new Split(message => told.push(message));
  await own.open({server: location.href, base: new URL('ends/', location.href).href, %s});
  await own.say(%r, %d);
  const {ids, done} = told.findLast(message => message.done);
  await own.eavesdropper.idle;
  const {recovered} = told.findLast(message => message.recovered);
  return {ids, done, recovered, ready: told.find(message => message.ready).ready};
})()"""
THEN = """(async () => {
  own.forget();
  await own.say(%r, 3);
  const again = told.findLast(message => message.done).ids, {reconnects, way} = own.link;
  own.close();
  return {again, reconnects, way};
})()"""


faults = module_at(Path(__file__).parents[1] / "faults.py")
Fault, FaultyRelay, Kind = faults.Fault, faults.FaultyRelay, faults.Kind


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Path:
    folder = tmp_path_factory.mktemp("split-page")
    convert(tiny.saved(folder / "model"), folder / "f32", weights="f32", part="ends")
    return folder


@pytest.fixture
def layers(folder: Path, tiny: Any, numpy_layers: Any) -> Any:
    return numpy_layers.NumpyLayers(tiny, folder / "model")


@pytest.fixture
def serve(serving: Any, folder: Path, layers: Any) -> Callable[..., Host]:
    """Starts a server with the page, and with its split mode unless that is not wanted."""

    def start(*, split: bool = True, ends: Path | None = folder / "f32", pages: Path | None = None, **how: Any) -> Host:
        host: Host = serving(layers=layers if split else None, host={"ends": ends, "pages": pages}, **how).host
        return host

    return start


def expected(tiny: Any, layers: Any, most: int = MOST) -> list[int]:
    """Greedy tokens of the unsplit model with the first adapter."""
    tokens: list[int] = tiny.answer_of(ASKED, most, layers.deltas["legal"])
    return tokens


def run(
    browser: Chromium, address: str, options: str = "", between: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """Two turns of a conversation, with what happens between them."""
    browser.open(f"{address}/split")
    browser.wait("document.getElementById('size').textContent !== ''")
    first: dict[str, Any] = browser.evaluate(FIRST % (options, ASKED, MOST))
    between()
    then: dict[str, Any] = browser.evaluate(THEN % ASKED)
    return first | then


@pytest.mark.parametrize("way", ["websocket", "http"])
def test_tokens_are_those_of_the_unsplit_model_and_the_server_can_read_them(
    browser: Chromium, serve: Any, tiny: Any, layers: Any, way: str
) -> None:
    found = run(browser, serve().url, f"sockets: {'true' if way == 'websocket' else 'false'}")
    assert found["ids"] == expected(tiny, layers) != tiny.answer_of(ASKED, MOST)  # the adapter matters
    assert found["again"] == found["ids"][:3]
    assert found["way"] == found["ready"]["way"] == way
    assert found["ready"]["mode"] == "split"
    prompt, recovered = tiny.prompt_of(ASKED), found["recovered"]
    # Of the last token nothing was sent.
    assert (recovered["right"], recovered["of"]) == (len(prompt) + MOST - 1,) * 2
    assert ASKED in recovered["text"]
    assert found["done"]["prompt"] == len(prompt)
    assert found["done"]["requests"] == MOST
    assert found["done"]["up"] > 4 * 64 * (len(prompt) + MOST - 1)
    assert browser.complaints == []


def test_the_base_model_alone_and_drawn_tokens_are_other_ones(browser: Chromium, serve: Any, tiny: Any) -> None:
    host = serve()
    assert run(browser, host.url, "adapter: null")["ids"] == tiny.answer_of(ASKED, MOST)
    drawn = run(browser, host.url, "adapter: null, temperature: 1.5")["ids"]
    assert drawn != tiny.answer_of(ASKED, MOST)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Kind.TRUNCATE, up=True, frame=2),
        Fault(Kind.TRUNCATE, up=False, frame=2),
        Fault(Kind.KILL, up=False, frame=1),
        Fault(Kind.KILL, up=False, frame=0),
        Fault(Kind.DUPLICATE, up=True, frame=3),
    ],
    ids=lambda fault: f"{fault.kind.name}-{'up' if fault.up else 'down'}-{fault.frame}",
)
def test_a_socket_that_is_cut_in_the_middle_of_a_token_changes_nothing(
    browser: Chromium, serve: Any, tiny: Any, layers: Any, fault: Any
) -> None:
    with FaultyRelay(serve().port, fault) as relay:
        found = run(browser, relay.url)
    assert relay.happened == [fault]
    assert found["ids"] == expected(tiny, layers)
    assert found["again"] == found["ids"][:3]


def test_where_no_socket_gets_through_requests_do(browser: Chromium, serve: Any, tiny: Any, layers: Any) -> None:
    with FaultyRelay(serve().port, sockets=False) as relay:
        found = run(browser, relay.url)
    assert found["way"] == "http"
    assert found["ids"] == expected(tiny, layers)
    assert relay.connections == 0


@pytest.mark.parametrize("sockets", ["true", "false"])
def test_a_session_that_the_server_has_forgotten_is_begun_anew(
    browser: Chromium, serving: Any, folder: Path, tiny: Any, layers: Any, sockets: str
) -> None:
    """A long pause between two turns; of the second turn, all is sent again."""
    served = serving(layers=layers, host={"ends": folder / "f32"})

    def pause() -> None:
        served.later(served.service.limits.ttl_s + 1)
        assert not len(served.service.split)

    found = run(browser, served.host.url, f"sockets: {sockets}", pause)
    assert found["again"] == found["ids"][:3] == expected(tiny, layers, 3)
    assert found["reconnects"] >= 1


def test_long_prompts_are_sent_in_parts(browser: Chromium, serve: Any, tiny: Any, layers: Any) -> None:
    host = serve(split_tokens=5)
    found = run(browser, host.url)
    assert found["ids"] == expected(tiny, layers)
    assert max(len(rows) for rows in layers.received) == 5


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (390, False), (390, True)])
def test_the_page_answers_keeps_to_its_server_and_fits(
    browser: Chromium, serve: Any, width: int, dark: bool, tmp_path: Path
) -> None:
    host = serve()
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 700)
    browser.dark(dark)
    browser.open(f"{host.url}/")  # which leads to /split: there is no other page's model
    browser.wait("location.pathname === '/split' && document.getElementById('size').textContent !== ''")
    assert "The server can read all of this." in browser.evaluate("document.getElementById('warning').innerText")
    browser.click("#load")
    browser.wait("!document.getElementById('form').hidden")
    _ask(browser)
    words = browser.evaluate("document.querySelector('.assistant').textContent")
    recovered = browser.evaluate("document.getElementById('recovered').textContent")
    assert ASKED in recovered
    assert len(words) > 1
    assert words[:-1] in recovered
    right, of = browser.evaluate("document.getElementById('right').textContent").split(" of ")
    assert int(right) == int(of) > len(ASKED)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert len(browser.screenshot(tmp_path / "page.png")) > 0
    hosts = "performance.getEntriesByType('resource').map(each => new URL(each.name).host)"
    assert set(browser.evaluate(hosts)) == {host.url.split("/")[2]}
    browser.click("#forget")
    browser.wait("document.getElementById('turns').children.length === 0")
    assert browser.evaluate("document.getElementById('recovered').textContent") == ""
    assert browser.complaints == []


def _ask(browser: Chromium) -> None:
    browser.evaluate(
        f"document.getElementById('input').value = {ASKED!r}; document.getElementById('form').requestSubmit()"
    )
    browser.wait("document.querySelector('.assistant')?.textContent.length > 5")
    browser.click("#stop")  # the rest would be more of the same
    browser.wait("!document.getElementById('send').disabled")
    browser.wait("![...document.querySelectorAll('#seen span')].some(each => each.textContent === '…')")


def test_stop_ends_the_answer_after_its_present_token(browser: Chromium, serve: Any, layers: Any) -> None:
    browser.open(f"{serve().url}/split")
    browser.click("#load")
    browser.wait("!document.getElementById('form').hidden")
    layers.hold.clear()
    browser.evaluate(
        f"document.getElementById('input').value = {ASKED!r}; document.getElementById('form').requestSubmit()"
    )
    browser.wait("document.getElementById('messages').textContent === '1'")
    browser.click("#stop")
    browser.wait("document.getElementById('stop').matches(':enabled')")
    layers.hold.set()
    browser.wait("document.getElementById('stop').disabled")
    assert "1 tokens, stopped" in browser.evaluate("document.getElementById('figures').textContent")


def test_a_server_without_the_mode_says_so(browser: Chromium, serve: Any) -> None:
    browser.open(f"{serve(split=False).url}/split")
    browser.wait("document.getElementById('size').textContent !== ''")
    browser.click("#load")  # of a model's ends, and nothing runs its layers
    _says(browser, "This server has no split mode")


def test_a_server_of_the_private_page_alone_says_so(browser: Chromium, serve: Any, folder: Path) -> None:
    browser.open(f"{serve(split=False, ends=None, pages=folder / 'f32').url}/split")
    _says(browser, "This server has no split mode")


def _says(browser: Chromium, what: str) -> None:
    browser.wait("document.getElementById('status').classList.contains('fault')")
    assert what in browser.evaluate("document.getElementById('status').textContent")


def test_the_ends_of_another_model_are_refused(browser: Chromium, serve: Any, tiny: Any, tmp_path: Path) -> None:
    convert(tiny.saved(tmp_path / "other", rms_norm_eps=1e-6), tmp_path / "ends", part="ends")
    browser.open(f"{serve(ends=tmp_path / 'ends').url}/split")
    browser.wait("document.getElementById('size').textContent !== ''")
    browser.click("#load")
    _says(browser, "the server runs another model, model")


@pytest.mark.parametrize("sockets", [True, False])
def test_the_prompt_is_in_the_bytes_on_the_way_and_the_page_shows_the_same(
    browser: Chromium, serve: Any, tiny: Any, sockets: bool
) -> None:
    """By whoever has the base model, from a recording of what the page sent, without TLS."""
    with FaultyRelay(serve().port, sockets=sockets) as relay:
        shown = run(browser, relay.url)["recovered"]
    assert not any(ASKED.encode() in each for each in relay.recorded)  # not as text
    embedding = tiny.weights()["model.embed_tokens.weight"]
    tokens: list[int] = []
    for header, payload in _forwards(relay.recorded, sockets):
        rows = rows_of(payload, header.tokens, 64, "float32")
        distances = ((rows[:, None] - embedding[None]) ** 2).sum(axis=2)
        tokens[header.position :] = distances.argmin(axis=1).tolist()
        if len(tokens) == shown["of"]:
            break
    assert tokens[: len(tiny.prompt_of(ASKED))] == tiny.prompt_of(ASKED)
    assert bytes(each for each in tokens if each < 256).decode(errors="replace") == shown["text"].replace("<end>", "")


def _forwards(recorded: list[bytearray], sockets: bool) -> Iterator[tuple[Forward, memoryview]]:
    for stream in recorded:
        for frame in _in_sockets(bytes(stream)) if sockets else _in_posts(bytes(stream)):
            header, payload = decode_from_client(frame)
            if isinstance(header, Forward):
                yield header, payload


def _in_sockets(stream: bytes) -> Iterator[bytes]:
    """Messages of a client in a recorded WebSocket."""
    head, *found = messages(stream)
    if b"helora.split.v1" in head:
        yield from (each for each in found if len(each) > 2)  # and not the code with which it was closed


def _in_posts(stream: bytes) -> Iterator[bytes]:
    """Frames of a client in recorded requests."""
    while stream:
        head, _, stream = stream.partition(b"\r\n\r\n")
        sizes = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        body, stream = stream[: int(sizes[0])] if sizes else b"", stream[int(sizes[0]) if sizes else 0 :]
        while b"/v1/split " in head and body:
            end = 4 + int.from_bytes(body[:4], "big")
            yield body[4:end]
            body = body[end:]
