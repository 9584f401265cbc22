from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helora_core.adapter.peft_config import PEFTConfig, read_peft_config
from helora_core.errors import AdapterFormatError

FIXTURES = Path(__file__).parent / "fixtures"
SAVED_BY_PEFT = json.loads((FIXTURES / "plain" / "mica_f32" / "adapter_config.json").read_text())
Q3 = "model.layers.3.self_attn.q_proj"


@pytest.fixture
def config_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes PEFT's own file with changes; a change to Ellipsis leaves the field out."""

    def write(**changes: Any) -> Path:
        fields = {name: value for name, value in {**SAVED_BY_PEFT, **changes}.items() if value is not ...}
        path = tmp_path / "adapter_config.json"
        path.write_text(json.dumps(fields))
        return path

    return write


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "meant"),
        [
            ("q_proj", True),
            ("self_attn.q_proj", True),
            ("3.self_attn.q_proj", True),
            (Q3, True),
            (f"^{Q3}", True),
            (r".*\.q_proj", True),
            (r"layers\.[0-3]\..*", True),
            ("q_proj|v_proj", True),
            ("v_proj|q_proj", True),
            ("proj", False),
            ("_proj", False),
            ("attn.q_proj", False),
            ("^self_attn.q_proj", False),
            ("self_attn", False),
            ("Q_proj", False),
            ("layers.3", False),
        ],
    )
    def test_a_key_matches_the_name_or_its_end_after_a_dot(self, pattern: str, meant: bool) -> None:
        config = PEFTConfig(r=8, lora_alpha=16, rank_pattern={pattern: 2}, alpha_pattern={pattern: 6})
        assert config.rank_of(Q3) == (2 if meant else 8)
        assert config.scaling_of(Q3) == (3.0 if meant else 2.0)

    def test_the_first_match_counts(self) -> None:
        config = PEFTConfig(r=8, lora_alpha=16, rank_pattern={"v_proj": 1, ".*q_proj": 2, "q_proj": 3})
        assert config.rank_of(Q3) == 2

    def test_a_name_that_is_no_match_of_itself_is_still_found(self) -> None:
        config = PEFTConfig(r=8, lora_alpha=16, rank_pattern={"blocks[0].q": 2})
        assert config.rank_of("blocks[0].q") == 2
        assert config.rank_of("model.blocks[0].q") == 8


class TestReading:
    def test_what_peft_saves_is_read(self, config_file: Callable[..., Path]) -> None:
        config = read_peft_config(config_file(r=4, lora_alpha=5.5, use_rslora=True, rank_pattern={"q": 2}))
        assert config == PEFTConfig(r=4, lora_alpha=5.5, use_rslora=True, rank_pattern={"q": 2}, alpha_pattern={})

    @pytest.mark.parametrize("init", [True, False, None, "gaussian", "eva", "orthogonal", "mica", ...])
    def test_initialisations_that_leave_the_base_alone_are_taken(
        self, config_file: Callable[..., Path], init: Any
    ) -> None:
        assert read_peft_config(config_file(init_lora_weights=init)).r == 2

    @pytest.mark.parametrize(
        "harmless",
        [
            {"fan_in_fan_out": True},
            {"lora_dropout": 0.1},
            {"target_modules": "all-linear"},
            {"exclude_modules": ["lm_head"], "layers_to_transform": [0, 1], "layers_pattern": "layers"},
            {"task_type": "CAUSAL_LM", "inference_mode": False, "revision": "main", "base_model_name_or_path": "x/y"},
            {"eva_config": {"rho": 2.0}, "init_lora_weights": "eva"},
            {"ensure_weight_tying": True},
            {"runtime_config": {"ephemeral_gpu_offload": True}},
            {"rank_pattern": None, "alpha_pattern": None},
            {"bias": ...},
            {"field_of_the_future": None},
            {"field_of_the_future": False, "another": {}},
        ],
    )
    def test_fields_without_effect_on_delta_are_passed_over(
        self, config_file: Callable[..., Path], harmless: dict[str, Any]
    ) -> None:
        assert read_peft_config(config_file(**harmless)).r == 2


