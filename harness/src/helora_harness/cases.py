"""The one set of cells – backend × packing × shape × tokens – that everything in the harness draws from, by preset.

=========  =====================================================================================================
ci         the cells of the counts gate: every packing on the emulation, a few cells on every other backend; those
           of packings that run ahead of time on backends that can; seconds
default    every packing on shapes of small and middling modules, on the emulation and TenSEAL
llm        the modules of models of 1.5 and 7 billion parameters, with the packings that are meant for them
full       all of the above, on every backend
=========  =====================================================================================================

No cell is dropped because its backend is missing on a machine: ``absent`` says which are, and commands print it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from helora_core.errors import HeloraError
from helora_harness.rows import Cell

BACKENDS = ("numpy", "rns", "tenseal", "pyfhel", "openfhe")
"""The backends of this repository that compute differently; ``openfhe_auto`` is OpenFHE again."""

SMALL = ("512:512:8", "576:576:8", "576:192:8", "1024:1024:16")
"""The first bundled adapter's modules among them."""

MODELS = ("1536:1536:16", "1536:1536:32", "1536:256:16", "1536:8960:32", "8960:1536:32", "4096:4096:16", "4096:4096:64")
"""Attention and feed-forward modules of Qwen2.5-1.5B, and attention modules of Llama-2-7B."""

_MERGED = ("512:512:8", "576:192:8", "1536:1536:16", "1536:256:16", "4096:4096:16")
"""For packings that merge the rank away: another rank would be the same cell again."""

SHAPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "rank_bsgs": (*SMALL, *MODELS),
        "zero_moai": (*SMALL, *MODELS),
        "cpmm": ("512:512:8", "576:192:8", "1536:1536:16", "1536:256:16", "4096:4096:64"),
        "halevi_shoup": _MERGED,
        "halevi_shoup_bsgs": (*_MERGED, "1536:8960:32", "8960:1536:32"),
        "outer_product": (*SMALL, *MODELS),
        "cheetah": (*SMALL, *MODELS),
        "cheetah_two_round": (*SMALL, *MODELS),
    }
)
"""The shapes that each packing is worth looking at for."""

AHEAD: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "precomputed": ("512:512:8", "576:768:16", "1536:1536:32", "4096:4096:16"),
        "precomputed_exact": ("512:512:8", "576:768:16", "1536:1536:32", "4096:4096:16"),
    }
)
"""The same for packings that run ahead of time: shapes that they have to be fast for. Their counts are a batch's,
whatever the tokens; they are measured by benchmarks of their own."""

AHEAD_BACKENDS = ("numpy", "rns")
"""The backends that can."""

TIMED_SHAPES = ("576:768:16", "1536:1536:16", "1536:8960:32", "4096:4096:16")
"""The shapes whose wall times are history: q and v of SmolLM2-135M together, Qwen2.5-1.5B, and Llama-2-7B."""

_TIMED_TOKENS = {"rank_bsgs": (1, 16), "cheetah_two_round": (1, 16), "cpmm": (1024,)}
_COMPARED = ("1536:1536:16",)

_QUICK = ("512:512:8", "1536:1536:16")
_BATCHES = (1, 8)
_FOR_MODELS = ("rank_bsgs", "zero_moai", "cheetah", "cheetah_two_round")


def timed(backends: Iterable[str], client_finishes: Collection[str]) -> tuple[Cell, ...]:
    """The cells whose wall times are history, on backends that encrypt: sanitised wherever the weights can be private.

    Packings that are there to be compared with have one cell.

    Args:
        backends: Names.
        client_finishes: Packings whose client owns the adapter, so that there is nothing to keep from it.
    """
    found = []
    for backend in backends:
        for packing in SHAPES:
            shapes, tokens = (TIMED_SHAPES, _TIMED_TOKENS[packing]) if packing in _TIMED_TOKENS else (_COMPARED, (1,))
            private = packing not in client_finishes
            found += [
                Cell(backend=backend, packing=packing, shape=shape, tokens=number, sanitized=private)
                for shape in shapes
                for number in tokens
            ]
        if backend in AHEAD_BACKENDS:
            found += [
                Cell(backend=backend, packing=packing, shape=shape, tokens=1, sanitized=True)
                for packing in AHEAD
                for shape in AHEAD[packing]
                if shape in TIMED_SHAPES
            ]
    return tuple(found)


class UnknownPreset(HeloraError):
    """The preset does not exist."""

    code: ClassVar[str] = "unknown-preset"


def _cells(
    backends: Iterable[str], packings: Iterable[str], shapes: Sequence[str], batches: Iterable[int]
) -> Iterator[Cell]:
    for backend in backends:
        for packing in packings:
            for shape in SHAPES[packing]:
                for tokens in batches if shape in shapes else ():
                    yield Cell(backend=backend, packing=packing, shape=shape, tokens=tokens)


def _once(*cells: Cell) -> tuple[Cell, ...]:
    return tuple(dict.fromkeys(cells))


_CI = _once(
    *_cells(["numpy"], SHAPES, (*SMALL, *MODELS), [1]),
    *_cells(["numpy"], SHAPES, _QUICK, [8]),
    *_cells(BACKENDS[1:], SHAPES, _QUICK, [1]),
    *(
        Cell(backend=backend, packing=packing, shape=shape, tokens=1)
        for backend in AHEAD_BACKENDS
        for packing, shapes in AHEAD.items()
        for shape in shapes
    ),
)
_DEFAULT = _once(*_cells(["numpy", "tenseal"], SHAPES, (*SMALL, "1536:1536:16"), _BATCHES))
_LLM = _once(*_cells(["tenseal"], _FOR_MODELS, MODELS, _BATCHES))

PRESETS: Mapping[str, tuple[Cell, ...]] = MappingProxyType(
    {
        "ci": _CI,
        "default": _DEFAULT,
        "llm": _LLM,
        "full": _once(*_CI, *_DEFAULT, *_LLM, *_cells(BACKENDS, SHAPES, (*SMALL, *MODELS), _BATCHES)),
    }
)


def preset(name: str) -> tuple[Cell, ...]:
    """The cells of a preset.

    Raises:
        UnknownPreset: There is no preset of that name.
    """
    if name not in PRESETS:
        raise UnknownPreset(f"There is no preset {name!r}.", hint=f"Take one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def absent(backends: Iterable[str]) -> dict[str, str]:
    """Why each of these backends cannot be used here; those that can be are left out."""
    from helora_core.host.manager import get_manager

    known = get_manager().backends()
    reasons = {
        name: known[name].availability if name in known else "no installed plugin offers it"
        for name in dict.fromkeys(backends)
    }
    return {name: reason for name, reason in reasons.items() if reason is not None}
