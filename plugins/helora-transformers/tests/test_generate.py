"""Answers as they are written: their pieces add up, and whatever happens, they end and leave the model usable."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import strategies
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import helora_core as helora
from helora_core.errors import ConnectionLost, InvalidInput
from helora_transformers import attach, connect
from helora_transformers.generate import FinishReason, Generation, Text, stream
from helora_transformers.link.host import Host
from helora_transformers.tiny import adapted, base_model, prompt, save_tiny

GREEDY: dict[str, Any] = {"do_sample": False}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(save_tiny(tmp_path_factory.mktemp("tiny")))


def begun(model: Any, tokenizer: Any, inputs: Any = None, **how: Any) -> Generation:
    return stream(model, inputs or prompt(5), tokenizer=tokenizer, **{**GREEDY, "max_new_tokens": 6, **how})


def bytewise() -> Any:
    """A tokenizer whose tokens are bytes."""
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made)


BYTES = bytewise()


def told(ids: list[int]) -> list[str]:
    text = Text(BYTES)
    return [*(text.add(each) for each in ids), text.rest()]


@hypothesis.settings(deadline=None)
@hypothesis.given(strategies.lists(strategies.integers(0, 255), max_size=40))
def test_pieces_add_up_to_what_all_tokens_decode_to(ids: list[int]) -> None:
    assert "".join(told(ids)) == BYTES.decode(ids, clean_up_tokenization_spaces=False)


@hypothesis.settings(deadline=None)
@hypothesis.given(strategies.text(max_size=20).filter(lambda text: "\ufffd" not in text))
def test_no_piece_has_half_a_character(text: str) -> None:
    pieces = told(BYTES(text)["input_ids"])
    assert "".join(pieces) == text
    assert not [each for each in pieces if "\ufffd" in each]


class TestAnswers:
    def test_they_are_what_generate_gives(self, tokenizer: Any) -> None:
        model, inputs, counted = base_model(), prompt(5), []
        expected = model.generate(**inputs, **GREEDY, max_new_tokens=6)[0, 5:].tolist()
        generation = begun(model, tokenizer, inputs, on_token=counted.append)
        assert "".join(generation) == tokenizer.decode(expected, skip_special_tokens=True)
        assert generation.tokens == tuple(expected)
        assert counted == [1, 2, 3, 4, 5, 6]
        assert (generation.prompt_tokens, generation.finish_reason) == (5, FinishReason.LENGTH)
        assert 0 < generation.first_ns <= generation.elapsed_ns
        assert list(generation) == []

    def test_a_model_that_ends_stopped(self, tokenizer: Any) -> None:
        model = base_model()
        third = begun(model, tokenizer)
        list(third)
        for more in (6, 3):  # also if it is the last one that was wanted
            generation = begun(model, tokenizer, eos_token_id=third.tokens[2], max_new_tokens=more)
            list(generation)
            assert generation.finish_reason is FinishReason.STOP
            assert generation.tokens == third.tokens[:3]

    @pytest.mark.parametrize(
        ("inputs", "most", "message"),
        [
            (prompt(3, 4), 5, "not one sequence"),
            ({"input_ids": torch.zeros((1, 0), dtype=torch.long)}, 5, "after 0"),
            (prompt(3), 0, "0 tokens"),
            (prompt(3), 126, "more than the 128"),
        ],
    )
    def test_what_cannot_be_streamed_is_refused(self, tokenizer: Any, inputs: Any, most: int, message: str) -> None:
        with pytest.raises(InvalidInput, match=message):
            begun(base_model(), tokenizer, inputs, max_new_tokens=most)


class TestEnding:
    def test_a_connection_that_is_lost_is_raised_where_the_pieces_are_read(
        self, tmp_path: Path, tokenizer: Any
    ) -> None:
        adapted("llama", tmp_path, targets=["q_proj"])
        model, inputs = base_model(), prompt(5)
        plain = model.generate(**inputs, **GREEDY, max_new_tokens=6)
        host = Host(helora.Server(helora.compile(tmp_path, backend="rns", packing="rank_bsgs")), "tcp://127.0.0.1:0")
        with attach(model, connect(host.address)) as private:
            generation = begun(private, tokenizer, on_token=lambda count: host.stop() if count == 3 else None)
            with pytest.raises(ConnectionLost):
                list(generation)
            assert len(generation.tokens) == 3
            assert generation.finish_reason is None
            assert list(generation) == []
        assert torch.equal(model.generate(**inputs, **GREEDY, max_new_tokens=6), plain)

    def test_what_generate_refuses_is_raised_too(self, tokenizer: Any) -> None:
        with begun(base_model(), tokenizer, num_beams=2) as generation, pytest.raises(ValueError, match="beam"):
            list(generation)

    def test_it_is_cancelled_within_a_token(self, tokenizer: Any) -> None:
        model, inputs, cancel = base_model(), prompt(5), threading.Event()
        plain = model.generate(**inputs, **GREEDY, max_new_tokens=20)
        generation = begun(
            model, tokenizer, max_new_tokens=20, cancel=cancel,
            on_token=lambda count: cancel.set() if count == 3 else None,
        )  # fmt: skip
        list(generation)
        assert generation.finish_reason is FinishReason.CANCELLED
        assert generation.tokens == tuple(plain[0, 5:9].tolist())
        assert torch.equal(model.generate(**inputs, **GREEDY, max_new_tokens=20), plain)

    def test_at_most_one_token_follows_a_piece_after_which_no_more_is_wanted(self, tokenizer: Any) -> None:
        model, inputs, cancel, pieces = base_model(), prompt(5), threading.Event(), list[str]()
        plain = model.generate(**inputs, **GREEDY, max_new_tokens=20)

        def heard(piece: str) -> None:
            pieces.append(piece)
            if len(pieces) == 3:
                cancel.set()

        generation = begun(model, tokenizer, inputs, max_new_tokens=20, cancel=cancel, on_piece=heard)
        assert list(generation) == pieces
        ran = len(generation.tokens)
        assert generation.tokens == tuple(plain[0, 5 : 5 + ran].tolist())
        assert tokenizer.decode(plain[0, 5 : 5 + ran], skip_special_tokens=True) == "".join(pieces)
        told = tokenizer.decode(plain[0, 5 : 3 + ran], skip_special_tokens=True)
        assert told == "".join(pieces[:2])

    def test_closing_it_waits_for_its_thread(self, tokenizer: Any) -> None:
        never = threading.Event()
        with begun(base_model(), tokenizer, max_new_tokens=100, on_token=lambda _: never.wait(0.05)) as generation:
            next(generation)
        assert not generation._thread.is_alive()
        assert generation.finish_reason is FinishReason.CANCELLED
        assert len(generation.tokens) < 20

    def test_one_that_is_forgotten_ends(self, tokenizer: Any) -> None:
        never = threading.Event()
        generation = begun(base_model(), tokenizer, max_new_tokens=100, on_token=lambda _: never.wait(0.05))
        thread = generation._thread
        del generation
        gc.collect()
        thread.join(5)
        assert not thread.is_alive()
