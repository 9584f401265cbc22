"""The client in headless Chromium, in a worker, under the pages' Content-Security-Policy, by every build."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.parties.server import Server
from helora_core.parties.session import Session
from tests.harness.history.chromium import Chromium, find_chromium

if not os.environ.get("HELORA_REQUIRE_BROWSER"):
    if find_chromium() is None:
        pytest.skip("there is no Chromium: install it, or name it in HELORA_CHROMIUM", allow_module_level=True)
    if sys.platform == "win32":
        pytest.skip("the browser is driven over pipes of POSIX", allow_module_level=True)

CSP = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'"
TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".json": "application/json"}
MODULE = "layers.0.q_proj"

ASK = """
globalThis.post = async (path, body) => {
  const answer = await fetch(path, {method: 'POST', body});
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
};
globalThis.delta = async (crypto, name, x) => {
  let {request, message} = await crypto.call('begin', [name], new Float64Array(x), 1);
  for (;;) {
    const found = await crypto.call('receive', request, await post('/answer', message));
    if (found.deltas) return Array.from(found.deltas.get(name));
    ({message} = found);
  }
};
globalThis.prepare = async (crypto, name, count) => {
  let {request, message} = await crypto.call('prepare', [name], count);
  while (message) ({message} = await crypto.call('receive', request, await post('/answer', message)));
};
globalThis.start = async (builds, keepAs) => {
  const {CryptoWorker} = await import('/crypto.js');
  globalThis.worker = new CryptoWorker();
  const build = await worker.call('load', builds);
  const offer = new Uint8Array(await (await fetch('/offer')).arrayBuffer());
  const {restored} = await worker.call('make', offer, {keepAs});
  if (!restored) await post('/keys', await worker.call('evaluationKeys'));
  return [build, restored];
};
"""


class Site:
    """The modules and a server behind them, on loopback."""

    def __init__(self, web: Path, server: Server) -> None:
        self.sessions: list[Session] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/offer":
                    self._send(server.offer(), "application/json")
                elif self.path == "/":
                    self._send(b"<!doctype html><title>test</title><link rel=icon href=data:,>", "text/html")
                elif (web / self.path[1:]).is_file():
                    self._send((web / self.path[1:]).read_bytes(), TYPES[Path(self.path).suffix])
                else:
                    self.send_error(404)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/keys":
                    site.sessions.append(server.open(body))
                    self._send(b"", "application/octet-stream")
                else:
                    self._send(site.sessions[-1].answer(body), "application/octet-stream")

            def _send(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Security-Policy", CSP + "; img-src 'self' data:")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/"


@pytest.fixture(params=["rank_bsgs"])
def site(request: pytest.FixtureRequest, web: Path, compiled: Any) -> Iterator[Site]:
    running = Site(web, compiled(request.param, True, 1).server())
    thread = threading.Thread(target=running.http.serve_forever)
    thread.start()
    yield running
    running.http.shutdown()
    running.http.server_close()
    thread.join()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = find_chromium()
    assert program is not None, "HELORA_REQUIRE_BROWSER is set, and there is no Chromium"
    with Chromium(program, tmp_path_factory.mktemp("chromium") / "profile") as running:
        yield running


@pytest.fixture
def browser(chromium: Chromium) -> Iterator[Chromium]:
    with chromium.apart() as page:
        page.call("Network.disable")  # which would send the megabytes of keys here too
        yield page


def _opened(browser: Chromium, site: Site, builds: list[str] | None = None, keep_as: str | None = None) -> Any:
    browser.open(site.address)
    browser.evaluate(ASK)
    kept = json.dumps(keep_as) if keep_as else "undefined"
    return browser.evaluate(f"start({json.dumps(builds) if builds else 'undefined'}, {kept})")


def _delta(browser: Chromium, x: Any) -> Any:
    return np.array(browser.evaluate(f"delta(worker, {MODULE!r}, {list(map(float, x[0]))})"))


def test_delta_is_the_adapters_by_every_build(browser: Any, site: Site, adapter: Any, build: str) -> None:
    x = np.random.default_rng(4).standard_normal((1, 64))
    assert _opened(browser, site, [build]) == [build, False]
    expected = adapter.modules[MODULE].reference_delta(x)[0]
    assert np.max(np.abs(_delta(browser, x) - expected)) < 2.0**-12 * np.max(np.abs(expected))
    assert browser.complaints == []  # such as whatever the policy forbids


def test_keys_are_kept_over_a_reload_and_no_script_reads_their_key(browser: Any, site: Site, adapter: Any) -> None:
    x = np.random.default_rng(5).standard_normal((1, 64))
    assert _opened(browser, site, keep_as="server") == ["relaxed", False]
    assert _opened(browser, site, keep_as="server") == ["relaxed", True]
    expected = adapter.modules[MODULE].reference_delta(x)[0]
    assert np.max(np.abs(_delta(browser, x) - expected)) < 2.0**-12 * np.max(np.abs(expected))
    assert len(site.sessions) == 1
    read = """(async () => {
      const {openDatabase, settled} = await import('/database.js');
      const database = await openDatabase();
      const key = await settled(database.transaction('vault').objectStore('vault').get('key'));
      return crypto.subtle.exportKey('raw', key).then(() => 'read', error => [error.name, key.extractable]);
    })()"""
    assert browser.evaluate(read) == ["InvalidAccessError", False]
    browser.evaluate("worker.call('wipe', 'server')")
    assert browser.evaluate("delta(worker, 'x', [1]).catch(error => error.code)") == "unexpected-message"
    assert _opened(browser, site, keep_as="server") == ["relaxed", False]
    assert browser.complaints == []


@pytest.mark.parametrize("site", ["precomputed"], indirect=True)
def test_pools_outlive_the_page_and_have_one_owner(browser: Any, site: Site, adapter: Any) -> None:
    x = np.random.default_rng(6).standard_normal((1, 64))
    expected = adapter.modules[MODULE].reference_delta(x)[0]
    close = 2.0**-11 * np.max(np.abs(expected))
    assert _opened(browser, site, keep_as="server") == ["relaxed", False]
    browser.evaluate(f"prepare(worker, {MODULE!r}, 200)")
    assert np.max(np.abs(_delta(browser, x) - expected)) < close
    assert _opened(browser, site, keep_as="server") == ["relaxed", True]
    left = f"worker.call('left', [{MODULE!r}])"
    assert browser.evaluate(left) == 135  # 64 were reserved with one write
    assert np.max(np.abs(_delta(browser, x) - expected)) < close
    browser.evaluate("globalThis.older = worker")
    assert browser.evaluate("start(undefined, 'server')") == ["relaxed", True]
    assert browser.evaluate(left) == 70
    more = f"older.call('begin', [{MODULE!r}], new Float64Array(64 * 65), 65).catch(error => error.code)"
    assert browser.evaluate(more) == "not-durable"
    stored = """(async () => {
      const {openDatabase, settled} = await import('/database.js');
      const pools = (await openDatabase()).transaction('pools').objectStore('pools');
      return (await settled(pools.getAll())).map(each => Object.keys(each).sort().join());
    })()"""
    assert set(browser.evaluate(stored)) == {"bytes,iv"}  # encrypted, all of it
    assert browser.complaints == []
