"""A headless Chromium with no network but this machine, driven over its DevTools pipe by the standard library alone."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 180.0
"""Seconds to wait for anything: a machine that is busy with other tests is slow."""

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-sync",
    "--disable-domain-reliability", "--disable-extensions", "--no-pings", "--mute-audio", "--password-store=basic",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-pipe", "--window-size=1100,900",
)  # fmt: skip


def find_chromium() -> str | None:
    """The program that ``HELORA_CHROMIUM`` names, or one of the usual names on the path."""
    named = os.environ.get("HELORA_CHROMIUM")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


class NavigatedAway(RuntimeError):
    """The page that was asked is no longer there."""


class Chromium:
    """One browser with one page. Use it in a ``with`` statement.

    Attributes:
        requested: Address of everything that its pages asked for, whether or not they got it.
        complaints: Errors that pages logged or threw, as text.
    """

    def __init__(self, program: str, profile: Path) -> None:
        self.requested: list[str] = []
        self.complaints: list[str] = []
        self._numbers = itertools.count(1)
        self._rest = b""
        read_by_it, self._to = os.pipe()
        self._from, written_by_it = os.pipe()
        # DevTools reads from file 3 and writes to file 4; a shell puts ours there.
        command = f'exec "$0" "$@" 3<&{read_by_it} 4>&{written_by_it}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(read_by_it, written_by_it),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read_by_it)
        os.close(written_by_it)
        self._session = ""

    def __enter__(self) -> Chromium:
        try:
            pages = self.call("Target.getTargets")["targetInfos"]
            self._attach(next(target for target in pages if target["type"] == "page")["targetId"])
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        os.close(self._to)
        os.close(self._from)
        try:
            self._process.wait(5)  # it ends with its pipe
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @contextmanager
    def apart(self) -> Iterator[Chromium]:
        """Another page for a while, with storage of its own: that takes less than to start another browser."""
        before, self._session = self._session, ""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        try:
            target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
            self.requested, self.complaints = [], []
            self._attach(target)
            yield self
        finally:
            self._session = ""
            self.call("Target.disposeBrowserContext", browserContextId=context)
            self._session = before

    def _attach(self, target: str) -> None:
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What DevTools answers to a call. Events that come first are taken note of."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while True:
            answer = self._next(until)
            if answer.get("id") == number:
                if "error" in answer:
                    left = any(word in answer["error"]["message"].lower() for word in ("navigated", "context"))
                    raise (NavigatedAway if left else RuntimeError)(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._from], [], [], max(until - time.monotonic(), 0))[0]:
                raise TimeoutError("Chromium did not answer in time")
            more = os.read(self._from, 1 << 20)
            if not more:
                raise EOFError("Chromium ended")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if message.get("sessionId", "") == self._session:
            self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, about: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requested.append(about["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requested.append(about["url"])
        elif method == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.complaints.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")

    def open(self, address: str) -> None:
        """Load a page, and wait until it is there."""
        self.call("Page.navigate", url=address)
        self.wait(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(address)})")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression is true, on this page or on the one that it is about to lead to."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with suppress(NavigatedAway):
                if self.evaluate(f"Boolean({condition})"):
                    return
            time.sleep(0.05)
        raise TimeoutError(f"never became true: {condition}")

    def click(self, selector: str) -> None:
        """Click on the first element that a CSS selector finds, once this call is answered: it may lead away."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"(element => {{ setTimeout(() => element.click()); }})({found})")

    def dark(self, on: bool) -> None:
        """Prefer a dark or a light page."""
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if on else "light"}])  # fmt: skip

    def screenshot(self, path: Path) -> bytes:
        """A picture of the whole page as PNG, which is written to ``path`` too."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        picture = base64.b64decode(answer["data"])
        path.write_bytes(picture)
        return picture
