"""What a page keeps for its next visit: keys and correlations, of which none is used twice, whenever the page ends."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from helora_core.adapter.lora import LoRAAdapter, LoRAModule
from helora_core.compiler.request import Constraints
from helora_core.parties.compile import compile
from helora_core.privacy.leakage import Assumption
from helora_serve.capture import messages
from helora_serve.host import Host
from helora_transformers.link.relay import Relay
from tests.harness.history.chromium import Chromium

ASKED, MOST, AHEAD = "where is the lighthouse?", 4, 600
MASKED_UPLOAD = 6
OPEN = (
    """globalThis.opened = async (keep = true) => {
  const {Private} = await import('/web/chat/private.js');
  globalThis.told = [];
  globalThis.own = new Private(message => told.push(message), {positions: 100});
  await own.open({server: location.href, base: new URL('base/', location.href).href, ahead: AHEAD, keep});
  const {ready} = told.find(message => message.ready);
  return {restored: ready.restored, keeping: ready.keeping, requests: own.bytes.requests};
};
globalThis.said = async () => {
  await own.say(ASKED, MOST);
  return told.findLast(message => message.done).ids;
};
globalThis.hung = point => new Promise(hangs => {
  const {link, client} = own, ask = link.ask.bind(link), forever = new Promise(() => {});
  link.ask = async message => {
    if (point === 'taken') return hangs(), forever;
    const answer = ask(message);
    if (point === 'sent') return hangs(), forever;
    await answer;
    return hangs(), forever;
  };
  own.say(ASKED, MOST).catch(() => null);
}); null""".replace("AHEAD", str(AHEAD))
    .replace("ASKED", repr(ASKED))
    .replace("MOST", str(MOST))
)


class Visits:
    """Visits of one browser to one server, and what passed between them."""

    def __init__(self, host: Host, stack: ExitStack, program: str, profile: Path) -> None:
        self.relay = Relay(host.url.replace("http:", "tcp:"), record=True)
        self.address = stack.enter_context(self.relay).replace("tcp:", "http:")
        self.program, self.profile, self.stack = program, profile, stack
        self.browser = self.started()

    def started(self) -> Chromium:
        """Another browser with the same profile."""
        browser = self.stack.enter_context(Chromium(self.program, self.profile))
        browser.call("Network.disable")
        return browser

    def begin(self, *, keep: bool = True) -> Any:
        """Load the page anew, and the model in it."""
        self.browser.open(f"{self.address}/")
        self.browser.wait("document.getElementById('size').textContent !== ''")
        self.browser.evaluate(OPEN)
        return self.browser.evaluate(f"opened({'true' if keep else 'false'})")

    def used(self) -> Counter[tuple[bytes, int]]:
        """How often each correlation was sent for, in different messages."""
        sent = {each for each in self._asked() if each[:4] == b"HLRA" and each[5] == MASKED_UPLOAD}
        spans = [msgspec.msgpack.decode(each[32 + int.from_bytes(each[22:24], "big") : -32])[0] for each in sent]
        return Counter(
            (bytes(batch), index) for batch, start, count in chain(*spans) for index in range(start, start + count)
        )

    def _asked(self) -> Iterator[bytes]:
        for stream in map(bytes, self.relay.recorded):
            for each in messages(stream):
                end = 2 + int.from_bytes(each[:2], "big")
                if b"\xa3ask" in each[:end]:
                    yield each[end:]

    def uploads(self) -> int:
        """How often keys were sent."""
        return sum(bytes(stream).count(b"PUT /v1/keys/") for stream in self.relay.recorded)


@pytest.fixture
def few(modules: dict[str, LoRAModule]) -> dict[str, LoRAModule]:
    return {name: module for name, module in modules.items() if ".0.self_attn." in name}


@pytest.fixture
def visits(
    program: str, served: Callable[..., Host], few: dict[str, LoRAModule], base: Path, tmp_path: Path
) -> Iterator[Visits]:
    """To a server with plans that run ahead of time, and online ones whose keys are large."""
    constraints = Constraints(assume=frozenset({Assumption.HONEST_KEYS}), target_bits=10)
    adapter = LoRAAdapter(few, "test")
    ahead = compile(adapter, backend="rns", packing="precomputed", constraints=constraints)
    online = compile(adapter, backend="rns", packing="rank_bsgs")
    with served({"default.ahead": ahead, "default": online}, base) as host, ExitStack() as stack:
        yield Visits(host, stack, program, tmp_path / "kept")


def _expected(tiny: ModuleType, few: dict[str, LoRAModule]) -> Any:
    return tiny.answer_of(ASKED, MOST, {name: module.scaled_up @ module.down for name, module in few.items()})


def test_a_second_visit_makes_sends_and_prepares_nothing(
    visits: Visits, tiny: ModuleType, few: dict[str, LoRAModule]
) -> None:
    first = visits.begin()
    assert first["restored"] is False
    assert first["keeping"] == ""
    assert first["requests"] > 0
    assert visits.browser.evaluate("said()") == _expected(tiny, few)
    for _ in range(2):
        assert visits.begin() == {"restored": True, "keeping": "", "requests": 0}
        assert visits.browser.evaluate("said()") == _expected(tiny, few)
    assert visits.uploads() == 1
    assert set(visits.used().values()) == {1}
    kept = """(async () => {
      const {openDatabase, settled} = await import('/web/database.js');
      const database = await openDatabase(), all = {};
      for (const name of ['vault', 'pools']) {
        const store = database.transaction(name).objectStore(name);
        all[name] = (await settled(store.getAll())).map(each => each.constructor.name + Object.keys(each).sort());
      }
      database.close();
      return all;
    })()"""
    found = visits.browser.evaluate(kept)
    assert set(found["vault"]) == {"CryptoKey", "Objectbytes,iv"}
    assert set(found["pools"]) == {"Objectbytes,iv"}  # encrypted, all of it
    # Once it is forgotten, it is as it was before the first visit.
    visits.browser.evaluate("own.erase()")
    assert visits.begin()["restored"] is False
    assert visits.uploads() == 2


@pytest.mark.parametrize("end", ["reload", "kill"])
def test_no_correlation_is_used_twice_wherever_the_page_ends(
    visits: Visits, tiny: ModuleType, few: dict[str, LoRAModule], end: str
) -> None:
    visits.begin()
    for point in ("taken", "sent", "answered"):
        visits.browser.evaluate(f"hung({point!r})")
        if end == "kill":
            os.killpg(visits.browser._process.pid, signal.SIGKILL)
            visits.browser = visits.started()
        assert visits.begin() == {"restored": True, "keeping": "", "requests": 0}
    assert visits.browser.evaluate("said()") == _expected(tiny, few)
    used = visits.used()
    assert len(used) > 0
    assert set(used.values()) == {1}


def test_of_two_tabs_one_has_the_keys_and_the_other_says_so(visits: Visits) -> None:
    visits.begin()
    visits.browser.evaluate("globalThis.first = own; null")
    refused = visits.browser.evaluate("opened().catch(error => [error.code, error.message])")
    assert refused[0] == "in-use"
    assert "Another tab" in refused[1]
    visits.browser.evaluate("first.close()")
    assert visits.browser.evaluate("opened()")["restored"] is True


def test_a_browser_that_stores_nothing_is_said_to_and_the_page_goes_on(
    visits: Visits, tiny: ModuleType, few: dict[str, LoRAModule]
) -> None:
    visits.begin(keep=False)
    assert visits.browser.evaluate("said()") == _expected(tiny, few)
    assert visits.browser.evaluate("indexedDB.databases().then(all => all.map(each => each.name))") == []
    visits.browser.evaluate(
        "own.close(); IDBFactory.prototype.open = () => { throw new DOMException('no', 'SecurityError'); }; null"
    )
    found = visits.browser.evaluate("opened()")
    assert found["restored"] is False
    assert found["keeping"].startswith("Nothing is kept for the next visit. The browser refuses to store anything")
    assert visits.browser.evaluate("said()") == _expected(tiny, few)


def test_a_full_browser_is_said_to_be_and_the_page_goes_on(
    visits: Visits, tiny: ModuleType, few: dict[str, LoRAModule]
) -> None:
    visits.browser.call("Storage.overrideQuotaForOrigin", origin=visits.address, quotaSize=1000)
    assert "storage is full" in visits.begin()["keeping"]
    assert visits.browser.evaluate("said()") == _expected(tiny, few)
    visits.browser.call("Storage.overrideQuotaForOrigin", origin=visits.address)
    assert visits.begin()["restored"] is False
    assert visits.browser.evaluate("said()") == _expected(tiny, few)
    assert set(visits.used().values()) == {1}
