"""The example is run as users run it, from the command that its README shows."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from helora_core.adapter.peft import load_peft

EXAMPLE = Path(__file__).parents[2] / "examples" / "llm_shapes"


def generate(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE / "generate.py"), *arguments, "--out", str(tmp_path / "adapter")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_in_the_readme_writes_what_it_says(tmp_path: Path) -> None:
    found = re.search(r"generate\.py (?P<arguments>.*) --out ", (EXAMPLE / "README.md").read_text())
    assert found is not None
    done = generate(tmp_path, *shlex.split(found["arguments"]))
    assert done.returncode == 0, done.stderr
    adapter = load_peft(tmp_path / "adapter")
    assert {name: str(module.shape) for name, module in adapter.modules.items()} == {
        f"model.layers.{layer}.self_attn.{projection}": shape
        for layer in range(2)
        for projection, shape in (("q_proj", "1536:1536:32"), ("v_proj", "1536:256:32"))
    }


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_rank_modules_and_dtype_can_be_chosen(tmp_path: Path, dtype: str) -> None:
    done = generate(
        tmp_path, *f"--model llama-2-7b --layers 1 --modules k_proj --rank 2 --seed 7 --dtype {dtype}".split()
    )
    assert done.returncode == 0, done.stderr
    assert [str(m.shape) for m in load_peft(tmp_path / "adapter").modules.values()] == ["4096:4096:2"]


def test_an_adapter_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    arguments = ["--model", "qwen2.5-1.5b", "--layers", "1", "--modules", "k_proj", "--rank", "1"]
    assert generate(tmp_path, *arguments).returncode == 0
    before = load_peft(tmp_path / "adapter").digest
    refused = generate(tmp_path, *arguments, "--seed", "1")
    assert refused.returncode == 1
    assert "--force" in refused.stderr
    assert load_peft(tmp_path / "adapter").digest == before
    assert generate(tmp_path, *arguments, "--seed", "1", "--force").returncode == 0
    assert load_peft(tmp_path / "adapter").digest != before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [("--modules q_prj", "q_prj"), ("--layers 29", "28 layers"), ("--rank 0", "--rank"), ("--model gpt-9", "gpt-9")],
)
def test_bad_arguments_are_refused(tmp_path: Path, arguments: str, named: str) -> None:
    done = generate(tmp_path, "--model", "qwen2.5-1.5b", *arguments.split())
    assert done.returncode == 2
    assert named in done.stderr
    assert not (tmp_path / "adapter").exists()
