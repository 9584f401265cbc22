"""``helora chat`` through a proxy that speaks OpenAI's API: `helora proxy`, or another program that does."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import click

from helora_core.errors import ConnectionLost, HeloraError, InvalidInput
from helora_transformers.cli.options import Asked, checked_text, plain
from helora_transformers.cli.terminal import HELP, cancelling, messages

HOSTED = "in mode hosted: it is sent the text and runs everything; encryption protects nothing from it"
_TIMEOUT_S = 600.0
_KEPT = {"address", "adapter_name", "max_new_tokens", "as_json"}


class ProxyRefused(HeloraError):
    """The proxy refused a message, or its answer failed."""

    code = "proxy-refused"


def talk(url: str, asked: Asked, *, as_json: bool) -> int:
    """Talk until the end. Returns how many messages got no answer.

    Raises:
        InvalidInput: The URL is none of a proxy, or an option is the proxy's to decide.
        ConnectionLost: Nobody answers there.
    """
    context = click.get_current_context()
    for name in context.params:
        if name not in _KEPT and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise InvalidInput(f"--{name.replace('_', '-')} was decided at {url}.", hint="Leave it out.")
    at_terminal = sys.stdin.isatty()
    with closing(Proxy(url)) as proxy:
        talked_to = _Talk(proxy, asked, as_json=as_json)
        if at_terminal and not as_json:
            who = HOSTED if talked_to.mode == "hosted" else "which has the base model and the keys"
            click.echo(f"{talked_to.model} at {url}, {who}\n{HELP}", err=True)
        for message in messages(at_terminal=at_terminal, as_json=as_json):
            if not talked_to.heard(message):
                break
    return talked_to.refusals


class Proxy:
    """A proxy at a URL.

    Args:
        url: The base of its API, as ``http://127.0.0.1:8080/v1``.

    Raises:
        InvalidInput: It is no such URL.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url.rstrip("/"))
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise InvalidInput(f"{url} is no URL of a proxy.", hint="Write http://127.0.0.1:8080/v1.")
        self._parts = parts
        self._open: list[http.client.HTTPConnection | http.client.HTTPResponse] = []

    def models(self) -> dict[str, str]:
        """By the names of its models their modes, as far as it says so.

        Raises:
            ConnectionLost, ProxyRefused: There is no answer.
        """
        response = self._asked("GET", "/models")
        return {str(each["id"]): str(each.get("mode", "")) for each in _checked(response.read()).get("data", [])}

    def chunks(self, document: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The chunks of an answer, as they come.

        Raises:
            ConnectionLost: It ended in the middle.
            ProxyRefused: It was refused, or failed.
        """
        response = self._asked("POST", "/chat/completions", document)
        try:
            for line in response:
                data = line.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    return
                if line.startswith(b"data:"):
                    yield _checked(data)
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionLost(
                f"The proxy is gone ({error}).", hint="Start it again: helora proxy ADDRESS"
            ) from error
        raise ConnectionLost("The proxy's answer ended in the middle.", hint="Ask again.")

    def close(self) -> None:
        """End the connection, and with it an answer that is on its way."""
        while self._open:
            self._open.pop().close()

    def _asked(self, method: str, path: str, document: Any = None) -> http.client.HTTPResponse:
        self.close()
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(str(self._parts.hostname), self._parts.port, timeout=_TIMEOUT_S)
        self._open.append(connection)
        body = None if document is None else json.dumps(document).encode()
        try:
            connection.request(
                method, self._parts.path + path, body, {} if body is None else {"content-type": "application/json"}
            )
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionLost(
                f"Nobody answers at {self._parts.geturl()} ({error}).", hint="Start it: helora proxy ADDRESS"
            ) from error
        self._open.append(response)
        if response.status != 200:
            _checked(response.read())
            raise ProxyRefused(f"The proxy answered with status {response.status}.", hint="Check the URL.")
        return response


def _checked(data: bytes) -> dict[str, Any]:
    """A document that is no error.

    Raises:
        ProxyRefused: It is one, or no document.
    """
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ProxyRefused("The proxy's answer is not that of OpenAI's API.", hint="Check the URL.")
    error = document.get("error")
    if error:
        raise ProxyRefused(f"The proxy: {error.get('message')}", hint=f"Its code is {error.get('code')}.")
    return document


class _Talk:
    """A conversation with one model of a proxy.

    Attributes:
        model: Its name.
        mode: Who runs what, if the proxy says so.
        refusals: How many messages got no answer.
    """

    def __init__(self, proxy: Proxy, asked: Asked, *, as_json: bool) -> None:
        self._proxy, self._asked, self._as_json = proxy, asked, as_json
        models = proxy.models()
        self.model, self.refusals = _chosen(list(models), asked.adapter_name), 0
        self.mode = models[self.model]
        self._messages: list[dict[str, str]] = []
        self._last: dict[str, Any] = {}

    def heard(self, message: str) -> bool:
        """Answer a message, or do what it commands. False if it ends the conversation."""
        command = message.strip()
        if command == "/quit":
            return False
        if command == "/reset":
            self._messages = []
            self._tell({"event": "reset"}, "a new conversation")
        elif command == "/report":
            self._tell({"event": "report", "report": self._last}, json.dumps(self._last, indent=2))
        elif command.startswith("/"):
            self._tell({"event": "help", "help": HELP}, HELP)
        elif command:
            self._answer(message)
        return True

    def _answer(self, message: str) -> None:
        said = [*self._messages, {"role": "user", "content": message}]
        try:
            checked_text(message)
            text, last = self._told(said)
        except (ProxyRefused, InvalidInput) as error:
            self.refusals += 1
            refusal = {"code": error.code, "message": error.message, "hint": error.hint}
            self._tell({"event": "refused", "message": message, "error": refusal}, error=error)
            return
        self._messages, self._last = [*said, {"role": "assistant", "content": text}], last
        self._tell({"event": "answered", "message": message, "text": text, **last})

    def _told(self, said: list[dict[str, str]]) -> tuple[str, dict[str, Any]]:
        """The answer, which is shown as it comes, and what the last chunks say of it."""
        wanted = {
            "model": self.model, "messages": said, "max_tokens": self._asked.max_new_tokens, "temperature": 0,
            "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        pieces: list[str] = []
        last: dict[str, Any] = {"finish_reason": "cancelled"}
        with cancelling() as cancel:
            for chunk in self._proxy.chunks(wanted):
                for choice in chunk["choices"]:
                    pieces.append(choice["delta"].get("content") or "")
                    last["finish_reason"] = choice["finish_reason"] or last["finish_reason"]
                last |= {name: chunk[name] for name in ("helora", "usage") if chunk.get(name)}
                if not self._as_json:
                    click.echo(plain("".join(pieces[-len(chunk["choices"]) :] if chunk["choices"] else [])), nl=False)
                if cancel.is_set():
                    self._proxy.close()
                    break
        if not self._as_json:
            click.echo()
        return "".join(pieces), last

    def _tell(self, document: dict[str, Any], *lines: str, error: HeloraError | None = None) -> None:
        if self._as_json:
            click.echo(json.dumps(document, ensure_ascii=False))
        elif error is not None:
            click.secho(f"error [{error.code}]", fg="red", bold=True, err=True, nl=False)
            click.echo(f" {plain(error.message)}\n  hint: {plain(error.hint)}", err=True)
        for line in () if self._as_json else lines:
            click.secho(plain(line), dim=True)


def _chosen(models: list[str], adapter: str | None) -> str:
    """The model with that adapter, or with the only one there is, in plaintext if there is a choice."""
    adapted = [name for name in models if ":" in name]
    fitting = [name for name in adapted if adapter in (None, name.partition(":")[2])]
    if adapter is None and len(fitting) > 1:
        fitting = [name for name in fitting if name.count(":") == 1]
    if len(fitting) == 1:
        return fitting[0]
    raise InvalidInput(
        f"The proxy has {', '.join(adapted) or 'no adapters'}" + (f", and not {adapter}." if adapter else "."),
        hint="Name one of them: --adapter-name NAME",
    )
