"""The whole model as what OpenAI's API asks: one answer at a time, whose tokens take turns with everybody else's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event
from typing import Any, TypeVar

from helora_serve.hosted.drawing import Drawing
from helora_serve.hosted.whole import Variant, Whole
from helora_serve.limits import Limits
from helora_serve.mode import HOSTED, HOSTED_WARNING
from helora_serve.proxy.asked import Asked, Begun, Ended, Facts, Told
from helora_serve.proxy.failures import bad_request
from helora_serve.proxy.stopping import Stopping

DEFAULT_TOKENS = 512
ENCRYPTED = ":encrypted"
FACTS = Facts(HOSTED, warning=HOSTED_WARNING)

T = TypeVar("T")


class HostedModels:
    """``NAME`` is the base model alone, ``NAME:ADAPTER`` with plaintext LoRA, and ``NAME:ADAPTER:encrypted`` with
    encrypted LoRA, whose keys this server has.

    Args:
        whole: The model.
        in_turn: Has work done in the model's thread, once it is its turn, and waits for what it results in.
        limits: The limits.
    """

    def __init__(self, whole: Whole, in_turn: Callable[[Callable[[], Any]], Any], limits: Limits) -> None:
        self._whole, self._in_turn, self._limits = whole, in_turn, limits
        self._variants: dict[str, tuple[Variant, str | None]] = {whole.name: (Variant.BASE, None)}
        for each in whole.adapters:
            self._variants[f"{whole.name}:{each}"] = Variant.PLAINTEXT, each
            self._variants[f"{whole.name}:{each}{ENCRYPTED}"] = Variant.ENCRYPTED, each

    @property
    def names(self) -> tuple[str, ...]:
        """The base model's name, then those with adapters."""
        return tuple(self._variants)

    def answer(self, asked: Asked, tell: Callable[[Told], object], cancel: Event) -> Ended:
        """As ``Models`` says.

        Raises:
            Failure: It is too long.
            HeloraError: The chat template refuses the messages; the client has had all tokens that it may have; or as
                the encrypted adapter raises it.
        """
        prompt = self._done(lambda: self._whole.tokens(asked.messages))
        most = self._most(len(prompt), asked.max_tokens)
        draw = Drawing(asked.temperature or 0.0, asked.top_p, asked.seed)
        stopping, pieces = Stopping(asked.stop), self._whole.pieces()
        cache, left, reason, made = None, prompt, "length", 0

        def say(text: str) -> None:
            if text:
                tell(text)

        while made < most:
            logits, cache = self._next(asked, left, cache, cancel)
            if logits is None:
                reason = "cancelled"
                break
            token = draw(logits)
            made, left = made + 1, [token]
            if made == 1:
                tell(Begun(FACTS))
            if token in self._whole.ends:
                reason = "stop"
                break
            say(stopping.feed(pieces.add(token)))
            if stopping.met or cancel.is_set():
                reason = "stop" if stopping.met else "cancelled"
                break
        say(stopping.feed(pieces.rest()))
        say(stopping.rest(cut_off=reason != "stop"))
        return Ended("stop" if stopping.met else reason, len(prompt), made, FACTS)

    def close(self) -> None:
        """The model is not this object's."""

    def _next(self, asked: Asked, tokens: Sequence[int], cache: Any, cancel: Event) -> tuple[Any, Any]:
        """Logits after some more tokens, of which others have their turn after so many as they may run at once; None if
        it is cancelled between two of them.
        """
        variant, adapter = self._variants[asked.model]
        logits = None
        for start in range(0, len(tokens), self._limits.split_tokens):
            if start and cancel.is_set():
                return None, cache
            some = tokens[start : start + self._limits.split_tokens]

            def step(some: Sequence[int] = some, before: Any = cache) -> tuple[Any, Any]:
                asked.admit(adapter, len(some))
                return self._whole.next(some, before, variant, adapter)

            logits, cache = self._done(step)
        return logits, cache

    def _done(self, work: Callable[[], T]) -> T:
        done: T = self._in_turn(work)
        return done

    def _most(self, given: int, wanted: int | None) -> int:
        """The most tokens of the answer."""
        if wanted is not None and wanted > self._limits.hosted_tokens:
            raise bad_request(
                f"`max_tokens`: at most {self._limits.hosted_tokens} are answered.", param="max_tokens",
                code="limit-exceeded",
            )  # fmt: skip
        positions = self._whole.positions
        room = positions - given
        if room < (wanted or 1):
            raise bad_request(
                f"`messages`: {given} tokens and an answer of {wanted or 1} are more than the {positions} that the "
                "model can read.", param="messages", code="context_length_exceeded",
            )  # fmt: skip
        return wanted or min(DEFAULT_TOKENS, self._limits.hosted_tokens, room)
