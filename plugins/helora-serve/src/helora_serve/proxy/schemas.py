"""What is read of a request: strictly, and nothing that is not honoured.

A field that this proxy does not support is refused by its name, unless it is null or asks for what happens anyway.
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from helora_core.files import strict_json
from helora_core.files.malformed import Malformed
from helora_serve.proxy.asked import Asked
from helora_serve.proxy.failures import Failure, bad_request

MOST_BODY_BYTES = 1 << 20
_SHORT_BYTES = 16 << 10

_ASKS_NOTHING: dict[str, Any] = {
    "n": 1, "best_of": 1, "echo": False, "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {},
    "logprobs": False, "store": False, "tools": [], "functions": [], "tool_choice": "none", "function_call": "none",
    "response_format": {"type": "text"}, "modalities": ["text"],
}  # fmt: skip
"""Values of fields that are not supported, by which a request asks for what it gets anyway."""

_TEXT = Annotated[str, Meta(min_length=1)]
_POSITIVE = Annotated[int, Meta(ge=1, le=1 << 24)]
_STOPS = Annotated[list[_TEXT], Meta(max_length=4)]
_PLACE = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`")


class TextPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that was said. ``developer`` is OpenAI's newer name of ``system``."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """All of it."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an answer is streamed."""

    include_usage: bool = False


class _Common(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: _POSITIVE | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None = None
    stop: str | _STOPS | None = None

    @property
    def usage_wanted(self) -> bool:
        """Whether a stream ends with a chunk that counts tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def _asked(self, max_tokens: int | None) -> dict[str, Any]:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if "" in stops:
            raise bad_request("`stop` has an empty text.", param="stop")
        if self.stream_options is not None and not self.stream:
            raise bad_request("`stream_options` is for streams: `stream` has to be true.", param="stream_options")
        return {
            "model": self.model, "max_tokens": max_tokens, "temperature": self.temperature,
            "top_p": 1.0 if self.top_p is None else self.top_p, "seed": self.seed, "stop": tuple(stops),
        }  # fmt: skip


class ChatRequest(_Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: _POSITIVE | None = None

    def asked(self) -> Asked:
        """The request to a model.

        Raises:
            Failure: Two fields contradict each other.
        """
        both = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(both) > 1:
            raise bad_request("`max_tokens` and `max_completion_tokens` differ.", param="max_completion_tokens")
        messages = tuple(
            {"role": "system" if each.role == "developer" else each.role, "content": each.text}
            for each in self.messages
        )
        return Asked(messages=messages, **self._asked(next(iter(both), None)))


class CompletionRequest(_Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/completions``: one text, which is continued."""

    prompt: _TEXT

    def asked(self) -> Asked:
        """The request to a model.

        Raises:
            Failure: Two fields contradict each other.
        """
        return Asked(prompt=self.prompt, **self._asked(self.max_tokens))


Request = TypeVar("Request", bound=msgspec.Struct)


def read(body: bytes, kind: type[Request]) -> Request:
    """Read a request.

    Args:
        body: JSON.
        kind: What is expected.

    Raises:
        Failure: It is no JSON, has a field that is not supported, or one that is not as it should be.
    """
    try:
        given = strict_json.decode(body, dict[str, Any], most=MOST_BODY_BYTES)
    except Malformed as error:
        raise bad_request(f"The body {error.reason}.", code="invalid_json") from None
    supported = set(kind.__struct_fields__)
    kept = {
        name: value
        for name, value in given.items()
        if value is not None and not (name not in supported and _asks_nothing(name, value))
    }
    for name in kept:
        if name not in supported:
            raise _unsupported(name)
    if isinstance(kept.get("messages"), list):
        kept["messages"] = [_without_nulls(each) for each in kept["messages"]]
    if "stream_options" in kept:
        kept["stream_options"] = _without_nulls(kept["stream_options"])
    try:
        return msgspec.convert(kept, kind)
    except msgspec.ValidationError as error:
        raise _misread(str(error)) from None


async def read_aside(body: bytes, kind: type[Request]) -> Request:
    """The same, of bodies that take milliseconds in another thread than the event loop's."""
    return read(body, kind) if len(body) <= _SHORT_BYTES else await asyncio.to_thread(read, body, kind)


def _asks_nothing(name: str, value: Any) -> bool:
    return name in _ASKS_NOTHING and type(value) in (type(_ASKS_NOTHING[name]), float) and value == _ASKS_NOTHING[name]


def _without_nulls(value: Any) -> Any:
    return {name: each for name, each in value.items() if each is not None} if isinstance(value, dict) else value


def _unsupported(name: str) -> Failure:
    shown = "".join(each if each.isprintable() else "?" for each in name[:64])
    return bad_request(
        f"`{shown}` is not supported here, and is refused rather than ignored. Leave it out.",
        param=shown,
        code="unsupported_parameter",
    )


def _misread(told: str) -> Failure:
    """msgspec's words name places and types, never values, except for the values of roles and kinds of content."""
    place = _PLACE.search(told)
    unknown = re.search(r"unknown field `([^`]*)`", told)
    where = "" if place is None else place[1]
    if unknown:
        return _unsupported(f"{where}.{unknown[1]}".lstrip("."))
    missing = re.search(r"missing required field `([^`]*)`", told)
    if missing:
        where = f"{where}.{missing[1]}".lstrip(".")
    what = _PLACE.sub("", told)
    return bad_request(f"`{where}`: {what}.", param=where or None, code="invalid_value")
