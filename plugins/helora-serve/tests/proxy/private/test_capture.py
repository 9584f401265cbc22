"""Between proxy and host, without TLS, nothing private passes in clear; and the same search finds what does."""

from __future__ import annotations

import base64
import gc
import json
import secrets
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np
import openai
import pytest

from helora_rns.scheme.keys import SecretKey
from helora_serve.capture import found, messages, number_needles, raw_needles, text_needles, token_needles
from helora_transformers.link.relay import Relay

PROMPTS = ("w71 w82 w93 w64 w75", "w41 w32 w23 w54")


class Private:
    """What nobody but the proxy may see, gathered while a model answers."""

    def __init__(self, model: Any) -> None:
        self.texts: list[str] = []
        self.tokens: list[list[int]] = []
        self.rows: list[Any] = []
        for layer in model.model.layers:
            layer.self_attn.q_proj.register_forward_pre_hook(lambda module, args: self.rows.append(args[0][0].clone()))

    def needles(self) -> Iterator[tuple[str, bytes]]:
        """All of it, in all encodings."""
        yield from chain.from_iterable(map(text_needles, self.texts))
        yield from chain.from_iterable(map(token_needles, self.tokens))
        rows = [row for each in self.rows for row in each.numpy()]
        for row in rows[:: max(1, len(rows) // 8)]:
            for start in range(0, len(row) - 3, 7):
                yield from number_needles("activations", row[start : start + 4])
        for key in gc.get_objects():
            if type(key) is SecretKey:
                yield from raw_needles("key's seed", key.seed)
                residues = key.values[0]
                for start in range(0, len(residues), len(residues) // 3):
                    ternary = np.minimum(residues[start : start + 32].astype(np.float64), 2.0)
                    yield from number_needles("key", residues[start : start + 8], ("<u8", ">u8"))
                    yield from number_needles("key", ternary, ("<i1", "<i4", "<i8", "<f4", "<f8"))


def held(model: Any, asked: Any) -> Private:
    """A conversation of two messages, once as a stream."""
    private, said = Private(model), list[str]()
    tokenizer = asked.models._tokenizer
    for prompt in PROMPTS:
        said.append(prompt)
        said.append("".join(each.choices[0].delta.content or "" for each in asked.pieces(*said, max_tokens=8)))
    private.texts = said
    private.tokens = [tokenizer(text)["input_ids"] for text in said]
    return private


@pytest.fixture(params=["link", "serve"])
def conversation(request: pytest.FixtureRequest, asking: Any, place: Any) -> Any:
    """What was private, and what passed between proxy and host: over a link, and over WebSockets."""
    model, tokenizer = place.loaded()
    if request.param == "link":
        scheme, address = "tcp", request.getfixturevalue("hosting")().address
    else:
        scheme, address = "http", request.getfixturevalue("serving_host")()
    relay = Relay(f"tcp://{address.partition('://')[2]}", record=True)
    with relay as near:
        asked = asking(f"{scheme}://{near.partition('://')[2]}", loaded=(model, tokenizer))
        private = held(model, asked)
        asked.attachment.close()
    return private, b"\0".join(chain.from_iterable(map(messages, map(bytes, relay.recorded))))


def test_a_conversation_passes_in_ciphertexts(conversation: Any) -> None:
    private, recorded = conversation
    assert b"self_attn.q_proj" in recorded  # names of modules a server may see; over a WebSocket under a mask
    assert len(recorded) > 3_000_000
    needles = list(private.needles())
    assert len(needles) > 2_000
    assert {"utf-8", "JSON", "tokens as <i8", "activations as <f4", "key's seed", "key as <u8"} <= dict(needles).keys()
    assert found(iter(needles), recorded) == set()


def test_the_same_search_finds_the_prompt_where_it_passes_in_clear(asking: Any, hosting: Any, place: Any) -> None:
    model, tokenizer = place.loaded()
    asked = asking(hosting().address, loaded=(model, tokenizer))
    relay = Relay(f"tcp://127.0.0.1:{asked.proxy.port}", record=True)
    with relay as address, openai.OpenAI(base_url=f"http://{address.partition('//')[2]}/v1", api_key="none") as client:
        asked.client = client
        private = held(model, asked)
    recorded = b"\0".join(chain.from_iterable(map(messages, map(bytes, relay.recorded))))
    assert {"utf-8", "JSON"} <= found(text_needles(private.texts[0]), recorded)
    assert not found(chain.from_iterable(map(token_needles, private.tokens)), recorded)


def encodings(private: Private) -> Iterator[tuple[str, bytes]]:
    """How a program that does not encrypt would write it, among other bytes; made without ``helora_serve.capture``."""
    text, tokens, row = private.texts[0], private.tokens[0], private.rows[0][0].numpy()
    plain = {
        "utf-8": text.encode(), "utf-16-le": text.encode("utf-16")[2:], "utf-16-be": text.encode("utf-16-be"),
        "tokens as <i4": np.array(tokens, np.int32).tobytes(), "tokens as <i8": np.array(tokens).tobytes(),
        "tokens as >i8": np.array(tokens, ">i8").tobytes(), "activations as <f4": row.tobytes(),
        "activations as >f4": row.byteswap().tobytes(), "activations as <f8": row.astype(float).tobytes(),
        "activations as >f8": row.astype(">f8").tobytes(), "activations as <f2": row.astype("<f2").tobytes(),
        "key's seed": next(each.seed for each in gc.get_objects() if type(each) is SecretKey),
    }  # fmt: skip
    for name, data in plain.items():
        for before in range(4):
            among = secrets.token_bytes(before) + data + secrets.token_bytes(5)
            yield name, among
            yield f"{name}, hex", json.dumps({"x": among.hex()}).encode()
            yield f"{name}, base64", json.dumps({"x": base64.b64encode(among).decode()}).encode()
    yield "tokens in decimal", json.dumps({"tokens": [1, *tokens, 2]}).encode()
    yield "tokens in decimal", json.dumps({"tokens": tokens}, separators=(",", ":")).encode()
    yield "JSON", json.dumps({"content": text}).encode()
    yield "URL", f"/ask?q={text.replace(' ', '%20')}".encode()


def taken_in(listener: socket.socket) -> int:
    peer, _ = listener.accept()
    with peer:
        return sum(map(len, iter(lambda: peer.recv(1 << 16), b"")))


def test_the_same_search_finds_each_of_them_in_a_plaintext_recording(conversation: Any) -> None:
    private, _ = conversation
    needles = list(private.needles())
    for name, sent in encodings(private):
        with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as sink:
            relay = Relay(f"tcp://127.0.0.1:{listener.getsockname()[1]}", record=True)
            with relay as address:
                host, _, port = address.removeprefix("tcp://").partition(":")
                with socket.create_connection((host, int(port)), timeout=120) as near:
                    taken = sink.submit(taken_in, listener)
                    near.sendall(sent)
                    near.shutdown(socket.SHUT_WR)
                    assert taken.result(120) == len(sent)
        assert name in found(iter(needles), b"\0".join(relay.recorded)), name
