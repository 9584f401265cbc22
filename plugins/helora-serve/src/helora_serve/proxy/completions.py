"""What is written: OpenAI's objects, whole and in pieces. ``helora`` in them says what protects the answer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from helora_serve.proxy.asked import Ended, Facts


class Chat:
    """Names the objects of a chat's answer.

    Attributes:
        whole, piece: Names of an answer's kind.
        prefix: Of its id.
    """

    whole, piece, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    @staticmethod
    def content(text: str) -> dict[str, Any]:
        """What was said, as a part of a choice."""
        return {"message": {"role": "assistant", "content": text}}

    @staticmethod
    def begun() -> dict[str, Any] | None:
        """The first piece: who speaks."""
        return {"delta": {"role": "assistant", "content": ""}}

    @staticmethod
    def delta(text: str) -> dict[str, Any]:
        """A piece of what is said; the last one is empty."""
        return {"delta": {"content": text} if text else {}}


class Text(Chat):
    """Names the objects of a text that was continued."""

    whole, piece, prefix = "text_completion", "text_completion", "cmpl"

    @staticmethod
    def content(text: str) -> dict[str, Any]:
        """What was written."""
        return {"text": text}

    @staticmethod
    def begun() -> dict[str, Any] | None:
        """There is no such piece."""
        return None

    @staticmethod
    def delta(text: str) -> dict[str, Any]:
        """A piece of it."""
        return {"text": text}


class Completion:
    """The objects of one answer.

    Args:
        model: The model's name.
        form: What kind of answer it is.
        usage_wanted: Whether a stream ends with a chunk that counts tokens.
    """

    def __init__(self, model: str, form: type[Chat], *, usage_wanted: bool = False) -> None:
        self._head = {"id": f"{form.prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._form, self._usage_wanted = form, usage_wanted

    def whole(self, text: str, ended: Ended) -> dict[str, Any]:
        """The answer."""
        choice = self._choice(self._form.content(text), _reason(ended))
        return self._object(self._form.whole, [choice], usage=usage(ended), helora=extension(ended.facts))

    def begun(self) -> list[dict[str, Any]]:
        """The chunks before the text."""
        first = self._form.begun()
        return [] if first is None else [self._chunk(first)]

    def piece(self, text: str) -> dict[str, Any]:
        """The chunk of a piece of text."""
        return self._chunk(self._form.delta(text))

    def ended(self, ended: Ended) -> list[dict[str, Any]]:
        """The chunks after the text: why it ended and what protected it, then what was counted, if that is wanted."""
        choice = self._choice(self._form.delta(""), _reason(ended))
        last = [self._object(self._form.piece, [choice], helora=extension(ended.facts))]
        if self._usage_wanted:
            last.append(self._object(self._form.piece, [], usage=usage(ended)))
        return last

    def _chunk(self, content: Mapping[str, Any]) -> dict[str, Any]:
        return self._object(self._form.piece, [self._choice(content, None)])

    def _choice(self, content: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
        return {"index": 0, **content, "logprobs": None, "finish_reason": reason}

    def _object(self, kind: str, choices: Sequence[Any], **more: Any) -> dict[str, Any]:
        return {**self._head, "object": kind, "choices": choices, **more}


def model(name: str, created: int) -> dict[str, Any]:
    """A model, as ``/v1/models`` lists it."""
    return {"id": name, "object": "model", "created": created, "owned_by": "helora"}


def usage(ended: Ended) -> dict[str, Any]:
    """Counts of tokens."""
    return {
        "prompt_tokens": ended.prompt_tokens,
        "completion_tokens": ended.completion_tokens,
        "total_tokens": ended.prompt_tokens + ended.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": ended.cached_tokens},
    }


def extension(facts: Facts) -> dict[str, Any]:
    """What protects an answer, as a document; of one that nothing protects, that alone."""
    if facts.warning is not None:
        return {"mode": facts.mode, "warning": facts.warning}
    found: dict[str, Any] = msgspec.to_builtins(facts)
    del found["warning"]
    return found


def headers(facts: Facts) -> dict[str, str]:
    """What protects an answer, as headers. What is not known is left out."""
    shown = {"x-helora-mode": facts.mode}
    if facts.warning is not None:
        shown["x-helora-warning"] = facts.warning
    if facts.leakage is not None:
        shown["x-helora-leakage"] = facts.leakage.replace("Δ", "Delta").encode("ascii", "replace").decode()
    if facts.bits is not None:
        shown["x-helora-bits"] = f"{facts.bits:.1f}"
    if (audit := facts.audit) is not None:
        shown["x-helora-audit"] = (
            f"offer={audit.offer}; tokens={audit.tokens}; round-trips={audit.round_trips}; "
            f"bytes-up={audit.bytes_up}; bytes-down={audit.bytes_down}"
        )
    return shown


def _reason(ended: Ended) -> str:
    return "length" if ended.reason == "length" else "stop"
