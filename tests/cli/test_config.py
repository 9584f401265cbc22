"""Where defaults come from, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHAPE = ("plan", "--shape", "64:64:4", "--packing", "rank_bsgs")


@pytest.fixture
def settings(tmp_path: Path) -> Callable[[str], Path]:
    """Writes helora.toml in the working directory."""

    def write(content: str) -> Path:
        path = tmp_path / "helora.toml"
        path.write_text(content, encoding="utf-8")
        return path

    return write


def test_without_any_setting_the_smallest_ring_is_chosen(helora_json: Callable[..., Any]) -> None:
    assert helora_json(*SHAPE)["ring_degree"] == 8192


def test_a_file_in_the_working_directory_sets_defaults(helora_json: Callable[..., Any], settings: Any) -> None:
    settings('ring = 32768\nsecurity = 192\npacking = "zero_moai"\nmin-bits = 9.5\nprivate_weights = false\n')
    row = helora_json(*SHAPE[:3])
    assert (row["ring_degree"], row["packing"]) == (32768, "zero_moai")
    assert row["security_limit_bits"] == 597


def test_the_environment_comes_before_the_file_and_the_command_line_before_both(
    helora_json: Callable[..., Any], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings("ring = 32768")
    assert helora_json(*SHAPE)["ring_degree"] == 32768
    monkeypatch.setenv("HELORA_RING", "16384")
    assert helora_json(*SHAPE)["ring_degree"] == 16384
    assert helora_json(*SHAPE, "--ring", "8192")["ring_degree"] == 8192


def test_a_file_may_be_named_and_is_then_the_only_one(
    helora_json: Callable[..., Any], settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings("ring = 32768")
    (tmp_path / "other.toml").write_text("ring = 16384", encoding="utf-8")
    monkeypatch.setenv("HELORA_CONFIG", str(tmp_path / "other.toml"))
    assert helora_json(*SHAPE)["ring_degree"] == 16384


def test_the_backend_of_the_environment_is_used(
    helora_json: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELORA_BACKEND", "numpy")
    document = helora_json("demo", "--module", "layers.0.self_attn.q_proj", "--tokens", "1")
    assert (document["backend"], document["secure"]) == ("numpy", False)


@pytest.mark.parametrize(
    ("content", "said"),
    [("ring = ", "helora.toml"), ("rings = 8192", "no setting rings"), ("[run]\nring = 1", "no setting run")],
)
def test_a_file_that_makes_no_sense_is_refused(
    refusal: Callable[..., Any], settings: Any, content: str, said: str
) -> None:
    settings(content)
    error = refusal(*SHAPE)
    assert error["code"] == "invalid-input"
    assert said in error["message"]


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no /dev/null here")
def test_a_device_may_stand_for_no_file(helora_json: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELORA_CONFIG", "/dev/null")
    assert helora_json(*SHAPE)["ring_degree"] == 8192


def test_a_file_that_is_named_must_be_there(refusal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELORA_CONFIG", "missing.toml")
    assert "missing.toml" in refusal(*SHAPE)["message"]


def test_a_value_of_the_wrong_kind_in_the_file_is_a_wrong_command_line(helora: Any, settings: Any) -> None:
    settings('ring = "large"')
    assert helora(*SHAPE).exit_code == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("ring = " + "[" * 5000 + "]" * 5000, "not TOML"),
        ("ring = " + "{a = " * 5000 + "1" + "}" * 5000, "not TOML"),
        (".".join("a" * 5000) + " = 1", "helora.toml: "),  # no TOML to some parsers, no setting to the rest
        ("ring = " + "9" * 5000, "not TOML"),
        ("ring = 0x" + "F" * 9000, "ring"),
        ("ring = 8192\nring = 16384", "not TOML"),
        ("ring = 8192\n" + "#" * 70_000, "more than"),
        ("min_bits = nan", "min_bits"),
        ("min_bits = inf", "min_bits"),
        ("min_bits = true", "min_bits"),
        ("ring = [8192]", "ring"),
        ("ring = 2020-01-01", "ring"),
        ('private_weights = "no"', "private_weights"),
        ("private_weights = 0", "private_weights"),
        ("min-bits = 9\nmin_bits = 10", "twice"),
    ],
)
def test_hostile_files_are_refused_without_a_traceback(
    refusal: Callable[..., Any], settings: Any, content: str, said: str
) -> None:
    settings(content)
    error = refusal(*SHAPE)
    assert error["code"] == "invalid-input"
    assert said in error["message"]


def test_bytes_that_are_no_utf_8_are_refused(refusal: Callable[..., Any], settings: Any) -> None:
    settings("").write_bytes(b'backend = "\xff"')
    assert "UTF-8" in refusal(*SHAPE)["message"]