class TestRefusals:
    @pytest.mark.parametrize(
        ("field", "value", "feature"),
        [
            ("use_dora", True, "DoRA"),
            ("lora_bias", True, "bias in lora_B"),
            ("modules_to_save", ["classifier", "score"], "saved in full"),
            ("target_parameters", ["experts.gate_up_proj"], "experts"),
            ("trainable_token_indices", [1, 2], "token"),
            ("layer_replication", [[0, 4], [2, 5]], "replicated"),
            ("alora_invocation_tokens", [5], "aLoRA"),
            ("use_qalora", True, "QA-LoRA"),
            ("use_bdlora", {"nblocks": 2}, "block-diagonal"),
            ("arrow_config", {"top_k": 3}, "Arrow"),
            ("kasa_config", {"beta": 1e-4}, "KaSA"),
            ("megatron_config", {"x": 1}, "Megatron"),
        ],
    )
    def test_features_beyond_plain_lora(
        self, config_file: Callable[..., Path], refused: Callable[..., Any], field: str, value: Any, feature: str
    ) -> None:
        with refused(AdapterFormatError, "adapter_config.json", field, feature, hint=field):
            read_peft_config(config_file(**{field: value}))

    @pytest.mark.parametrize("value", [True, 1, "on", [0], {"a": None}])
    def test_unknown_fields_that_are_set(
        self, config_file: Callable[..., Path], refused: Callable[..., Any], value: Any
    ) -> None:
        with refused(AdapterFormatError, "adapter_config.json", "field_of_the_future", hint="field_of_the_future"):
            read_peft_config(config_file(field_of_the_future=value))

    def test_no_field_of_peft_is_unknown(self, config_file: Callable[..., Path]) -> None:
        for field in SAVED_BY_PEFT:
            try:
                read_peft_config(config_file(**{field: {"switched": "on"}}))
            except AdapterFormatError as error:
                assert "unknown" not in error.message  # noqa: PT017 - some are read

    @pytest.mark.parametrize("bias", ["all", "lora_only", True])
    def test_trained_biases(self, config_file: Callable[..., Path], refused: Callable[..., Any], bias: Any) -> None:
        with refused(AdapterFormatError, "bias", repr(bias), hint="bias='none'"):
            read_peft_config(config_file(bias=bias))

    @pytest.mark.parametrize(
        "init", ["pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "loftq", "lora_ga", "tomorrow", [], {"a": 1}]
    )
    def test_initialisations_that_change_the_base(
        self, config_file: Callable[..., Path], refused: Callable[..., Any], init: Any
    ) -> None:
        with refused(AdapterFormatError, "init_lora_weights", repr(init), hint="path_initial_model"):
            read_peft_config(config_file(init_lora_weights=init))

    @pytest.mark.parametrize("kind", ["ADALORA", "LOHA", "lora", None, ...])
    def test_other_methods(self, config_file: Callable[..., Path], refused: Callable[..., Any], kind: Any) -> None:
        with refused(AdapterFormatError, "adapter_config.json", "peft_type"):
            read_peft_config(config_file(peft_type=kind))

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("r", 0),
            ("r", -1),
            ("r", 2.5),
            ("r", "8"),
            ("r", None),
            ("r", True),
            ("r", 10**30),
            ("r", ...),
            ("lora_alpha", ...),
            ("lora_alpha", "16"),
            ("lora_alpha", None),
            ("lora_alpha", 10**400),
            ("use_rslora", "yes"),
            ("rank_pattern", ["q_proj"]),
            ("rank_pattern", {"q_proj": 1.5}),
            ("rank_pattern", {"q_proj": 0}),
            ("alpha_pattern", {"q_proj": "8"}),
        ],
    )
    def test_fields_of_wrong_types(
        self, config_file: Callable[..., Path], refused: Callable[..., Any], field: str, value: Any
    ) -> None:
        with refused(AdapterFormatError, "adapter_config.json", field if value != 10**400 else ""):
            read_peft_config(config_file(**{field: value}))

    @pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern"])
    @pytest.mark.parametrize("pattern", ["(", "[", "*", "a{99999999999}", "(" * 5000])
    def test_patterns_that_are_none(
        self, config_file: Callable[..., Path], refused: Callable[..., Any], field: str, pattern: str
    ) -> None:
        with refused(AdapterFormatError, "adapter_config.json", repr(pattern), hint=field):
            read_peft_config(config_file(**{field: {pattern: 1}}))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"null",
            b"[]",
            b"3",
            b"{",
            b'{"peft_type": "LORA"} {}',
            b'{"lora_alpha": NaN}',
            b'{"lora_alpha": 1e999}',
            b"\xff\xfe{\x00}\x00",
            b'{"peft_type": "\xff"}',
            b"[" * 100_000,
            b'{"a":' * 100_000,
        ],
    )
    def test_files_that_are_no_json_object(self, tmp_path: Path, refused: Callable[..., Any], content: bytes) -> None:
        path = tmp_path / "adapter_config.json"
        path.write_bytes(content)
        with refused(AdapterFormatError, str(path), "JSON"):
            read_peft_config(path)

    def test_files_that_cannot_be_opened(self, tmp_path: Path, refused: Callable[..., Any]) -> None:
        for path in (tmp_path / "adapter_config.json", tmp_path):
            with refused(AdapterFormatError, str(path), "cannot be read"):
                read_peft_config(path)
