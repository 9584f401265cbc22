"""``stream``: an answer as it is written, piece by piece, that ends whatever happens.

``model.generate`` runs in a thread of its own. What it raises is raised where the pieces are read, so that a connection
that is lost in mid-sentence ends the stream and is not waited for. An answer that nobody wants any more stops within a
token, and the model can be used again. The pass over the prompt counts as one token here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from enum import Enum
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Protocol

import torch
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from helora_core.errors import InvalidInput
from helora_transformers.private import PrivateModel

DEFAULT_MAX_NEW_TOKENS = 256
_UNFINISHED = "\ufffd"
"""What bytes decode to that are not a whole character yet."""


class FinishReason(str, Enum):
    """Why an answer ended."""

    STOP = "stop"
    """The model ended it."""
    LENGTH = "length"
    """It has as many tokens as were asked for."""
    CANCELLED = "cancelled"
    """Nobody wanted more of it."""


class Cancel(Protocol):
    """What tells that an answer is not wanted any more: a ``threading.Event`` is one."""

    def is_set(self) -> bool:
        """Whether it is so."""
        ...


def stream(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    *,
    tokenizer: Any,
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
    cancel: Cancel | None = None,
    on_token: Callable[[int], object] = lambda count: None,
    on_piece: Callable[[str], object] = lambda piece: None,
    **how: Any,
) -> Generation:
    """Begin an answer: ``for piece in stream(private, inputs, tokenizer=tokenizer): print(piece, end="")``.

    Args:
        model: A model of transformers, or the result of ``attach``.
        inputs: What the tokenizer returned for one sequence: ``input_ids`` (1, tokens), and the mask if it has one.
        tokenizer: What turns tokens into text; special tokens are left out.
        max_new_tokens: The most tokens of the answer.
        cancel: The answer ends within a token after this is set.
        on_token: Called with the number of tokens so far after each one, in the thread that computes them.
        on_piece: Called with each piece of text, in the same thread, before its token is counted. ``cancel`` that is
            set here ends the answer with the next token at the latest: transformers asks before it hands a token out.
        how: Further arguments of ``model.generate``.

    Raises:
        InvalidInput: It is not one sequence, has no tokens, or is too long for the model with the answer.
    """
    base = model.model if isinstance(model, PrivateModel) else model
    require_room(base, inputs["input_ids"], max_new_tokens)
    return Generation(base, inputs, tokenizer, max_new_tokens, cancel, on_token, on_piece, how)


class Generation:
    """An answer: an iterator of pieces of its text. ``close``, or the end of a ``with`` block, ends it early.

    Iterating raises what ``model.generate`` raised, once.
    """

    def __init__(
        self, model: Any, inputs: Mapping[str, torch.Tensor], tokenizer: Any, max_new_tokens: int,
        cancel: Cancel | None, on_token: Callable[[int], object], on_piece: Callable[[str], object],
        how: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self._closed = threading.Event()
        self._writer = _Writer(Text(tokenizer), on_token, on_piece)
        self._criterion = _Cancelled([self._closed, *([cancel] if cancel else [])])
        self._max_new_tokens, self._ends = max_new_tokens, _ends(model, how)
        self._reason: FinishReason | None = None
        criteria = StoppingCriteriaList([*how.get("stopping_criteria", ()), self._criterion])
        arguments = {**inputs, **how, "max_new_tokens": max_new_tokens, "stopping_criteria": criteria}
        # The thread knows nothing of this object, so that one that is forgotten is collected and ends the answer.
        self._thread = threading.Thread(
            target=_generate, args=(model, arguments, self._writer), name="helora-generate", daemon=True
        )
        self._thread.start()

    def __iter__(self) -> Generation:
        return self

    def __next__(self) -> str:
        if self._over:
            raise StopIteration
        piece = self._writer.pieces.get()
        if isinstance(piece, str):
            return piece
        self._thread.join()
        if piece.error is not None:
            raise piece.error
        self._reason = self._why()
        raise StopIteration

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self._closed.set()

    def close(self) -> None:
        """End the answer if it has not ended, and wait for the thread: at most for one token."""
        self._closed.set()
        self._thread.join()
        if self._writer.error is None:
            self._reason = self._why()

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended; None as long as it has not, or if it failed."""
        return self._reason

    @property
    def tokens(self) -> tuple[int, ...]:
        """The answer's tokens so far."""
        return tuple(self._writer.ids)

    @property
    def prompt_tokens(self) -> int:
        """Tokens that were given."""
        return self._writer.prompt_tokens

    @property
    def first_ns(self) -> int:
        """Time until the first token; 0 if there is none yet."""
        return self._writer.first_ns

    @property
    def elapsed_ns(self) -> int:
        """Time until the last token so far."""
        return self._writer.last_ns

    @property
    def _over(self) -> bool:
        return not self._thread.is_alive() and self._writer.pieces.empty()

    def _why(self) -> FinishReason:
        ids = self._writer.ids
        if ids and ids[-1] in self._ends:
            return FinishReason.STOP
        if len(ids) >= self._max_new_tokens:
            return FinishReason.LENGTH
        return FinishReason.CANCELLED if self._criterion.met else FinishReason.STOP


