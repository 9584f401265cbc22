"""The base model and its encrypted adapters, as what can be asked. Needs torch."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from contextlib import nullcontext
from threading import Event
from typing import TYPE_CHECKING, Any

import torch

from helora_core.errors import ConnectionLost
from helora_serve.proxy.asked import Asked, Audit, Begun, Ended, Facts, Told
from helora_serve.proxy.attachment import Attachment
from helora_serve.proxy.failures import bad_request
from helora_serve.proxy.stopping import Stopping
from helora_transformers.bank import AHEAD
from helora_transformers.conversation import chat_ids
from helora_transformers.generate import FinishReason, stream
from helora_transformers.reading import Read

if TYPE_CHECKING:
    from helora_transformers.report import Report

DEFAULT_MAX_TOKENS = 512
KEPT = 4
"""Conversations of which the model's cache is kept, so that what was read is not encrypted again."""
_GREEDY = 1e-3
"""Below this temperature the most probable token is taken: logits divided by less overflow."""


class PrivateModels:
    """``NAME`` is the base model alone, ``NAME:ADAPTER`` the base model with an encrypted adapter.

    Args:
        name: What the base model is called.
        model: It.
        tokenizer: Its tokenizer.
        attachment: Its adapters.
        max_tokens: The most tokens of an answer that does not say so.
        temperature: Of an answer that does not say so.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        attachment: Attachment,
        *,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        temperature: float = 0.0,
    ) -> None:
        self._model, self._tokenizer, self._attachment = model, tokenizer, attachment
        self._max_tokens, self._temperature = max_tokens, temperature
        adapters = {f"{name}:{each.removesuffix(AHEAD)}": each for each in attachment.names}
        self._adapters: dict[str, str | None] = {name: None, **adapters}
        self._read: list[tuple[str, Read]] = []  # by model, the last one used at the end
        config = model.config.get_text_config()
        self._room = getattr(config, "max_position_embeddings", None) or 1 << 24

    @property
    def names(self) -> tuple[str, ...]:
        """The base model's name, then those with adapters."""
        return tuple(self._adapters)

    def answer(self, asked: Asked, tell: Callable[[Told], object], cancel: Event) -> Ended:
        """As ``Models`` says.

        Raises:
            Failure: The messages do not fit the model or its chat template.
            HeloraError: The adapter's host refused or is gone.
        """
        adapter, ids = self._adapters[asked.model], self._ids(asked)
        most = self._most(ids.shape[1], asked.max_tokens)
        if adapter is None:
            private = self._attachment.private
            with private.disable_adapter() if private else nullcontext():
                return self._answer(asked, ids, most, tell, cancel, lambda: Facts("base"))
        try:
            private = self._attachment.use(adapter)
            before = private.report()
            return self._answer(asked, ids, most, tell, cancel, lambda: self._facts(before, private.report()))
        except ConnectionLost:
            self._attachment.lost()
            raise

    def close(self) -> None:
        """Take the adapters off, and end the sessions at their host."""
        self._attachment.close()

    def _answer(
        self, asked: Asked, ids: torch.Tensor, most: int, tell: Callable[[Told], object], cancel: Event,
        facts: Callable[[], Facts],
    ) -> Ended:  # fmt: skip
        telling = _Telling(Stopping(asked.stop), tell, facts, cancel)
        read, cached = self._cache(asked.model, ids)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        torch.manual_seed(secrets.randbits(63) if asked.seed is None else asked.seed)
        with stream(
            self._model, inputs, tokenizer=self._tokenizer, max_new_tokens=most, cancel=telling,
            on_token=telling.token, on_piece=telling.piece, **self._sampling(asked), **read.arguments(ids),
        ) as generation:  # fmt: skip
            read.reading(ids, generation)
            for _ in generation:
                pass
        reason = generation.finish_reason or FinishReason.CANCELLED
        telling.end(cut_off=reason is not FinishReason.STOP)
        return Ended(
            "stop" if telling.met else reason.value, ids.shape[1], len(generation.tokens), facts(), cached
        )  # fmt: skip

    def _sampling(self, asked: Asked) -> dict[str, Any]:
        temperature = self._temperature if asked.temperature is None else asked.temperature
        if temperature < _GREEDY:
            return {"do_sample": False}
        return {"do_sample": True, "temperature": temperature, "top_p": asked.top_p, "top_k": 0}

    def _ids(self, asked: Asked) -> torch.Tensor:
        """The request's tokens, (1, tokens)."""
        if not asked.messages:
            ids: torch.Tensor = self._tokenizer(asked.prompt, return_tensors="pt")["input_ids"]
            return ids
        if not self._tokenizer.chat_template:
            raise bad_request("The base model has no chat template. Use /v1/completions.", param="model")
        from jinja2.exceptions import TemplateError

        try:
            return chat_ids(self._tokenizer, asked.messages)
        except TemplateError:
            raise bad_request(
                "The model's chat template refuses these messages: their roles, or the order of them.",
                param="messages",
            ) from None

    def _most(self, given: int, wanted: int | None) -> int:
        """The most tokens of the answer."""
        room = self._room - given
        if given and room >= (wanted or 1):
            return wanted or min(self._max_tokens, room)
        answer = "an answer" if wanted is None else f"an answer of up to {wanted}"
        raise bad_request(
            f"The model reads at most {self._room} tokens, and these are {given} and {answer}.",
            param="messages", code="context_length_exceeded",
        )  # fmt: skip

    def _cache(self, model: str, ids: torch.Tensor) -> tuple[Read, int]:
        """What to go on from, and how many of these tokens it has. Another conversation is not cut for a few words."""
        best, common, held = None, 0, 0
        for name, read in self._read:
            shared, length = read.in_common(ids) if name == model else (0, 0)
            if shared > common:
                best, common, held = read, shared, length
        if best is None or 2 * common < min(held, ids.shape[1]):
            best, common = Read(self._model), 0
        others = [each for each in self._read if each[1] is not best]
        self._read = [*others[-(KEPT - 1) :], (model, best)]
        return best, common

    def _facts(self, before: Report, after: Report) -> Facts:
        names = ("tokens", "round_trips", "bytes_up", "bytes_down")
        took = {name: getattr(after, name) - getattr(before, name) for name in names}
        bits = after.bits if after.bits is not None and math.isfinite(after.bits) else None
        mode = "one-process" if self._attachment.where is None else "client-key"
        return Facts(mode, leakage_of(after), bits, Audit(self._attachment.offer_sha256, **took))


