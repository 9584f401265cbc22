"""Record what the adapted modules of a real model really see, so that tests need neither torch nor the model.

Random vectors have no outliers; activations of a language model do, and an encryption's scale and precision have to
bear them. One prompt runs through SmolLM2-135M-Instruct with the adapter, and forward hooks record the input of every
adapted module at the last positions. For a few modules torch's own LoRA output is stored beside them, so that a
plaintext reference can be checked against peft itself.
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import base_model
import torch
from base_model import Tokenizer, chat_prompt, load_adapted, package_versions
from peft import PeftModel
from peft.tuners.lora import Linear
from safetensors.torch import save

PEFT_PREFIX = "base_model.model."
DEFAULT_QUESTION = "What is the lighthouse on the island of Helora called?"
DELTA_LAYERS = (0, 14, 29)

Tensors = dict[str, torch.Tensor]


@dataclass
class Recording:
    """Inputs, unadapted outputs, outputs and LoRA deltas by module name; each tokens x features."""

    inputs: Tensors = field(default_factory=dict)
    base_outputs: Tensors = field(default_factory=dict)
    outputs: Tensors = field(default_factory=dict)
    deltas: Tensors = field(default_factory=dict)


def adapted_modules(model: PeftModel) -> dict[str, Linear]:
    """Return the adapted modules by the name their tensors have in the adapter file, less peft's prefix."""
    modules = {name: module for name, module in model.named_modules() if isinstance(module, Linear)}
    return {name.removeprefix(PEFT_PREFIX): module for name, module in modules.items()}


def watch(module: Linear, name: str, recording: Recording) -> None:
    """Make every forward pass of ``module`` write what goes in and what comes out to ``recording``."""
    scale = module.scaling["default"]

    def on_module(_module: torch.nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        recording.inputs[name] = args[0][0].clone()
        recording.outputs[name] = output[0].clone()

    def on_base(_module: torch.nn.Module, _args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        recording.base_outputs[name] = output[0].clone()

    def on_up(_module: torch.nn.Module, _args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        recording.deltas[name] = output[0] * scale

    module.register_forward_hook(on_module)
    module.base_layer.register_forward_hook(on_base)
    module.lora_B["default"].register_forward_hook(on_up)


@torch.inference_mode()
def record(model: PeftModel, tokenizer: Tokenizer, prompt: str, count: int) -> tuple[Recording, list[str]]:
    """Run ``prompt`` once; return the recording and the tokens of the last ``count`` positions."""
    recording = Recording()
    modules = adapted_modules(model)
    for name, module in modules.items():
        watch(module, name, recording)
    encoded = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    token_ids = encoded["input_ids"][0].tolist()
    if len(token_ids) < count:
        raise SystemExit(f"the prompt has {len(token_ids)} tokens, fewer than the {count} asked for: lengthen it")
    model(**encoded)
    for name in modules:
        if not torch.equal(recording.outputs[name], recording.base_outputs[name] + recording.deltas[name]):
            raise SystemExit(f"{name}: the output is not the base output plus the recorded delta")
    return recording, [str(tokenizer.decode([token])) for token in token_ids[-count:]]


def distinct_inputs(inputs: Tensors, count: int) -> tuple[Tensors, dict[str, str]]:
    """Return each layer's input once, last ``count`` positions, and which of them each module reads."""
    tensors: Tensors = {}
    keys: dict[str, str] = {}
    for name, x in inputs.items():
        key = name.rpartition(".")[0] + ".input"
        tail = x[-count:].contiguous()
        if not torch.equal(tensors.setdefault(key, tail), tail):
            raise SystemExit(f"{name}: its input differs from that of its neighbour, stored as {key}")
        keys[name] = key
    return tensors, keys


def save_reproducibly(tensors: Tensors, path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file whose bytes depend on its contents alone: safetensors orders metadata at random."""
    raw = save(tensors, metadata)
    body = 8 + int.from_bytes(raw[:8], "little")
    header = json.dumps(json.loads(raw[8:body]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + raw[body:])


def print_magnitudes(tensors: Tensors) -> None:
    """Print size and spread of a few inputs: what an encryption's scale has to bear."""
    for layer in DELTA_LAYERS:
        x = tensors[f"model.layers.{layer}.self_attn.input"]
        print(f"layer {layer:2d} input {tuple(x.shape)}  max|x| {x.abs().max():.3f}  std {x.std():.3f}")


def parse_args() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description="Record the inputs of all adapted modules of SmolLM2-135M-Instruct for one prompt.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--cache", type=Path, default=base_model.DEFAULT_CACHE, help="converted base model")
    parser.add_argument("--adapter", type=Path, default=base_model.DATA_DIR / "adapter", help="adapter to load")
    parser.add_argument("--out", type=Path, default=base_model.DATA_DIR, help="directory of the recorded tensors")
    parser.add_argument("--question", default=DEFAULT_QUESTION, help="what the prompt asks")
    parser.add_argument("--tokens", type=int, default=32, help="positions to keep, counted from the prompt's end")
    parser.add_argument("--threads", type=int, default=2, help="threads torch may use")
    return parser.parse_args()


def main() -> None:
    """Record one prompt and write ``activations.safetensors`` and ``torch_deltas.safetensors``."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    model, tokenizer = load_adapted(args.cache, args.adapter)
    prompt = chat_prompt(tokenizer, args.question)
    recording, tokens = record(model, tokenizer, prompt, args.tokens)
    tensors, keys = distinct_inputs(recording.inputs, args.tokens)
    names = [f"model.layers.{layer}.self_attn.{side}_proj" for layer in DELTA_LAYERS for side in "qv"]
    deltas = {name: recording.deltas[name][-args.tokens :].contiguous() for name in names}
    metadata = {
        "prompt": prompt,
        "tokens": json.dumps(tokens),
        "model": base_model.BASE_MODEL,
        "versions": json.dumps(package_versions()),
    }
    activations = {"format": "helora-activations/1", "inputs": json.dumps(keys)}
    args.out.mkdir(parents=True, exist_ok=True)
    save_reproducibly(tensors, args.out / "activations.safetensors", activations | metadata)
    save_reproducibly(deltas, args.out / "torch_deltas.safetensors", {"format": "helora-deltas/1"} | metadata)
    print_magnitudes(tensors)
    print(f"{len(tensors)} distinct inputs of {len(keys)} modules, {len(deltas)} deltas, written to {args.out}")


if __name__ == "__main__":
    main()
