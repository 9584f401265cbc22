"""Adapters and activations of realistic magnitude, for benchmarks, plans and examples without trained ones."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from helora_core.adapter.lora import FloatArray, LoRAModule, ModuleShape
from helora_core.errors import InvalidInput

UP_STD = 5e-3
OUTLIER_SHARE = 1e-3
OUTLIER_FACTOR = 20.0


def synthetic_module(
    shape: ModuleShape, *, seed: int, name: str = "synthetic", alpha: float | None = None
) -> LoRAModule:
    """A module whose entries have the magnitude of a trained one's.

    ``down`` is uniform on ±1/√d_in: PEFT's initialisation (``kaiming_uniform_`` with a = √5, in
    ``LoraLayer.reset_lora_parameters``), whose size training keeps. ``up`` starts at zero, and Adam moves an entry by
    about the learning rate a step whatever the gradient's size (Kingma and Ba, arXiv:1412.6980, §2.1): at the usual
    1e-4 to 2e-4, a walk of some hundred to a few thousand steps ends at 1e-3 to 1e-2, and 5e-3 is the standard
    deviation drawn here. The adapter in ``helora_core/data/smollm2_lora``, trained at 2e-3, bears this out: its ``up``
    has a standard deviation of 2.2e-2, and that of its ``down`` is 1.46 times the initial one.

    Args:
        shape: d_in, d_out and rank.
        seed: Not negative. The same seed, name and shape give the same module; another name gives another module.
        name: The module's name.
        alpha: α of the scaling α/r; 2r if not given, the common choice.

    Raises:
        InvalidInput: The seed is negative.
        AdapterFormatError: ``alpha`` is not finite, or the name is empty.
    """
    rng = _generator(seed, f"module {name}")
    bound = shape.d_in**-0.5
    down = rng.uniform(-bound, bound, size=(shape.rank, shape.d_in))
    up = rng.normal(scale=UP_STD, size=(shape.d_out, shape.rank))
    return LoRAModule(name, down, up, 2.0 if alpha is None else alpha / shape.rank)


def synthetic_activations(shape: ModuleShape, tokens: int, *, seed: int) -> FloatArray:
    """Activations like those that enter q, k, v, gate and up projections, tokens × d_in, float64.

    After RMSNorm, and before its gain, a channel is about N(0, 1). A thousandth of the channels, at least one, are
    outliers, the same for every token and twenty times as large: in models of 6.7 billion parameters and more, Dettmers
    et al. (LLM.int8(), arXiv:2208.07339) find about 0.1 % of the features up to 20 times as large as the others. A CKKS
    scale must leave room for these.

    Args:
        shape: Only d_in is used.
        tokens: Rows, at least one.
        seed: Not negative.

    Raises:
        InvalidInput: ``tokens`` is not positive, or the seed is negative.
    """
    if tokens < 1:
        raise InvalidInput(f"Synthetic activations: {tokens} tokens.", hint="Ask for at least one token.")
    rng = _generator(seed, "activations")
    x = rng.normal(size=(tokens, shape.d_in))
    outliers = rng.choice(shape.d_in, size=max(1, round(shape.d_in * OUTLIER_SHARE)), replace=False)
    x[:, outliers] *= OUTLIER_FACTOR
    return x


def _generator(seed: int, purpose: str) -> np.random.Generator:
    if seed < 0:
        raise InvalidInput(f"Synthetic data: the seed {seed} is negative.", hint="Use zero or a positive whole number.")
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def _decoder(hidden: int, key_value: int, intermediate: int, rank: int) -> tuple[tuple[str, ModuleShape], ...]:
    """The seven projections of a Llama-style decoder layer, in the order in which a token passes them."""
    widths = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (hidden, key_value),
        "self_attn.v_proj": (hidden, key_value),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (hidden, intermediate),
        "mlp.up_proj": (hidden, intermediate),
        "mlp.down_proj": (intermediate, hidden),
    }
    return tuple(
        (f"model.layers.*.{path}", ModuleShape(d_in=d_in, d_out=d_out, rank=rank))
        for path, (d_in, d_out) in widths.items()
    )


LLM_SHAPES: Mapping[str, tuple[tuple[str, ModuleShape], ...]] = MappingProxyType(
    {
        "qwen2.5-1.5b": _decoder(hidden=1536, key_value=256, intermediate=8960, rank=32),
        "llama-2-7b": _decoder(hidden=4096, key_value=4096, intermediate=11008, rank=16),
    }
)
"""Per model, each projection's name, with ``*`` for the layer as `LoRAAdapter.select` takes it, and its usual shape."""

LLM_LAYERS: Mapping[str, int] = MappingProxyType({"qwen2.5-1.5b": 28, "llama-2-7b": 32})
"""The number of decoder layers of each model in `LLM_SHAPES`."""
