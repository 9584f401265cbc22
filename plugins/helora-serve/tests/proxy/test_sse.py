"""What is sent in events is read from them, however the bytes arrive: all of the text, and nothing else."""

from __future__ import annotations

from typing import Any

import hypothesis
import msgspec
from hypothesis import strategies

from helora_serve.proxy.asked import Ended
from helora_serve.proxy.completions import Chat, Completion, Text
from helora_serve.proxy.sse import DONE, data_of, event

PIECES = strategies.lists(strategies.text(min_size=1, max_size=8), max_size=8)


@hypothesis.given(PIECES, strategies.booleans())
def test_the_deltas_of_a_stream_are_the_text_of_the_whole_answer(pieces: list[str], usage_wanted: bool) -> None:
    ended = Ended("length", 3, 4)
    for form, place in ((Chat, ("delta", "content")), (Text, ("text",))):
        completion = Completion("m", form, usage_wanted=usage_wanted)
        chunks = [*completion.begun(), *map(completion.piece, pieces), *completion.ended(ended)]
        *documents, last = data_of(b"".join(map(event, chunks)) + DONE)
        assert last == b"[DONE]"
        read = [msgspec.json.decode(each) for each in documents]
        assert "".join(told(each, place) for each in read) == "".join(pieces)
        whole = completion.whole("".join(pieces), ended)
        assert {each["id"] for each in read} == {whole["id"]}
        reasons = [choice["finish_reason"] for each in read for choice in each["choices"]]
        assert reasons == [None] * (len(reasons) - 1) + ["length"]
        counted = [each["usage"] for each in read if "usage" in each]
        assert counted == [whole["usage"]] * usage_wanted


def told(chunk: Any, place: tuple[str, ...]) -> str:
    for choice in chunk["choices"]:
        for name in place:
            choice = choice.get(name, {})
        return choice or ""
    return ""


@hypothesis.given(strategies.lists(strategies.dictionaries(strategies.text(), strategies.text(), max_size=3)))
def test_documents_survive_framing_and_half_an_event_is_none(documents: list[dict[str, str]]) -> None:
    stream = b"".join(map(event, documents))
    assert [msgspec.json.decode(each) for each in data_of(stream)] == documents
    assert list(data_of(stream + b'data: {"half": ')) == list(data_of(stream))
    assert list(data_of(b": a comment\n\n" + stream.replace(b"\n", b"\r\n"))) == list(data_of(stream))
