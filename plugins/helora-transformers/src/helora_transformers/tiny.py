"""Models of a few thousand numbers in the shapes of those that people use, with PEFT adapters of random numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

WORDS = 96
_LLAMA = {
    "vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": None,
}  # fmt: skip
_OTHERS: dict[str, tuple[Callable[..., PretrainedConfig], dict[str, Any], list[str]]] = {
    "llama": (LlamaConfig, _LLAMA, ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    "qwen2": (Qwen2Config, _LLAMA, ["q_proj", "v_proj"]),
    "gemma2": (Gemma2Config, {**_LLAMA, "head_dim": 8}, ["q_proj", "v_proj", "down_proj"]),
    "phi3": (Phi3Config, _LLAMA, ["qkv_proj", "gate_up_proj"]),
    "gpt2": (
        GPT2Config,
        {"vocab_size": WORDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "pad_token_id": 0,
         "bos_token_id": 1, "eos_token_id": None},
        ["c_attn", "c_fc"],
    ),
    "gpt_neox": (
        GPTNeoXConfig,
        {name: value for name, value in _LLAMA.items() if name != "num_key_value_heads"},
        ["query_key_value", "dense_4h_to_h"],
    ),
}  # fmt: skip
KINDS = tuple(_OTHERS)


def base_model(kind: str = "llama", seed: int = 0, **changes: Any) -> Any:
    """A base model, the same of one seed."""
    make, arguments, _ = _OTHERS[kind]
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AutoModelForCausalLM.from_config(make(**{**arguments, **changes})).eval()


def mixture() -> Any:
    """A mixture of experts."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(MixtralConfig(**_LLAMA, num_local_experts=4, num_experts_per_tok=2)).eval()


def adapted(kind: str, folder: Path, *, seed: int = 1, targets: list[str] | None = None, **config: Any) -> Any:
    """PEFT's model of ``base_model(kind)`` with an adapter that matters; the adapter is also written to ``folder``."""
    targets = targets or _OTHERS[kind][2]
    torch.manual_seed(seed)
    wanted = {"r": 4, "lora_alpha": 8, "fan_in_fan_out": kind == "gpt2", "init_lora_weights": False, **config}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(base_model(kind), LoraConfig(target_modules=targets, task_type="CAUSAL_LM", **wanted))
        model.save_pretrained(str(folder))
    return model.eval()


def save_tiny(folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write ``base_model("llama", seed)`` and a tokenizer of as many words, which has a chat template, to a folder."""
    words = ["<pad>", "<s>", "<unk>", "user", "assistant", ".", *(f"w{number}" for number in range(6, WORDS))]
    model = WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), pad_token="<pad>", unk_token="<unk>")
    tokenizer.backend_tokenizer.pre_tokenizer = Whitespace()
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.role }} {{ message.content }} . {% endfor %}"
        "{% if add_generation_prompt %}assistant{% endif %}"
    )
    base_model("llama", seed, **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def prompt(*lengths: int, seed: int = 2) -> dict[str, torch.Tensor]:
    """Random prompts of these lengths, padded on the left."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    ids = torch.randint(3, WORDS, (len(lengths), longest), generator=generator)
    mask = torch.stack([torch.arange(longest) >= longest - length for length in lengths]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}
