"""The adapter plane alone, in the shapes of models whose base model is not run here: synthetic weights, both parties in
one process, one token after the other through a few layers. It needs no torch.

A token takes every layer after the other, so that what some layers take is scaled to all of them; layers of one model
have equal shapes, and weights of any values take the same operations.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAAdapter, LoRAModule, ModuleShape
from helora_core.adapter.synthetic import LLM_LAYERS, LLM_SHAPES, synthetic_activations, synthetic_module
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import AUTO, DEFAULT_PRECISION_BITS, Constraints
from helora_core.errors import HeloraError
from helora_core.execution.reference import precision_bits
from helora_core.parties.client import Client
from helora_core.parties.compile import compile
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.parties.limits import ServerLimits
from helora_core.parties.request_report import Report
from helora_core.parties.result import Link, Result
from helora_core.privacy.leakage import Assumption
from helora_harness.lm.figures import PRECOMPUTED, Phases, Shaped

ASSUMED = Constraints(assume=frozenset({Assumption.HONEST_KEYS}))
"""What plans that run ahead of time rest on."""


TARGETS = (DEFAULT_PRECISION_BITS, 10.0)
"""Bits that plans must keep; the second if plans that run ahead of time, whose precision follows from the shape, do not
keep the first."""


class AdapterShape(NamedTuple):
    """The adapter of a model.

    Attributes:
        groups: The modules of a layer by name, those that read one input together.
        layers: Of the model.
    """

    groups: tuple[Mapping[str, ModuleShape], ...]
    layers: int


def _attention(model: str) -> AdapterShape:
    shapes = {pattern.rpartition(".")[2]: shape for pattern, shape in LLM_SHAPES[model]}
    inputs = (("q_proj", "k_proj", "v_proj"), ("o_proj",))
    return AdapterShape(tuple({name: shapes[name] for name in names} for names in inputs), LLM_LAYERS[model])


_SMALL = {"q_proj": ModuleShape.parse("576:576:8"), "v_proj": ModuleShape.parse("576:192:8")}
SHAPES: Mapping[str, AdapterShape] = MappingProxyType(
    {
        "smollm2-135m": AdapterShape((_SMALL,), 30),
        **{model: _attention(model) for model in ("qwen2.5-1.5b", "llama-2-7b")},
    }
)
"""By name: the bundled adapter's shape, and LoRA of rank 32 and 16 on q, k, v and o of two models."""


def measured(name: str, mode: str, backend: str, *, layers: int, tokens: int, packing: str = AUTO) -> Shaped:
    """Run a shape; a refusal is a row too.

    Args:
        name: Of ``SHAPES``.
        mode: ``ONLINE`` or ``PRECOMPUTED``.
        backend: Name of the backend.
        layers: To run, at most the model's.
        tokens: To run through them after one that is not timed.
        packing: Of plans that run online.
    """
    shape = SHAPES[name]
    layers = min(layers, shape.layers)
    about = Shaped(
        shape=name, mode=mode, modules=tuple(_described(group) for group in shape.groups), layers=shape.layers
    )
    adapter = _adapter(name, shape, layers)
    refused = ""
    for bits in TARGETS if mode == PRECOMPUTED else TARGETS[:1]:
        wanted = _with(about, target_bits=bits)
        try:
            return _run(wanted, adapter, _groups(shape, layers), backend, layers, tokens, packing)
        except HeloraError as refusal:
            refused = refused or refusal.message
    return _with(about, refused=refused)


