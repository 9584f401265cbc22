"""``attach``: a model, and the host of its adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from helora_core.adapter.load import load_adapter
from helora_core.adapter.lora import LoRAAdapter
from helora_core.compiler.request import AUTO
from helora_core.errors import InvalidInput
from helora_core.parties.client import Client
from helora_core.parties.compile import compile
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.parties.limits import ServerLimits
from helora_core.parties.server import Server
from helora_transformers.adapter import Ahead, Fallback
from helora_transformers.bank import AHEAD, DEFAULT, Bank, offered_adapters, only
from helora_transformers.buckets import DEFAULT_WEIGHT_BYTES, compiled_in_buckets
from helora_transformers.discover import require_plain
from helora_transformers.private import PrivateModel

PRECOMPUTED = "precomputed"
"""The packing of plans that run ahead of time."""


def attach(
    model: nn.Module,
    adapter: Bank | CompiledLoRA | LoRAAdapter | str | Path,
    *,
    adapter_name: str | None = None,
    ahead: int = 0,
    fallback: Fallback | str = Fallback.REFUSE,
    on_prepared: Callable[[float], object] = lambda share: None,
    buckets: Sequence[int] | None = None,
    weight_bytes: int = DEFAULT_WEIGHT_BYTES,
    packing: str = AUTO,
    **wishes: Any,
) -> PrivateModel:
    """Give a model's modules the Δ of an adapter that stays encrypted, from now on and for every token.

    Args:
        model: A causal language model of transformers, as it was loaded, in evaluation mode.
        adapter: What has the adapter: ``connect("tcp://…")`` for a host elsewhere. An adapter, or the path of one, runs
            both parties in this process, which measures and protects nobody.
        adapter_name: Which of the host's adapters; it may be left out if there is one.
        ahead: Tokens to prepare for, before this returns and again in the background: Δ takes microseconds then. 0 for
            none. The owner of the adapter has to accept what that rests on (``Constraints.assume``).
        fallback: What to do when less is prepared than is asked for: ``refuse``, ``wait`` or ``online``.
        on_prepared: Called with the share that is prepared, for progress bars.
        buckets: Numbers of tokens that plans are made for, if the adapter is compiled here; as many of 1, 16 and 64 as
            memory allows if None.
        weight_bytes: Bytes of encoded weights, if the adapter is compiled here and ``buckets`` is None.
        packing: Packing of the plans that run online, if the adapter is compiled here.
        wishes: Further arguments of ``helora_core.compile``, if the adapter is compiled here.

    Raises:
        ModelUnsupported: The model is compiled, in train mode, wrapped by PEFT, or a mixture of experts at these
            modules.
        InvalidInput: The adapter's modules are not the model's; or the host has no such adapter or plans.
        LeakageRefused: What runs ahead of time rests on an assumption that was not accepted.
        HeloraError: As ``compile`` and ``Client`` raise it.
    """
    require_plain(model)
    preparing = Ahead(ahead, _fallback(fallback))
    if isinstance(adapter, (str, Path, LoRAAdapter, CompiledLoRA)):
        loras = _compiled(adapter, preparing, buckets=buckets, most_bytes=weight_bytes, packing=packing, **wishes)
        first = next(iter(loras.values()))
        modules = sum(len(lora.by_name) for lora in loras.values())
        host: Bank = Server(loras, limits=ServerLimits(batches=max(ServerLimits().batches, 4 * modules)))
        offer = host.offer()
        client = first.client(offer, low_water=preparing.low_water)
        where = "both parties in this process: protects nobody"
    else:
        if buckets is not None or packing != AUTO or wishes:
            raise InvalidInput(
                "attach: the host compiled its adapter already.", hint="Leave out packing, buckets and constraints."
            )
        host, offer = adapter, adapter.offer()
        client = Client(offer, low_water=preparing.low_water)
        where = f"at {getattr(adapter, 'address', 'a host')}"
    adapters = offered_adapters(offer, client)
    chosen = only(adapters, adapter_name)
    private = PrivateModel(model, host, client, adapters, where=where, ahead=preparing, on_prepared=on_prepared)
    try:
        private.set_adapter(chosen.name)
    except BaseException:
        private.close()
        raise
    return private


def _fallback(fallback: Fallback | str) -> Fallback:
    try:
        return Fallback(fallback)
    except ValueError:
        raise InvalidInput(
            f"attach: fallback is {fallback!r}.", hint=f"Choose one of {', '.join(each.value for each in Fallback)}."
        ) from None


def _compiled(
    adapter: LoRAAdapter | CompiledLoRA | str | Path, ahead: Ahead, *, buckets: Sequence[int] | None, most_bytes: int,
    packing: str, **wishes: Any,
) -> dict[str, CompiledLoRA]:  # fmt: skip
    """The adapter's plans that run online, if they are needed, and those that run ahead of time."""
    if isinstance(adapter, CompiledLoRA):
        return {DEFAULT: adapter}
    loaded = adapter if isinstance(adapter, LoRAAdapter) else load_adapter(Path(adapter))
    loras = {}
    if not ahead.tokens or ahead.fallback is Fallback.ONLINE:
        loras[DEFAULT] = compiled_in_buckets(loaded, buckets=buckets, most_bytes=most_bytes, packing=packing, **wishes)
    if ahead.tokens:
        loras[DEFAULT + AHEAD] = compile(loaded, packing=PRECOMPUTED, **wishes)
    return loras
