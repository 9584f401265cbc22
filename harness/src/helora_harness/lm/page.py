"""``docs/language-model-figures.md``, and a check that it still holds."""

from __future__ import annotations

from collections.abc import Iterator

from helora_core.data.bundled import DIRECTORY
from helora_core.host.manager import get_manager
from helora_harness.lm import tables as made
from helora_harness.lm.conditions import digest
from helora_harness.lm.figures import KINDS, Conditions, Figures, Kind, Part
from helora_harness.places import DOCS

PAGE = DOCS / "language-model-figures.md"
BACKEND = "rns"
"""The backend that has to have every part."""

_TITLES: dict[Kind, str] = {
    "generation": "Generation",
    "identity": "The same tokens as PEFT",
    "networks": "Over networks",
    "shapes": "The adapter of larger models",
}
_EXPLAINED: dict[Kind, str] = {
    "generation": """\
Greedy, sequences of equal length in one batch, by `model.generate`, modes by turns. A *step* is a token for every
sequence, with everything that `generate` does around it; tokens/s are of the median step, all sequences together.
*Of PEFT* is the speed over that of PEFT's LoRA in the clear for the same work in the same run. *Processor* is the
time of both processes in a step, which a busy machine stretches less than the clock's, and beside it the same
ratio. *Online* is what `attach`
does by default; *precomputed* has its pools full, and their filling is beside it, in full batches: seconds of
both parties, and bytes. *Weights* are those encoded for all plans that run online, by the plans; *server* is the
resident memory of the server's process, `helora link`: idle as it began to listen, which is before it holds
weights, and at the end with one client; *a client* is what a second one with keys and a request to every module
adds. *Bits of Δ* are what the bound on the error leaves of the worst token's Δ.""",
    "identity": """\
Greedy tokens after a chat prompt that is encrypted too, compared with those of PEFT's LoRA in the clear: all
prompts in one batch, padded on the left, half of them about what the adapter was trained on.""",
    "networks": """\
One sequence, a decoded token, through a relay between two processes. Packings that run online are compiled for
one token. Predicted is the base model's step as it was measured, plus operations by a profile of this machine,
round trips, and bytes at the network's rate, one after the other. The planner knows the round trip, and no rate;
*online* marks what it takes of packings that run online, *ahead* what it takes where honest keys are accepted and
tokens are prepared.""",
    "shapes": """\
The adapter alone, with synthetic weights and both parties in one process: no base model, no network. Some layers
are run, one token at a time, and **what is of a token is scaled to all layers**; layers have equal shapes. *Bits*
are by comparison with the adapter in the clear, at worst; plans that run ahead of time, whose precision follows
from the shape, are compiled for 12, or for 10 where they do not keep 12. *Filling* is of full batches, a token.""",
}
_TABLES = {
    "generation": made.generation,
    "identity": made.identity,
    "networks": made.networks,
    "shapes": made.shapes,
}
_INTRODUCTION = """\
<!-- Made by `helora bench lm render` from harness/lm.json: do not edit. -->

# Figures of language models

A model of transformers whose LoRA is computed on encrypted activations at every module and token, beside the same
model with PEFT's LoRA in the clear ([how to measure](benchmarks.md#language-models)). Base models run in the
clear at the client. A machine that others use gives other times from one minute to the next: each part states the
load, the number of processes that wanted to run, before and after it."""


def rendered(figures: Figures) -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for kind in KINDS:
        found = figures.of(kind)
        if found:
            parts += [f"## {_TITLES[kind]}", _EXPLAINED[kind]]
            parts += [f"{conditions(each.conditions)}\n\n{_TABLES[kind](each)}" for each in found]
    return "\n\n".join(parts) + "\n"


def tables(figures: Figures) -> str:
    """Its tables with their conditions, for a terminal."""
    return "\n\n".join(f"{conditions(each.conditions)}\n\n{_TABLES[each.kind](each)}" for each in figures.parts)


def conditions(of: Conditions) -> str:
    """How a part was measured, in words."""
    packages = ", ".join(f"{name} {version}" for name, version in of.packages.items())
    words = [
        f"**`{of.backend}`** ({of.library})" + (f" with {packages}" if packages else ""),
        *([of.model] if of.model else []),
        *(["an adapter of the same shapes that was bundled before"] if _is_another(of) else []),
        f"link {of.link}",
        f"{of.threads} thread{'s' * (of.threads != 1)}",
        f"{of.cpu_model} ({of.machine}), Python {of.python}",
        f"commit {of.commit[:8]}" + ", with changes that it does not have" * of.dirty,
        f"{of.date.date()}",
        "load not known" if of.load is None else f"load {of.load[0]:g} before and {of.load[1]:g} after",
    ]
    return "; ".join(words) + "."


def problems(figures: Figures, page: str) -> list[str]:
    """Everything that does not hold, in words; nothing if all does. Times are not judged."""
    broken = list(_missing(figures))
    for part in figures.parts:
        broken += (f"{part.kind} on {part.conditions.backend}: {what}" for what in _wrong(part))
    if rendered(figures) != page:
        broken.append(f"docs/{PAGE.name} is not what the figures give; run render")
    return broken


def _is_another(of: Conditions) -> bool:
    """Whether the bundled adapter is another one since."""
    return of.adapter not in ("", digest(DIRECTORY / "adapter"))


def _missing(figures: Figures) -> Iterator[str]:
    there = {part.kind for part in figures.parts if part.conditions.backend == BACKEND}
    missing = (kind for kind in KINDS if kind not in there)
    yield from (f"{kind} on {BACKEND} was not measured; run measure --only {kind}" for kind in missing)


def _wrong(part: Part) -> Iterator[str]:
    """What is wrong with a part's figures, clocks apart."""
    if part.identity and _is_another(part.conditions):  # times and bytes depend on shapes alone
        yield "the bundled adapter is another one since; run measure"
    for same in part.identity:
        if same.identical < same.prompts:
            yield f"{same.mode}: tokens differ from PEFT's in {same.prompts - same.identical} of {same.prompts} prompts"
    known = set(get_manager().packings())
    packings = (*(row.packings for row in part.modes), *(row.packings for row in part.shapes))
    used = {name for names in packings for name in names}
    yield from (f"there is no packing {name} any more; run measure" for name in sorted(used - known))
    for row in part.shapes:
        if row.bits is not None and row.bits < row.target_bits:
            yield f"{row.shape}, {row.mode}: Δ has {row.bits:.1f} bits, and plans promise {row.target_bits:g}"