def _run(
    about: Shaped,
    adapter: LoRAAdapter,
    groups: list[tuple[str, ...]],
    backend: str,
    layers: int,
    tokens: int,
    packing: str,
) -> Shaped:
    lora = _compiled(adapter, about, backend, packing)
    server = lora.server(limits=ServerLimits(batches=4 * len(adapter.modules)))
    client = lora.client(server.offer())
    keys = client.evaluation_keys()
    session = server.open(keys)
    plans = [plan for group in groups for name in group for plan in client.plans_of(name)]
    ahead = _fill(client, session, groups, tokens + 1) if about.mode == PRECOMPUTED else (0.0, 0.0, 0.0)
    bits, milliseconds, reports = float("inf"), list[float](), list[list[Report]]()
    modules = {module.name: module for module in adapter.modules.values()}
    inputs = _inputs(modules, groups, tokens + 1)
    for token in range(tokens + 1):
        start, results = time.perf_counter(), []
        for group in groups:
            results.append(client.run(group, inputs[group][token : token + 1], session))
        elapsed = 1000 * (time.perf_counter() - start)
        bits = min(
            bits, *(_bits(each, modules, inputs[group][token]) for each, group in zip(results, groups, strict=True))
        )
        if token:
            milliseconds.append(elapsed)
            reports.append([each.report for each in results])
    scale = about.layers / layers

    def of_token(ask: Callable[[Report], float]) -> float:
        """The median over tokens, of all layers."""
        return scale * statistics.median(sum(map(ask, of_one)) for of_one in reports)

    return _with(
        about,
        measured_layers=layers,
        tokens=tokens,
        packings=tuple(dict.fromkeys(plan.packing.name for plan in plans)),
        ring_degrees=tuple(dict.fromkeys(plan.params.ring_degree for plan in plans)),
        token_ms=scale * statistics.median(milliseconds),
        phases=Phases(
            encrypt=of_token(lambda report: report.times.encrypt / 1e6),
            server=of_token(lambda report: report.times.compute / 1e6),
            decrypt=of_token(lambda report: report.times.decrypt / 1e6),
        ),
        bytes_up=of_token(lambda report: report.bytes_up),
        bytes_down=of_token(lambda report: report.bytes_down),
        rotations=of_token(lambda report: report.executed.rotations),
        keys_bytes=len(keys),
        ahead_us=scale * ahead[0],
        ahead_up=scale * ahead[1],
        ahead_down=scale * ahead[2],
        bits=bits,
        **stated(plans),
    )


def _compiled(adapter: LoRAAdapter, about: Shaped, backend: str, packing: str) -> CompiledLoRA:
    if about.mode != PRECOMPUTED:
        return compile(adapter, tokens=1, packing=packing, backend=backend)
    accepted = msgspec.structs.replace(ASSUMED, fixed_bits=about.target_bits)
    return compile(adapter, packing="precomputed", backend=backend, constraints=accepted)


def stated(plans: list[Plan]) -> dict[str, Any]:
    """``sanitize_bits``, ``leakage`` and ``assumes`` of plans."""
    return {
        "sanitize_bits": min((plan.sanitize_bits for plan in plans if plan.sanitize_bits), default=None),
        "leakage": max((plan.leakage_label for plan in plans), key=len),
        "assumes": tuple(dict.fromkeys(each.value for plan in plans for each in plan.packing.leakage.assumes)),
    }


def _fill(client: Client, session: Link, groups: list[tuple[str, ...]], tokens: int) -> tuple[float, float, float]:
    """Prepare for some tokens, in full batches; microseconds, bytes up and bytes down for each token of those."""
    us, up, down = 0.0, 0.0, 0.0
    for group in groups:
        preparation = client.prepare(group, max(tokens, client.plans_of(group[0])[0].tokens_per_run))
        while not preparation.done:
            preparation.receive(session.answer(preparation.message()))
        report, left = preparation.report, client.left(group)
        us += report.times.total / 1e3 / left
        up += report.bytes_up / left
        down += report.bytes_down / left
    return us, up, down


def _adapter(name: str, shape: AdapterShape, layers: int) -> LoRAAdapter:
    drawn = [
        synthetic_module(shapes[module], seed=0, name=full)
        for group, shapes in zip(_groups(shape, layers), layers * shape.groups, strict=True)
        for full, module in zip(group, shapes, strict=True)
    ]
    return LoRAAdapter.from_modules(drawn, source=f"synthetic {name}")


def _groups(shape: AdapterShape, layers: int) -> list[tuple[str, ...]]:
    return [
        tuple(f"model.layers.{layer}.self_attn.{module}" for module in group)
        for layer in range(layers)
        for group in shape.groups
    ]


def _inputs(
    modules: Mapping[str, LoRAModule], groups: list[tuple[str, ...]], tokens: int
) -> dict[tuple[str, ...], NDArray[np.float64]]:
    return {
        group: synthetic_activations(modules[group[0]].shape, tokens, seed=number)
        for number, group in enumerate(groups)
    }


def _bits(result: Result, modules: Mapping[str, LoRAModule], x: NDArray[np.float64]) -> float:
    return min(
        precision_bits(delta, modules[name].reference_delta(x[np.newaxis])) for name, delta in result.deltas.items()
    )


def _described(group: Mapping[str, ModuleShape]) -> str:
    return " + ".join(f"{name.removesuffix('_proj')} {shape}" for name, shape in group.items())


def _with(about: Shaped, **values: Any) -> Shaped:
    return msgspec.structs.replace(about, **values)
