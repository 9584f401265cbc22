"""``helora compile``, and ``helora run --artifact``, which never sees the adapter."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.load import load_adapter
from helora_core.adapter.lora import LoRAAdapter, ModuleShape
from helora_core.adapter.npz import save_npz
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.data.bundled import DIRECTORY, bundled_activations, bundled_adapter
from helora_core.execution.reference import precision_bits

SHAPE = ModuleShape.parse("37:20:3")
OPEN = ("--packing", "rank_bsgs", "--no-private-weights")
NUMPY = ("--backend", "numpy", "--no-private-weights")
BUNDLED = "model.layers.3.self_attn.q_proj"


@pytest.fixture
def adapter(tmp_path: Path) -> LoRAAdapter:
    names = [f"layers.{i}.{name}" for i in range(2) for name in ("q_proj", "v_proj")]
    modules = [synthetic_module(SHAPE, seed=i, name=name) for i, name in enumerate(names)]
    save_npz(LoRAAdapter.from_modules(modules, source="test"), tmp_path / "adapter.npz")
    return load_adapter(tmp_path / "adapter.npz")


@pytest.fixture
def x(tmp_path: Path) -> Any:
    values = synthetic_activations(SHAPE, 5, seed=1).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    return values


@pytest.fixture
def artifact(adapter: LoRAAdapter, helora: Callable[..., Any], tmp_path: Path) -> Path:
    """The adapter, compiled and then gone."""
    shown = helora("compile", "--adapter", "adapter.npz", "--out", "artifact", "--tokens", "5", *OPEN)
    assert shown.exit_code == 0, shown.output
    (tmp_path / "adapter.npz").unlink()
    return tmp_path / "artifact"


@pytest.mark.usefixtures("on_seal")
@pytest.mark.parametrize("how", [("--no-private-weights",), ()], ids=["bare", "sanitised"])
def test_the_bundled_adapter_end_to_end(helora_json: Callable[..., Any], tmp_path: Path, how: tuple[str, ...]) -> None:
    """On SEAL, from an adapter that is deleted before the run, with the defaults and without sanitising."""
    shutil.copytree(DIRECTORY / "adapter", tmp_path / "adapter")
    written = helora_json(
        "compile", "--adapter", "adapter", "--module", "layers.3.*", "--out", "a", "--tokens", "4",
        "--packing", "rank_bsgs", *how,
    )  # fmt: skip
    shutil.rmtree(tmp_path / "adapter")
    x = bundled_activations()[BUNDLED][:4]
    np.save(tmp_path / "x.npy", x)
    document = helora_json(
        "run", "--artifact", "a", "--module", "q_proj", "--input", "x.npy", "--output", "d.npy",
        "--backend", "tenseal", *how,
    )  # fmt: skip
    assert document["artifact_digest"] == written["artifact_digest"]
    reference = bundled_adapter().modules[BUNDLED].reference_delta(x)
    measured = precision_bits(np.load(tmp_path / "d.npy"), reference)
    (row,) = document["modules"]
    assert 12 <= row["bound_bits"] <= measured
    assert row["precision_bits"] is None
    assert row["sanitize_bits"] == (None if how else 40)


def test_the_keys_are_those_documented(
    helora_json: Callable[..., Any], documented: Callable[..., set[str]], adapter: LoRAAdapter, x: Any
) -> None:
    written = helora_json("compile", "--adapter", "adapter.npz", "--out", "a", *OPEN)
    assert set(written) == documented("helora compile")
    for row in written["modules"]:
        assert set(row) == documented("helora compile", "key of `modules`")
    document = helora_json("run", "--artifact", "a", "--input", "x.npy", "--output", "d.npy", *NUMPY)
    assert set(document) == documented("helora demo") | documented("From an artifact")


def test_what_is_written_is_shown(helora: Callable[..., Any], artifact: Path, x: Any) -> None:
    shown = helora("compile", "--adapter", DIRECTORY / "adapter", "--module", BUNDLED, "--out", "b", *OPEN)
    assert "wrote b: 4 files" in shown.stdout
    assert BUNDLED in shown.stdout
    ran = helora("run", "--artifact", "artifact", "--input", "x.npy", "--output", "d.npy", *NUMPY)
    assert ran.exit_code == 0, ran.output
    assert "cannot be compared with the plaintext reference" in ran.stderr
    assert "wrote d.layers.0.q_proj.npy" in ran.stdout


def test_modules_that_share_an_input(
    helora: Callable[..., Any], helora_json: Callable[..., Any], refusal: Callable[..., Any], adapter: LoRAAdapter,
    x: Any, tmp_path: Path,
) -> None:  # fmt: skip
    written = helora_json(
        "compile", "--adapter", "adapter.npz", "--module", "layers.0.*", "--out", "a", "--share", *OPEN
    )
    assert [row["parts"] for row in written["modules"]] == [["layers.0.q_proj", "layers.0.v_proj"]]
    document = helora_json(
        "run", "--artifact", "a", "--module", "v_proj", "--input", "x.npy", "--output", "d.npy", *NUMPY
    )
    assert [row["d_out"] for row in document["modules"]] == [40]
    assert document["modules"][0]["output"] == ["d.layers.0.q_proj.npy", "d.layers.0.v_proj.npy"]
    for name in written["modules"][0]["parts"]:
        reference = adapter.modules[name].reference_delta(x)
        found = np.load(tmp_path / f"d.{name}.npy")
        np.testing.assert_allclose(found, reference, rtol=0, atol=np.max(np.abs(reference)) / 2**10)
    np.savez(tmp_path / "x.npz", **{"layers.0.q_proj": x, "layers.0.v_proj": x + 1})
    error = refusal("run", "--artifact", "a", "--input", "x.npz", "--output", "d.npy", *NUMPY)
    assert error["code"] == "invalid-input"


@pytest.mark.parametrize("given", [(), ("--adapter", "adapter.npz", "--artifact", "a")], ids=["neither", "both"])
def test_one_of_adapter_and_artifact(helora: Callable[..., Any], given: tuple[str, ...]) -> None:
    shown = helora("run", *given, "--input", "x.npy", "--output", "d.npy")
    assert shown.exit_code == 2
    assert "--adapter PATH and --artifact DIR" in shown.stderr


@pytest.mark.parametrize("option", [("--packing", "zero_moai"), ("--ring", "8192"), ("--tokens", "4"), ("--share",)])
def test_what_is_settled_cannot_be_asked_for(
    helora: Callable[..., Any], artifact: Path, x: Any, option: tuple[str, ...]
) -> None:
    shown = helora("run", "--artifact", "artifact", "--input", "x.npy", "--output", "d.npy", *option)
    assert shown.exit_code == 2
    assert f"{option[0]} was fixed when the artifact was compiled" in shown.stderr


def test_defaults_from_a_file_are_no_such_demand(helora: Callable[..., Any], artifact: Path, x: Any) -> None:
    Path("helora.toml").write_text('packing = "zero_moai"\nring = 16384\n', encoding="utf-8")
    shown = helora("run", "--artifact", "artifact", "--input", "x.npy", "--output", "d.npy", *NUMPY)
    assert shown.exit_code == 0, shown.output


def test_bare_results_are_refused_where_weights_are_private(
    refusal: Callable[..., Any], artifact: Path, x: Any
) -> None:
    error = refusal("run", "--artifact", "artifact", "--input", "x.npy", "--output", "d.npy", "--backend", "numpy")
    assert error["code"] == "leakage-refused"


def test_the_bound_stands_in_for_the_check(refusal: Callable[..., Any], artifact: Path, x: Any, tmp_path: Path) -> None:
    error = refusal(
        "run", "--artifact", "artifact", "--input", "x.npy", "--output", "d.npy", "--min-bits", "40", *NUMPY
    )
    assert error["code"] == "precision-lost"
    assert "the bound on the error leaves less than 40 bits" in error["message"]
    assert not (tmp_path / "d.npy").exists()


def test_a_higher_security_level_is_refused(refusal: Callable[..., Any], artifact: Path, x: Any) -> None:
    error = refusal(
        "run", "--artifact", "artifact", "--input", "x.npy", "--output", "d.npy", "--security", "256", *NUMPY
    )
    assert error["code"] == "insecure-parameters"


def test_a_changed_file_is_refused_by_name(refusal: Callable[..., Any], artifact: Path, x: Any) -> None:
    path = artifact / "modules" / "0002.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    error = refusal("run", "--artifact", "artifact", "--input", "x.npy", "--output", "d.npy", *NUMPY)
    assert error["code"] == "artifact-invalid"
    assert "0002.safetensors" in error["message"]


def test_packings_that_need_the_adapter_are_refused(refusal: Callable[..., Any], adapter: LoRAAdapter) -> None:
    error = refusal(
        "compile", "--adapter", "adapter.npz", "--out", "a", "--packing", "zero_moai", "--no-private-weights"
    )
    assert error["code"] == "invalid-input"
    assert "zero_moai" in error["message"]
    assert not Path("a").exists()


def test_what_is_there_is_replaced_only_with_force(
    helora: Callable[..., Any], refusal: Callable[..., Any], artifact: Path
) -> None:
    again = ("compile", "--adapter", DIRECTORY / "adapter", "--module", BUNDLED, "--out", "artifact", *OPEN)
    assert "--force" in refusal(*again)["hint"]
    assert helora(*again, "--force").exit_code == 0
    assert len(list((artifact / "modules").iterdir())) == 1


def test_the_planner_chooses_what_runs_without_the_adapter(
    helora_json: Callable[..., Any], adapter: LoRAAdapter
) -> None:
    written = helora_json("compile", "--adapter", "adapter.npz", "--out", "a", "--tokens", "64")
    assert {row["sanitize_bits"] for row in written["modules"]} == {40}
    everything = helora_json("compile", "--adapter", "adapter.npz", "--out", "b", "--no-private-weights")
    assert len(everything["modules"]) == 4


def test_what_shared_inputs_save_is_said_for_each_number_of_tokens(
    helora: Callable[..., Any], helora_json: Callable[..., Any]
) -> None:
    shape = ModuleShape.parse("64:48:4")
    modules = [synthetic_module(shape, seed=i, name=f"l.{name}") for i, name in enumerate(("q_proj", "v_proj"))]
    save_npz(LoRAAdapter.from_modules(modules, source="test"), Path("shared.npz"))
    compile_shared = ("compile", "--adapter", "shared.npz", "--share", "--tokens", "1,256", "--force", "--out", "s")
    rows = helora_json(*compile_shared)["modules"]
    assert [row["tokens"] for row in rows] == [1, 256]
    assert all(row["saved"]["encryptions_per_token"] > 0 for row in rows)
    shown = helora(*compile_shared).stdout
    assert all(f"of upload per token, of {tokens} run together" in shown for tokens in (1, 256))
