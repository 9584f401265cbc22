"""docs/protocol.md says what the code does: its transcript is of real bytes, and its tables are complete."""

from __future__ import annotations

import re
from types import ModuleType
from typing import get_args

import msgspec

from helora_serve.client.target import SCHEMES
from helora_serve.frames import PATH, SUBPROTOCOL, FromClient, FromServer, encode
from helora_serve.hosted.compare import Comparison
from helora_serve.limits import Limits
from helora_serve.refusals import STATUS, TOLD
from helora_serve.split.frames import PATH as SPLIT_PATH
from helora_serve.split.frames import SUBPROTOCOL as SPLIT_SUBPROTOCOL
from helora_serve.split.frames import FromSplitClient, FromSplitServer, Hidden
from helora_serve.split.offer import SplitOffer


def test_every_frame_on_the_page_is_what_its_header_says(transcript: ModuleType) -> None:
    steps = transcript.read(transcript.PAGE.read_text("utf-8"))
    assert len(steps) > 8
    for step in steps:
        if step.way != "cut":
            assert encode(step.header) == step.head
    kinds = {type(step.header) for step in steps if step.way != "cut"}
    assert {each.__name__ for each in kinds} >= {"Open", "Welcome", "Ask", "Answer", "Resume", "Refused", "Close"}


def test_client_and_server_still_say_the_same(transcript: ModuleType) -> None:
    def outline(steps: list[object]) -> list[object]:
        return [(s.way, s.way != "cut" and type(s.header), bool(s.payload_bytes)) for s in steps]  # type: ignore[attr-defined]

    page = transcript.read(transcript.PAGE.read_text("utf-8"))
    assert outline(transcript.record()) == outline(page), "run: python plugins/helora-serve/tests/transcript.py"


def test_the_split_frames_on_the_page_are_what_client_and_server_say(transcript: ModuleType) -> None:
    page = transcript.PAGE.read_text("utf-8")
    steps = transcript.read(page, split=True)
    assert [type(each.header).__name__ for each in steps] == [
        "SplitOpen", "SplitWelcome", "Forward", "Hidden", "Forward", "Hidden", "Forward", "SplitRefused", "Close",
    ]  # fmt: skip
    for step in steps:
        assert encode(step.header) == step.head
    for now, then in zip(transcript.record_split(), steps, strict=True):
        assert (now.way, type(now.header), now.payload_bytes) == (then.way, type(then.header), then.payload_bytes)
        if isinstance(now.header, Hidden):
            assert now.head == then.head


def test_the_page_has_every_field_of_mode_split(transcript: ModuleType) -> None:
    section = transcript.PAGE.read_text("utf-8").partition("## Mode split")[2]
    assert SPLIT_SUBPROTOCOL in section
    assert SPLIT_PATH in section
    for kind in (*get_args(FromSplitClient), *get_args(FromSplitServer)):
        row = re.search(rf"^\| `{kind.__struct_config__.tag}` \|.*$", section, re.MULTILINE)
        assert row, kind
        for field in kind.__struct_fields__:
            assert f"`{field}`" in row[0], (kind, field)
    documents = {
        SplitOffer: ("format", "schema", "subprotocol", "path"),
        Comparison: ("object", "created", "base", "adapter"),
    }
    for document, plain in documents.items():
        for field in document.__struct_fields__:
            assert field in plain or f"`{field}`" in section, (document, field)


def test_the_page_has_every_field_limit_and_error(transcript: ModuleType) -> None:
    page = transcript.PAGE.read_text("utf-8")
    assert SUBPROTOCOL in page
    assert PATH in page
    for kind in (*get_args(FromClient), *get_args(FromServer)):
        row = re.search(rf"^\| `{kind.__struct_config__.tag}` \|.*$", page, re.MULTILINE)
        assert row, kind
        for field in kind.__struct_fields__:
            assert f"`{field}`" in row[0], (kind, field)
    for error in TOLD:
        assert f"`{error.code}`" in page
    for code, status in STATUS.items():
        assert re.search(rf"^\| `{code}` \| {status} \|", page, re.MULTILINE), code


def test_the_guide_has_every_limit_with_its_default(transcript: ModuleType) -> None:
    guide = transcript.PAGE.with_name("serving.md").read_text("utf-8")
    for field in msgspec.structs.fields(Limits):
        assert f"`{field.name}`" in guide, field.name
    for scheme in SCHEMES:
        assert f"{scheme}://" in guide