def leakage_of(report: Report) -> str:
    """What the key holder learns beyond Δ, and what that rests on."""
    return report.leakage + (f" (if {', '.join(report.assumes)})" if report.assumes else "")


class _Telling:
    """Tells an answer from the thread that computes it; what ``stream`` calls ``cancel`` too."""

    def __init__(
        self, stopping: Stopping, tell: Callable[[Told], object], facts: Callable[[], Facts], cancel: Event
    ) -> None:
        self._stopping, self._tell, self._facts, self._cancel = stopping, tell, facts, cancel
        self._begun = False

    @property
    def met(self) -> bool:
        """Whether a stop text was found."""
        return self._stopping.met

    def is_set(self) -> bool:
        """Whether no more tokens are wanted."""
        return self._stopping.met or self._cancel.is_set()

    def token(self, count: int) -> None:
        """There is one more."""
        if not self._begun:
            self._begun = True
            self._tell(Begun(self._facts()))

    def piece(self, text: str) -> None:
        """The text that it adds."""
        self.token(1)
        self._say(self._stopping.feed(text))

    def end(self, *, cut_off: bool) -> None:
        """There are no more."""
        self._say(self._stopping.rest(cut_off=cut_off))

    def _say(self, text: str) -> None:
        if text:
            self._tell(text)