class _End:
    """The last thing in a queue of pieces."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def _generate(model: Any, arguments: Mapping[str, Any], writer: _Writer) -> None:
    try:
        model.generate(**arguments, streamer=writer)
        writer.flush()
    except BaseException as error:  # whatever it is, the reader has to hear of it
        writer.error = error
    finally:
        writer.pieces.put(_End(writer.error))


class _Writer(BaseStreamer):  # type: ignore[misc,unused-ignore]  # untyped where transformers is not installed
    """Counts tokens and hands out their text.

    Attributes:
        pieces: Pieces of text, and an ``_End``.
        ids: Tokens of the answer.
        prompt_tokens: How many were given.
        first_ns, last_ns: From the beginning to the first token and the last one.
        error: What ended the answer, if it failed.
    """

    def __init__(self, text: Text, on_token: Callable[[int], object], on_piece: Callable[[str], object]) -> None:
        self.pieces: SimpleQueue[str | _End] = SimpleQueue()
        self.ids: list[int] = []
        self.prompt_tokens = 0
        self.first_ns = self.last_ns = 0
        self.error: BaseException | None = None
        self._text, self._on_token, self._on_piece = text, on_token, on_piece
        self._began = time.perf_counter_ns()

    def put(self, value: torch.Tensor) -> None:
        """Tokens: those that were given at first, then new ones."""
        ids = value.reshape(-1).tolist()
        if not self.prompt_tokens:
            self.prompt_tokens = len(ids)
            return
        self.last_ns = time.perf_counter_ns() - self._began
        self.first_ns = self.first_ns or self.last_ns
        for each in ids:
            self.ids.append(each)
            self._hand_out(self._text.add(each))
        self._on_token(len(self.ids))

    def end(self) -> None:
        """Nothing: ``_generate`` ends the queue, also where generating failed."""

    def flush(self) -> None:
        """Hand out what was held back."""
        self._hand_out(self._text.rest())

    def _hand_out(self, piece: str) -> None:
        if piece:
            self._on_piece(piece)
            self.pieces.put(piece)


class Text:
    """Turns tokens into text one by one. A token's text depends on the one before, and may be half a character.

    Pieces add up to what the tokenizer decodes all tokens to: each is what a few tokens decode to with the new one,
    without what they decode to alone.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._told = ""

    def add(self, token: int) -> str:
        """The text that is certain now, and was not before."""
        self._ids.append(token)
        text = self._decoded(self._ids)
        if text.endswith(_UNFINISHED) or len(text) <= len(self._told):
            return ""
        return self._tell(text)

    def rest(self) -> str:
        """What was held back."""
        return self._decoded(self._ids)[len(self._told) :]

    def _tell(self, text: str) -> str:
        piece = text[len(self._told) :]
        last = self._ids[-1:]  # what follows is decoded after this one alone, in time that does not grow
        told = self._decoded(last)
        if told:
            self._ids, self._told = last, told
        else:
            self._told = text
        return piece

    def _decoded(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


class _Cancelled(StoppingCriteria):  # type: ignore[misc,unused-ignore]
    """Met when one of several things is set."""

    def __init__(self, any_of: list[Cancel]) -> None:
        self.met = False
        self._any_of = any_of

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self.met = self.met or any(each.is_set() for each in self._any_of)
        return torch.full((input_ids.shape[0],), self.met, dtype=torch.bool, device=input_ids.device)


def _ends(model: Any, how: Mapping[str, Any]) -> frozenset[int]:
    """The tokens with which the model ends an answer."""
    config = how.get("generation_config") or model.generation_config
    given = how.get("eos_token_id", config.eos_token_id)
    return frozenset([given] if isinstance(given, int) else given or ())


def require_room(model: Any, ids: torch.Tensor, max_new_tokens: int) -> None:
    """Check that a model can read a prompt and its answer.

    Args:
        model: A model of transformers.
        ids: The prompt's tokens, (1, tokens).
        max_new_tokens: The most tokens of the answer.

    Raises:
        InvalidInput: It is not one sequence, has no tokens, or is too long.
    """
    if ids.ndim != 2 or ids.shape[0] != 1:
        raise InvalidInput(
            f"stream: the input is of shape {tuple(ids.shape)}, not one sequence.",
            hint="Call model.generate for several: they are answered together, and not streamed.",
        )
    if not ids.shape[1] or max_new_tokens < 1:
        raise InvalidInput(
            f"stream: {max_new_tokens} tokens after {ids.shape[1]}.", hint="Give and ask for at least one token."
        )
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if most is not None and ids.shape[1] + max_new_tokens > most:
        raise InvalidInput(
            f"stream: {ids.shape[1]} tokens and an answer of up to {max_new_tokens} are more than the {most} that the "
            "model can read.",
            hint="Shorten the prompt, begin the conversation anew, or ask for fewer tokens.",
        )
