"""``POST /v1/chat/compare``: one answer three times, by the base model, with plaintext LoRA and with encrypted LoRA."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import msgspec

from helora_serve.hosted.whole import Variant, Whole
from helora_serve.mode import HOSTED, HOSTED_WARNING
from helora_serve.proxy.asked import Admit, admit_all
from helora_serve.proxy.failures import Failure, bad_request
from helora_serve.proxy.schemas import Message

DEFAULT_TOKENS = 32

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
"""What some work with the model results in, in the model's thread."""

Step = tuple[int, Any, float]
"""The most probable token after some others, the cache, and seconds."""


class CompareRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked.

    Attributes:
        messages: As in OpenAI's ``/v1/chat/completions``.
        adapter: The adapter; the first one if None.
        max_tokens: Of each answer.
    """

    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    adapter: str | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] = DEFAULT_TOKENS


class ComparedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One of the answers: the most probable token each time.

    Attributes:
        variant: ``base``, ``plaintext`` or ``encrypted``.
        text: Its text.
        completion_tokens: How many tokens it has, without one that ended it.
        finish_reason: ``stop`` or ``length``.
        ms: Time that the model took, without waiting for its turn.
        tokens_per_s: Tokens by that time, the pass over the prompt included.
    """

    variant: str
    text: str
    completion_tokens: int
    finish_reason: str
    ms: float
    tokens_per_s: float


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Where two of them part.

    Attributes:
        one, other: Which.
        token, character: Numbers of the first ones that differ, from 0; None if the answers are the same.
    """

    one: str
    other: str
    token: int | None
    character: int | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All of them.

    Attributes:
        object: ``helora.comparison``.
        created: Seconds since 1970.
        mode, warning: ``hosted``, and that the server sees everything.
        base, adapter: What was run.
        prompt_tokens: Tokens of the messages.
        answers: One of each variant.
        differences: Between base and plaintext, and between plaintext and encrypted.
    """

    object: str = "helora.comparison"
    created: int
    mode: str = HOSTED
    warning: str = HOSTED_WARNING
    base: str
    adapter: str
    prompt_tokens: int
    answers: tuple[ComparedAnswer, ...]
    differences: tuple[Difference, ...]


async def compare(
    whole: Whole,
    asked: CompareRequest,
    run: InThread,
    *,
    most: int,
    at_once: int,
    wanted: Callable[[], Awaitable[bool]],
    admit: Admit = admit_all,
) -> Comparison:
    """Answer.

    Args:
        whole: The model.
        asked: The request.
        run: Has work done in the model's thread; between two tokens others have their turn.
        most: Most tokens of an answer.
        at_once: Tokens of the prompt after which others have their turn.
        wanted: Whether anybody still waits.
        admit: Counts tokens before they are run.

    Raises:
        Failure: There is no such adapter, or too many tokens are asked for; or nobody waits any more.
        HeloraError: As the encrypted adapter raises it; or the client has had all tokens that it may have.
    """
    adapter = asked.adapter if asked.adapter is not None else next(iter(whole.adapters), None)
    if adapter is None or adapter not in whole.adapters:
        raise bad_request(f"`adapter`: there is {', '.join(whole.adapters) or 'none'}.", param="adapter")
    if asked.max_tokens > most:
        raise bad_request(f"`max_tokens`: at most {most} are compared.", param="max_tokens", code="limit-exceeded")
    messages = [
        {"role": "system" if each.role == "developer" else each.role, "content": each.text} for each in asked.messages
    ]
    prompt = await run(lambda: whole.tokens(messages))
    if len(prompt) + asked.max_tokens > whole.positions:
        raise bad_request(
            f"`messages`: {len(prompt)} tokens and an answer of {asked.max_tokens} are more than the "
            f"{whole.positions} that the model can read.", param="messages", code="context_length_exceeded",
        )  # fmt: skip
    answers, made = [], dict[Variant, list[int]]()
    for variant in Variant:
        tokens, reason, taken = await _answer(
            whole, prompt, variant, adapter, asked.max_tokens, at_once, run, wanted, admit
        )
        made[variant] = tokens
        answers.append(
            ComparedAnswer(
                variant=variant.value,
                text=whole.text(tokens),
                completion_tokens=len(tokens),
                finish_reason=reason,
                ms=taken * 1e3,
                tokens_per_s=len(tokens) / taken if taken else 0.0,
            )
        )
    texts = {Variant(each.variant): each.text for each in answers}
    pairs = ((Variant.BASE, Variant.PLAINTEXT), (Variant.PLAINTEXT, Variant.ENCRYPTED))
    return Comparison(
        created=int(time.time()),
        base=whole.name,
        adapter=adapter,
        prompt_tokens=len(prompt),
        answers=tuple(answers),
        differences=tuple(
            Difference(
                one=one.value,
                other=other.value,
                token=first_difference(made[one], made[other]),
                character=first_difference(texts[one], texts[other]),
            )
            for one, other in pairs
        ),
    )


async def _answer(
    whole: Whole, prompt: Sequence[int], variant: Variant, adapter: str, most: int, at_once: int, run: InThread,
    wanted: Callable[[], Awaitable[bool]], admit: Admit,
) -> tuple[list[int], str, float]:  # fmt: skip
    """Tokens, why they end, and seconds."""
    made: list[int] = []
    taken, cache, left, best = 0.0, None, list(prompt), -1
    while len(made) < most:
        for first in range(0, len(left), at_once):
            if not await wanted():
                raise Failure(499, "Nobody waits for the comparison any more.", code="cancelled")

            def step(tokens: Sequence[int] = tuple(left[first : first + at_once]), before: Any = cache) -> Step:
                admit(None if variant is Variant.BASE else adapter, len(tokens))
                start = time.perf_counter()
                logits, after = whole.next(tokens, before, variant, adapter)
                return int(logits.argmax()), after, time.perf_counter() - start

            best, cache, seconds = await run(step)
            taken += seconds
        if best in whole.ends:
            return made, "stop", taken
        made.append(best)
        left = [best]
    return made, "length", taken


def first_difference(one: Sequence[Any], other: Sequence[Any]) -> int | None:
    """The first place where two sequences differ; None if they are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    found = next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))
    return None if found == len(one) == len(other) else found
