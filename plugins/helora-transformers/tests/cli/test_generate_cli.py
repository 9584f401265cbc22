"""``helora generate`` and ``helora model``: three answers of one model, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
from transformers import AutoTokenizer

import helora_core
from helora_transformers.cli import showing
from helora_transformers.cli.figures import identical_from
from helora_transformers.cli.options import plain
from helora_transformers.modes import Variant
from helora_transformers.tiny import adapted, base_model

Run = Callable[..., Any]
ASK = ("--prompt", "w7 w8")
NO_SERVER = ("connection-lost", "nobody answers") if find_spec("helora_serve") else ("invalid-input", "not installed")


def document(result: Any) -> Any:
    return json.loads(result.stdout)


class TestAnswers:
    def test_the_encrypted_one_is_the_plaintext_one(self, run: Run, place: Any, tmp_path: Path) -> None:
        shown = document(run("generate", *place(), *ASK, "--json"))
        base, plaintext, encrypted = shown["answers"]
        assert [each["variant"] for each in shown["answers"]] == ["base", "plaintext", "encrypted"]
        tokenizer = AutoTokenizer.from_pretrained(place.base)
        ids = tokenizer("user w7 w8 . assistant", return_tensors="pt")
        reference = adapted("llama", tmp_path, targets=["q_proj", "v_proj"])
        for answer, model in ((base, base_model()), (encrypted, reference)):
            tokens = model.generate(**ids, max_new_tokens=6, do_sample=False)[0, 5:].tolist()
            assert answer["tokens"] == tokens
            assert answer["text"] == tokenizer.decode(tokens, skip_special_tokens=True)
        assert plaintext["tokens"] == encrypted["tokens"]
        assert (shown["identical"], shown["host"]) == (True, None)
        assert "nobody is protected" in shown["protects"]
        assert plaintext["prompt"] is plaintext["bits"] is None
        assert (encrypted["prompt"]["tokens"], encrypted["decode"]["tokens"]) == (5, 5)
        assert encrypted["decode"]["round_trips"] >= 2 * 5
        assert encrypted["decode"]["bytes_up"] > 0
        assert encrypted["bits"] > 8

    def test_people_read_labels_text_and_figures(self, run: Run, place: Any) -> None:
        result = run("generate", *place(), *ASK)
        lines = result.stdout.splitlines()
        assert [line for line in lines if line in ("base model", "plaintext LoRA", "encrypted LoRA")] == lines[:6:2]
        assert lines[3] == lines[5] != lines[1]
        assert lines[-1] == "encrypted and plaintext LoRA: all 6 tokens identical"
        for word in ("ms/token: base", "encrypt", "server", "KiB up", "bits of Δ, leakage: "):
            assert word in lines[-3] + lines[-2]
        assert "nobody is protected" in result.stderr
        alone = run("generate", *place(), *ASK, "--no-compare").stdout.splitlines()
        assert alone[0] == lines[5]
        assert "base model" not in " ".join(alone)

    def test_a_prompt_is_given_as_it_is_if_that_is_asked_for(self, run: Run, place: Any) -> None:
        shown = document(run("generate", *place(), *ASK, "--raw", "--no-compare", "--json"))
        assert [each["prompt_tokens"] for each in shown["answers"]] == [2]

    def test_without_encryption(self, run: Run, place: Any) -> None:
        result = run("generate", *place(), *ASK, "--mode", "plaintext", "--json")
        shown = document(result)
        assert [each["variant"] for each in shown["answers"]] == ["base", "plaintext"]
        assert (shown["adapter"], shown["identical"]) == (None, None)
        assert "nothing is encrypted" in result.stderr

    def test_at_a_host(self, run: Run, place: Any, hosted: str, refusal: Run) -> None:
        expected = document(run("generate", *place(), *ASK, "--no-compare", "--json"))["answers"][0]
        assert "one, two" in refusal("generate", *place(hosted), *ASK)["message"]
        result = run("generate", *place(hosted), *ASK, "--adapter-name", "two")
        assert "plaintext LoRA: not compared" in result.stdout
        assert f"{hosted} computes on ciphertexts" in result.stderr
        shown = document(run("generate", *place(hosted), *ASK, "--adapter-name", "two", "--json"))
        assert shown["answers"][1]["tokens"] == expected["tokens"]
        assert (shown["adapter"], shown["host"], shown["identical"]) == ("two", hosted, None)
        assert "decided at" in refusal("generate", *place(hosted), *ASK, "--backend", "rns")["message"]

    def test_ahead_of_time(self, run: Run, place: Any, refusal: Run) -> None:
        error = refusal("generate", *place(), *ASK, "--ahead", 40)
        assert (error["code"], "--assume honest-keys" in error["hint"]) == ("leakage-refused", True)
        shown = document(run("generate", *place(), *ASK, "--ahead", 40, "--assume", "honest-keys", "--json"))
        assert shown["identical"]
        assert shown["answers"][2]["assumes"] == ["honest keys"]
        assert shown["answers"][2]["correlations_left"] == 40 - 10
        short = refusal(
            "generate", *place(), *ASK, "--ahead", 7, "--assume", "honest-keys", "--fallback", "refuse", "--no-compare"
        )
        assert short["code"] == "pool-empty"

    def test_an_emulation_says_that_it_encrypts_nothing(self, run: Run, place: Any) -> None:
        result = run("generate", *place(), *ASK, "--backend", "numpy", "--no-compare")
        assert "nothing was encrypted" in result.stderr


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "code", "word"),
        [
            (("--prompt", " "), "invalid-input", "empty"),
            (("--prompt", "\udcff"), "invalid-input", "UTF-8"),
            (("--base", "nowhere"), "invalid-input", "no such folder"),
            (("--base", "."), "invalid-input", "config.json"),
            (("--adapter", "nowhere"), "adapter-format-error", "nowhere"),
            (("--adapter", "tcp://127.0.0.1:1"), "connection-lost", "nobody answers"),
            (("--adapter", "wss://127.0.0.1:1"), *NO_SERVER),
            (("--adapter", "tcp://127.0.0.1:1", "--mode", "plaintext"), "invalid-input", "needs the adapter"),
            (("--adapter-name", "two"), "invalid-input", "there is one"),
            (("--max-new-tokens", "1000"), "invalid-input", "more than the 128"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
    )
    def test_it_is_said_what_is_wrong(
        self, refusal: Run, place: Any, changes: tuple[str, ...], code: str, word: str
    ) -> None:
        error = refusal("generate", "--base", place.base, "--adapter", place.adapter, *ASK, *changes)
        assert error["code"] == code
        assert word in error["message"]

    def test_an_adapter_of_another_model(self, refusal: Run, place: Any) -> None:
        arguments = ("--base", place.base, *ASK)  # the bundled adapter
        assert "Use the base model that the adapter was made for" in refusal("generate", *arguments)["hint"]

    def test_no_torch(self, refusal: Run, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        error = refusal("generate", *place(), *ASK)
        assert (error["code"], "pip install torch" in error["hint"]) == ("model-unavailable", True)

    def test_a_wrong_command_line(self, run: Run) -> None:
        for arguments in (["generate"], ["generate", *ASK, "--ahead", "0"], ["generate", *ASK, "--mode", "split"],
                          ["model", "fetch", "gpt5"], ["chat", "--assume", "luck"]):  # fmt: skip
            assert "Usage: " in run(*arguments, code=2).stderr


def test_a_model_is_fetched_once(run: Run, place: Any, tmp_path: Path) -> None:
    folder = tmp_path / "smollm2-135m-instruct-f32"
    folder.symlink_to(place.base)
    assert run("model", "fetch", "smollm2", "--cache", tmp_path).stdout == f"{folder}\n"
    shown = document(run("model", "fetch", "smollm2", "--cache", tmp_path, "--json"))
    assert shown == {"model": "smollm2", "folder": str(folder)}


def test_the_commands_are_listed_and_light(run: Run) -> None:
    assert {"chat", "generate", "model"} <= {line.split()[0] for line in run("--help").stdout.splitlines() if line}
    code = (
        "import sys\nfrom helora_core.cli.main import main\nmain(['chat', '--help'], standalone_mode=False)\n"
        "print('heavy:', *{'numpy', 'torch', 'transformers', 'rich'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.splitlines()[-1] == "heavy:"


class TestShowing:
    @pytest.mark.parametrize(("columns", "beside"), [(80, False), (120, True)])
    def test_answers_are_side_by_side_where_there_is_room(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, beside: bool
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        texts = {Variant.BASE: "word " * 30, Variant.ENCRYPTED: "\x1b[2Jother"}
        with showing.viewing(tuple(texts), hidden=False) as view:
            for variant, text in texts.items():
                view.begin(variant)
                for piece in text.split(" "):
                    view.add(f"{piece} ")
                view.end()
        shown = capsys.readouterr().out
        final = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown[shown.rindex("base model") :]).splitlines()
        assert ("encrypted LoRA" in final[0]) is beside
        assert "?[2Jother" in shown
        if beside:
            assert max(map(len, final)) <= columns

    def test_lines_are_folded_at_a_narrow_terminal_alone(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = "  391.0 ms/token: base 328.8, encrypt 8.12, server 16.7, decrypt 5.71, link 4.55, hooks 27.1"
        showing.say(line)
        assert capsys.readouterr().out == f"{line}\n"
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        showing.say(line)
        folded = click.unstyle(capsys.readouterr().out).splitlines()
        assert max(map(len, folded)) <= 80
        assert " ".join(folded).split() == line.split()

    def test_nothing_that_steers_a_terminal_is_shown(self) -> None:
        assert plain("a\x1b[2J\r\x07b\n\tΔ\u202e") == "a?[2J??b\n\tΔ?"


def test_where_answers_differ() -> None:
    def answer(*tokens: int) -> Any:
        return type("Answer", (), {"tokens": tokens})

    assert identical_from(answer(1, 2), answer(1, 2)) is None
    assert identical_from(answer(1, 2), answer(1, 3)) == 2
    assert identical_from(answer(1, 2), answer(1, 2, 3)) == 3
    assert identical_from(answer(), answer(4)) == 1


def test_every_key_is_documented(run: Run, place: Any) -> None:
    text = (Path(helora_core.__file__).parents[1] / "docs" / "chat.md").read_text(encoding="utf-8")

    def documented(column: str) -> set[str]:
        table = text.partition(f"| {column} |")[2].partition("\n\n")[0]
        return {name.strip("`") for row in table.splitlines()[2:] for name in row.split("|")[1].strip().split(", ")}

    shown = document(run("generate", *place(), *ASK, "--no-compare", "--json"))
    (answer,) = shown["answers"]
    assert documented("key of `generate`") == set(shown)
    assert documented("key of `answers`") == set(answer)
    assert documented("key of `prompt` and `decode`") == set(answer["decode"]) == set(answer["prompt"])
