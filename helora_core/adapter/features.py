"""Features that adapter files hold besides plain LoRA, by the names of tensors, so that a refusal can name them."""

from __future__ import annotations

import re
from pathlib import Path

from helora_core.errors import AdapterFormatError

_NOT_PLAIN_LORA = (
    (r".*\.(lora_magnitude_vector(\..*)?|dora_scale)", "a magnitude vector of DoRA"),
    (r".*\.m", "a magnitude vector of DoRA, as MLX keeps it"),
    (r".*\.(lora_B(\.[^.]+)?|lora_up|lora_linear_layer\.up|lora\.up)\.bias", "a bias in lora_B (lora_bias)"),
    (r".*\.lora_embedding_[AB](\..*)?", "LoRA on an embedding"),
    (r".*\.lora_diag(\..*)?", "a diagonal of KaSA"),
    (r".*\.(lora_E|ranknum)(\..*)?", "AdaLoRA's singular values"),
    (r".*\.hada_[wt][12](_[ab])?(\..*)?", "a factor of LoHa (a Hadamard product)"),
    (r".*\.lokr_[wt][12](_[ab])?(\..*)?", "a factor of LoKr (a Kronecker product)"),
    (
        r".*\.(oft_blocks|oft_diag|oft_R|oft_r|oft_s|boft_R|boft_s|rescale)(\..*)?",
        "an orthogonal matrix of OFT or BOFT",
    ),
    (r".*\.(a1|a2|b1|b2|bm)\.weight", "a factor of GLoRA"),
    (r".*\.(on_input|ia3_l(\..*)?)", "a vector of IA³"),
    (r".*\.(w_norm|b_norm)", "a trained normalisation layer"),
    (r".*\.(diff|diff_b|set_weight)", "a full difference of weights"),
    (r".*\.lora_mid(\..*)?", "the core of a Tucker decomposition (LoCon)"),
    (r".*\.lora_(down|up)\.[0-9]+\.weight", "one of several LoRAs of a split layer"),
    (r".*\.(vera_lambda_[bd]|vera_[AB])(\..*)?", "a vector of VeRA"),
    (r"bundle_emb\..*", "a textual inversion bundled with it"),
    (r".*trainable_tokens.*", "trained token embeddings (trainable_token_indices)"),
    (r".*\.modules_to_save\..*", "a module saved in full (modules_to_save)"),
    (r".*_flat_param.*", "a flattened shard of FSDP"),
    (r".*\.bias", "a bias of the base model"),
)
# with a dot that stops at line ends, a name that repeats a pattern and has one would take quadratic time
_FEATURES = tuple((re.compile(pattern, re.DOTALL), feature) for pattern, feature in _NOT_PLAIN_LORA)

_WAYS_OUT = {
    "a flattened shard of FSDP": "Save the whole state dict (FULL_STATE_DICT, or unwrap and gather first).",
}


def feature_of(key: str) -> str | None:
    """The feature that a tensor outside plain LoRA belongs to, by its name; None if the name does not tell."""
    return next((feature for pattern, feature in _FEATURES if pattern.fullmatch(key)), None)


def unsupported(path: Path, key: str, feature: str) -> AdapterFormatError:
    """The refusal of a tensor that belongs to an unsupported feature."""
    return AdapterFormatError(
        f"{path}: tensor {key!r} is {feature}, which is not supported.",
        hint=_WAYS_OUT.get(feature, "Train or convert the adapter as plain LoRA on linear layers."),
    )
