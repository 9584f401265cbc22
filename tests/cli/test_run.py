"""``helora run``: Δ of your adapter, checked before it is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.load import load_adapter
from helora_core.adapter.lora import LoRAAdapter, LoRAModule, ModuleShape
from helora_core.adapter.npz import save_npz
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module

SHAPE = ModuleShape.parse("37:20:3")
NUMPY = ("--backend", "numpy")


@pytest.fixture
def x(tmp_path: Path) -> Any:
    values = synthetic_activations(SHAPE, 5, seed=1).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    return values


@pytest.fixture
def adapter(tmp_path: Path, x: Any, turned_away: Callable[..., LoRAModule]) -> Path:
    modules = [synthetic_module(SHAPE, seed=i, name=f"layers.{i}.q_proj") for i in range(2)]
    modules.append(turned_away(synthetic_module(SHAPE, seed=9, name="layers.9.faint"), x))
    save_npz(LoRAAdapter.from_modules(modules, source="test"), tmp_path / "adapter.npz")
    return tmp_path / "adapter.npz"


def assert_delta(path: Path, adapter: Path, module: str, x: Any) -> None:
    delta = np.load(path, allow_pickle=False)
    reference = load_adapter(adapter).modules[module].reference_delta(x)
    assert delta.dtype == np.float64
    np.testing.assert_allclose(delta, reference, rtol=0, atol=np.max(np.abs(reference)) / 2**12)


@pytest.mark.parametrize("backend", ["numpy", "tenseal"])
@pytest.mark.parametrize("packing", ["rank_bsgs", "zero_moai"])
def test_delta_is_written_as_the_reference_has_it(
    helora_json: Callable[..., Any], adapter: Path, x: Any, tmp_path: Path, backend: str, packing: str
) -> None:
    document = helora_json(
        "run", "--adapter", adapter, "--module", "layers.1.q_proj", "--input", "x.npy", "--output", "delta.npy",
        "--backend", backend, "--packing", packing, "--no-private-weights",
    )  # fmt: skip
    assert_delta(tmp_path / "delta.npy", adapter, "layers.1.q_proj", x)
    assert document["backend"] == backend
    assert document["secure"] is (backend == "tenseal")
    (row,) = document["modules"]
    assert (row["module"], row["packing"], row["tokens"]) == ("layers.1.q_proj", packing, 5)
    assert row["output"] == "delta.npy"


def test_the_keys_are_those_documented(
    helora_json: Callable[..., Any], documented: Callable[..., set[str]], adapter: Path, x: Any
) -> None:
    document = helora_json(
        "run", "--adapter", adapter, "--module", "q_proj", "--input", "x.npy", "--output", "d.npy", *NUMPY
    )
    keys = documented("Keys of a plan") - {"program", "batch_for_default_budget"}
    keys |= documented("helora demo", "key of `modules`") | documented("helora run", "key of `modules`")
    assert set(document) == documented("helora demo")
    for row in document["modules"]:
        assert set(row) == keys


def test_several_modules_go_to_a_file_each(helora: Callable[..., Any], adapter: Path, x: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    shown = helora(
        "run", "--adapter", adapter, "--module", "q_proj", "--input", "x.npy", "--output", "out/delta.npy", *NUMPY
    )
    assert shown.exit_code == 0
    names = [f"delta.layers.{i}.q_proj.npy" for i in range(2)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for i, name in enumerate(names):
        assert_delta(tmp_path / "out" / name, adapter, f"layers.{i}.q_proj", x)
        assert f"wrote out/{name}" in shown.stdout


def test_each_module_may_have_activations_of_its_own(
    helora: Callable[..., Any], adapter: Path, x: Any, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", **{"layers.0.q_proj": x, "layers.1.q_proj": 2 * x[:1]})
    shown = helora("run", "--adapter", adapter, "--module", "q_proj", "--input", "x.npz", "--output", "d.npy", *NUMPY)
    assert shown.exit_code == 0
    assert_delta(tmp_path / "d.layers.0.q_proj.npy", adapter, "layers.0.q_proj", x)
    assert_delta(tmp_path / "d.layers.1.q_proj.npy", adapter, "layers.1.q_proj", 2 * x[:1])


def test_modules_named_like_paths_get_files_all_the_same(helora: Callable[..., Any], x: Any, tmp_path: Path) -> None:
    modules = [synthetic_module(SHAPE, seed=i, name=f"encoder/{i}") for i in range(2)]
    save_npz(LoRAAdapter.from_modules(modules, source="test"), tmp_path / "a.npz")
    shown = helora("run", "--adapter", "a.npz", "--input", "x.npy", "--output", "d.npy", *NUMPY)
    assert shown.exit_code == 0
    for i in range(2):
        assert_delta(tmp_path / f"d.encoder%2F{i}.npy", tmp_path / "a.npz", f"encoder/{i}", x)


@pytest.mark.parametrize("size", [1e-9, 1e9])
def test_weights_and_activations_of_any_size_are_as_precise(
    helora_json: Callable[..., Any], adapter: Path, x: Any, tmp_path: Path, size: float
) -> None:
    module = load_adapter(adapter).modules["layers.0.q_proj"]
    scaled = LoRAModule("scaled", module.down * size, module.up * size, module.scaling)
    save_npz(LoRAAdapter.from_modules([module, scaled], source="test"), tmp_path / "a.npz")
    tokens = np.asarray(x, dtype=np.float64)
    np.savez(tmp_path / "x.npz", **{module.name: tokens, "scaled": tokens * size})
    document = helora_json("run", "--adapter", "a.npz", "--input", "x.npz", "--output", "d.npy", *NUMPY)
    usual, other = document["modules"]
    assert other["exponent"] != usual["exponent"]
    assert other["precision_bits"] >= other["bound_bits"] == pytest.approx(usual["bound_bits"], abs=3)


def test_target_bits_choose_and_min_bits_judge(helora_json: Callable[..., Any], adapter: Path, x: Any) -> None:
    one = ("run", "--adapter", adapter, "--module", "layers.0.*", "--input", "x.npy", "--output", "d.npy", "--force")
    one = (*one, *NUMPY)
    (usual,) = helora_json(*one)["modules"]
    (judged,) = helora_json(*one, "--min-bits", usual["bound_bits"] - 0.5)["modules"]
    (chosen,) = helora_json(*one, "--target-bits", 20)["modules"]
    assert judged["digest"] == usual["digest"] != chosen["digest"]
    assert chosen["bound_bits"] > usual["bound_bits"]


class TestNothingIsWritten:
    def files(self, tmp_path: Path) -> set[str]:
        return {path.name for path in tmp_path.rglob("*.npy")}

    def test_when_the_precision_asked_for_is_beyond_ckks(
        self, refusal: Callable[..., Any], adapter: Path, x: Any, tmp_path: Path
    ) -> None:
        error = refusal(
            "run", "--adapter", adapter, "--module", "q_proj", "--input", "x.npy", "--output", "delta.npy",
            "--target-bits", "60", "--packing", "rank_bsgs", "--no-private-weights", *NUMPY,
        )  # fmt: skip
        assert error["code"] == "invalid-parameters"
        assert self.files(tmp_path) == {"x.npy"}

    def test_when_one_result_of_several_is_not_precise_enough(
        self, refusal: Callable[..., Any], adapter: Path, x: Any, tmp_path: Path
    ) -> None:
        error = refusal("run", "--adapter", adapter, "--input", "x.npy", "--output", "delta.npy", *NUMPY)
        assert error["code"] == "precision-lost"
        assert "layers.9.faint has" in error["message"]
        assert "q_proj" not in error["message"]
        assert self.files(tmp_path) == {"x.npy"}

    def test_and_what_is_said_to_help_does(
        self, refusal: Callable[..., Any], helora_json: Callable[..., Any], x: Any, turned_away: Callable[..., Any]
    ) -> None:
        module = turned_away(synthetic_module(SHAPE, seed=9, name="weak"), x, left=2.0**-8)
        save_npz(LoRAAdapter.from_modules([module], source="test"), Path("weak.npz"))
        run = ("run", "--adapter", "weak.npz", "--input", "x.npy", "--output", "delta.npy", "--packing", "rank_bsgs")
        hint = refusal(*run, *NUMPY)["hint"]
        target = hint.partition("--target-bits ")[2].partition(",")[0]
        (row,) = helora_json(*run, *NUMPY, "--target-bits", target)["modules"]
        assert row["bound_bits"] >= 12

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"--input": "missing.npy"}, "invalid-input"),
            ({"--adapter": "missing"}, "adapter-format-error"),
            ({"--module": "k_proj"}, "invalid-input"),
            ({"--ring": "2048"}, "invalid-parameters"),
            ({"--backend": "nope"}, "backend-unavailable"),
            ({"--output": "delta.npz"}, "invalid-input"),
            ({"--output": "missing/delta.npy"}, "invalid-input"),
        ],
        ids=str,
    )
    def test_when_anything_is_refused(
        self,
        refusal: Callable[..., Any],
        adapter: Path,
        x: Any,
        tmp_path: Path,
        changes: dict[str, str],
        code: str,
    ) -> None:
        options = {"--adapter": adapter, "--module": "layers.0.q_proj", "--input": "x.npy", "--output": "delta.npy"}
        options |= {"--backend": "numpy"} | changes  # type: ignore[assignment]
        assert refusal("run", *[word for pair in options.items() for word in pair])["code"] == code
        assert self.files(tmp_path) == {"x.npy"}


class TestShown:
    def test_people_see_a_row_per_module_and_a_total(self, helora: Callable[..., Any], adapter: Path, x: Any) -> None:
        shown = helora(
            "run", "--adapter", adapter, "--module", "q_proj", "--input", "x.npy", "--output", "d.npy", *NUMPY
        )
        lines = shown.stdout.splitlines()
        assert [line.split()[:2] for line in lines[1:3]] == [
            ["layers.0.q_proj", "37:20:3"],
            ["layers.1.q_proj", "37:20:3"],
        ]
        assert lines[3].startswith("all 2")

    @pytest.mark.parametrize(
        ("backend", "packing", "warnings"),
        [
            ("numpy", "rank_bsgs", ["nothing was encrypted", "not sanitised"]),
            ("tenseal", "rank_bsgs", ["not sanitised"]),
            ("tenseal", "zero_moai", ["WEIGHTS NOT PRIVATE: packing zero_moai: The key holder reads each product"]),
        ],
    )
    def test_what_a_run_does_not_protect_is_said_on_standard_error(
        self, helora: Callable[..., Any], adapter: Path, x: Any, backend: str, packing: str, warnings: list[str]
    ) -> None:
        shown = helora(
            "run", "--adapter", adapter, "--module", "layers.0.q_proj", "--input", "x.npy", "--output", "d.npy",
            "--backend", backend, "--packing", packing, "--no-private-weights",
        )  # fmt: skip
        said = [line for line in shown.stderr.splitlines() if line.startswith("warning: ")]
        assert len(said) == len(warnings)
        for line, warning in zip(said, warnings, strict=True):
            assert warning in line
        assert "warning" not in shown.stdout
