"""Finds the modules of a model that an adapter names, and which of them read the same input."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from helora_core.errors import InvalidInput
from helora_transformers.errors import ModelUnsupported

_DUMMY_TOKENS = 3
"""Tokens of the pass that discovers groups; a module that gets some of them is found out by its input's shape."""


@dataclass(frozen=True)
class Site:
    """A module of the model that gets a Δ.

    Attributes:
        name: Its name in the model, ``model.layers.0.self_attn.q_proj``.
        module: The linear layer; ``Conv1D`` of GPT-2 is one, as is a fused qkv.
        d_in: Length of its input.
        d_out: Length of its output.
    """

    name: str
    module: nn.Module
    d_in: int
    d_out: int


def require_plain(model: nn.Module) -> None:
    """Check that hooks on the model's modules will be called, once a pass.

    Raises:
        ModelUnsupported: It is compiled, wrapped by PEFT, or in a state in which modules run twice.
    """
    if not isinstance(model, nn.Module):
        raise InvalidInput(
            f"attach: {type(model).__name__} is not a model of torch.",
            hint="Give the object that AutoModelForCausalLM.from_pretrained returned.",
        )
    compiled = [name for name, each in model.named_modules() if _is_compiled(each)]
    if compiled:
        raise ModelUnsupported(
            f"attach: the model is compiled ({compiled[0] or 'as a whole'}); hooks added later are never called.",
            hint="Attach to the model as it was loaded. Compiling it afterwards leaves the hooks out of the graph.",
        )
    wrapped = [name for name, each in model.named_modules() if type(each).__module__.startswith("peft.")]
    if wrapped:
        raise ModelUnsupported(
            "attach: the model has an adapter of PEFT.",
            hint="Attach to the base model, without get_peft_model or PeftModel: the adapter stays with its owner.",
        )
    require_inference(model)
    if any(getattr(each, "gradient_checkpointing", False) for each in model.modules()):
        raise ModelUnsupported(
            "attach: gradient checkpointing runs modules a second time.",
            hint="Call model.activation_checkpointing_disable(), gradient_checkpointing_disable() in older releases.",
        )


def require_inference(model: nn.Module) -> None:
    """Check that the model is not being trained.

    Raises:
        ModelUnsupported: It is in train mode.
    """
    if model.training:
        raise ModelUnsupported(
            f"{type(model).__name__} is in train mode; encrypted Δ has no gradient.", hint="Call model.eval()."
        )


def sites_of(model: nn.Module, parts: Mapping[str, tuple[int, int]]) -> dict[str, Site]:
    """The modules that an adapter's parts name.

    Args:
        model: The model.
        parts: (d_in, d_out) of each part, by its name.

    Raises:
        InvalidInput: A name is none of the model's, or its sizes are others.
        ModelUnsupported: It is not a linear layer.
    """
    modules = dict(model.named_modules())
    unknown = [name for name in parts if name not in modules]
    if unknown:
        close = difflib.get_close_matches(unknown[0], modules, n=1)
        raise InvalidInput(
            f"attach: the adapter has {unknown[0]}, which {type(model).__name__} has not ({len(unknown)} of "
            f"{len(parts)} modules are unknown).",
            hint=(f"The model has {close[0]}. " if close else "") + "Use the base model that the adapter was made for.",
        )
    return {name: _site(name, modules[name], sizes) for name, sizes in parts.items()}


def _site(name: str, module: nn.Module, expected: tuple[int, int]) -> Site:
    if isinstance(module, nn.Embedding):
        raise ModelUnsupported(f"attach: {name} is an embedding.", hint="Adapters of linear layers are supported.")
    sizes = _sizes(module)
    if sizes is None:
        raise ModelUnsupported(
            f"attach: {name} is a {type(module).__name__}, not a linear layer.",
            hint="Layers with in_features and out_features, and GPT-2's Conv1D, are supported.",
        )
    if sizes != expected:
        raise InvalidInput(
            f"attach: {name} maps {sizes[0]} to {sizes[1]} features, and the adapter's Δ {expected[0]} to "
            f"{expected[1]}.",
            hint="Use the base model that the adapter was made for.",
        )
    return Site(name, module, *sizes)


def _sizes(module: nn.Module) -> tuple[int, int] | None:
    """Of a layer's input and output. Quantised layers may have no ``weight`` to ask, so it is not asked."""
    for source, target in (("in_features", "out_features"), ("nx", "nf")):
        sizes = getattr(module, source, None), getattr(module, target, None)
        if isinstance(sizes[0], int) and isinstance(sizes[1], int):
            return sizes[0], sizes[1]
    return None


def input_groups(model: nn.Module, sites: Mapping[str, Site]) -> list[list[str]]:
    """Names of sites that get the very same input tensor, in the order in which a forward pass calls them.

    One pass over three tokens finds out. Tensors are held until it ends, since addresses are used again.

    Raises:
        ModelUnsupported: A site is not called, or gets some of the tokens only, as the experts of a mixture do.
    """
    seen: list[tuple[str, torch.Tensor]] = []
    with torch.no_grad(), _watched(sites.values(), seen):
        model(**_dummy_inputs(model))
    called = {name for name, _ in seen}
    if missing := [name for name in sites if name not in called]:
        raise ModelUnsupported(
            f"attach: a forward pass does not call {missing[0]} ({len(missing)} of {len(sites)} modules).",
            hint="Modules of experts and of other inputs than text are not supported.",
        )
    groups: list[tuple[torch.Tensor, list[str]]] = []
    for name, x in seen:
        if tuple(x.shape) != (1, _DUMMY_TOKENS, sites[name].d_in):
            raise ModelUnsupported(
                f"attach: {name} gets an input of shape {tuple(x.shape)}, not (batch, tokens, {sites[name].d_in}).",
                hint="Experts of a mixture and routers, which get some of the tokens, are not supported.",
            )
        if groups and groups[-1][0] is x:
            groups[-1][1].append(name)
        else:
            groups.append((x, [name]))
    return [list(dict.fromkeys(names)) for _, names in groups]


@contextmanager
def _watched(sites: Sequence[Site] | Any, seen: list[tuple[str, torch.Tensor]]) -> Iterator[None]:
    """While this is open, inputs of sites are appended to ``seen``."""

    def watching(site: Site) -> Any:
        def pre_hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append((site.name, input_of(args, kwargs)))

        return pre_hook

    handles = [site.module.register_forward_pre_hook(watching(site), with_kwargs=True) for site in sites]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def input_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Tensor:
    """A linear layer's input: the first argument that is a tensor, by position or by name."""
    for each in (*args, *kwargs.values()):
        if isinstance(each, torch.Tensor):
            return each
    raise ModelUnsupported("A linear layer was called without a tensor.", hint="This model is not supported.")


def _dummy_inputs(model: nn.Module) -> dict[str, Any]:
    device = next(model.parameters()).device
    return {"input_ids": torch.zeros((1, _DUMMY_TOKENS), dtype=torch.long, device=device), "use_cache": False}


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
