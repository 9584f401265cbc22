"""Tables of the page, a part each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from helora_core.cli.output import size
from helora_harness.lm.figures import PLAIN, PRECOMPUTED, Generation, Mode, OverNetwork, Part, Phases, Shaped

BAR = 0.8
"""What plans that run ahead of time keep of PEFT's tokens a second, at least."""

NONE = "–"


def generation(part: Part) -> str:
    """Speed, phases, and what is needed once."""
    prefills = [row for row in part.generation if row.steps == 0]
    decoding = [row for row in part.generation if row.steps]
    tables = [
        table(
            ("mode", "sequences", "tokens/s", "of PEFT", "ms a step", "least", "processor, ms", "of PEFT"),
            [_speed(row, part.generation) for row in decoding],
            words=1,
        ),
        "\n".join(_verdicts(decoding)),
        table(
            ("mode", "prompt", "prefill, tokens/s", "of PEFT", "ms"),
            [
                (
                    row.mode,
                    f"{row.prompt} tokens",
                    number(row.prefill_per_s),
                    _share(row, prefills),
                    number(row.prefill_ms),
                )
                for row in prefills
            ],
            words=2,
        ),
        "Of a decoded token: milliseconds by plane and phase, each the median of all steps, and bytes.",
        table(
            ("mode", "sequences", *Phases.__struct_fields__, "up", "down"),
            [
                (row.mode, str(row.sequences), *_phases(row.phases), size(row.bytes_up), size(row.bytes_down))
                for row in decoding
                if row.mode != PLAIN
            ],
            words=1,
        ),
        once(part.modes),
    ]
    return "\n\n".join(each for each in tables if each)


def _speed(row: Generation, rows: Sequence[Generation]) -> tuple[str, ...]:
    processor = NONE if row.cpu_ms is None else number(row.cpu_ms)
    return (
        row.mode,
        str(row.sequences),
        number(row.decode_per_s),
        _share(row, rows),
        number(row.step_ms),
        number(row.least_ms),
        processor,
        _ratio(processor_share(row, rows)),
    )


def _share(row: Generation, rows: Sequence[Generation]) -> str:
    """A row's speed over that of the model in the clear, for the same work."""
    return _ratio(share(row, rows))


def _ratio(found: float | None) -> str:
    return NONE if found is None else f"{found:.2f}"


def share(row: Generation, rows: Sequence[Generation]) -> float | None:
    """The same as a number; None of the model in the clear itself, or without it."""
    other = _plain(row, rows)
    if other is None:
        return None
    return other.step_ms / row.step_ms if row.steps else other.prefill_ms / row.prefill_ms


def processor_share(row: Generation, rows: Sequence[Generation]) -> float | None:
    """Processor time of the model in the clear over that of both parties, for the same steps; None if not known."""
    other = _plain(row, rows)
    return other.cpu_ms / row.cpu_ms if other is not None and other.cpu_ms and row.cpu_ms else None


def _plain(row: Generation, rows: Sequence[Generation]) -> Generation | None:
    """The row of the model in the clear with the same work; None for such a row."""

    def work(of: Generation) -> tuple[int, int, bool]:
        return of.sequences, of.prompt, of.steps > 0

    found = (other for other in rows if other.mode == PLAIN != row.mode and work(other) == work(row))
    return next(found, None)


def _verdicts(rows: Sequence[Generation]) -> Iterable[str]:
    mine = [row for row in rows if row.mode == PRECOMPUTED]
    clock = [found for row in mine if (found := share(row, rows)) is not None]
    processor = [found for row in mine if (found := processor_share(row, rows)) is not None]
    if clock:
        met = "met" if min(clock) >= BAR else "met in part" if max(clock) >= BAR else "missed"
        ranges = f"{_range(clock)} by the clock" + (f", {_range(processor)} by processor time" if processor else "")
        yield f"Bar: precomputed plans keep {BAR} of PEFT's speed in the same run. **{met}**: {ranges}."


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def once(modes: Sequence[Mode]) -> str:
    """What modes need once."""
    rows = [
        (
            mode.mode,
            ", ".join(f"`{each}`" for each in mode.packings),
            size(mode.keys_bytes),
            f"{mode.ahead_s:.0f} s" if mode.ahead_s else NONE,
            str(mode.ahead_tokens) if mode.ahead_s else NONE,
            f"{size(mode.ahead_up)}, {size(mode.ahead_down)}" if mode.ahead_s else NONE,
            size(mode.weights_bytes) if mode.weights_bytes else NONE,
            *(NONE if each is None else size(each) for each in (mode.idle_bytes, mode.server_bytes, mode.client_bytes)),
            NONE if mode.bits is None else f"≥ {mode.bits:.1f}",
            f"{mode.leakage}, {mode.sanitize_bits} bits" + "".join(f", if {each}" for each in mode.assumes),
        )
        for mode in modes
    ]
    headings = ("mode", "packings", "keys", "filling", "left after all", "filling up, down", "weights")
    more = ("server, idle", "server", "a client", "bits of Δ", "key holder learns")
    return table((*headings, *more), rows, words=2) if rows else ""


def identity(part: Part) -> str:
    """Prompts of which all tokens are PEFT's."""
    rows = [
        (
            row.mode,
            f"{row.identical} of {row.prompts}",
            str(row.tokens),
            ", ".join(f"prompt {prompt + 1} from token {token + 1} on" for prompt, token in row.first_different)
            or NONE,
            next(
                (f"≥ {mode.bits:.1f}" for mode in part.modes if mode.mode == row.mode and mode.bits is not None), NONE
            ),
        )
        for row in part.identity
    ]
    return table(("mode", "identical prompts", "tokens each", "others differ", "bits of Δ"), rows, words=1)


def networks(part: Part) -> str:
    """Networks and packings."""
    headings = ("round trip, ms", "Mbit/s", "packing", "planner's choice", "predicted, ms", "measured, ms", "trips")
    return table((*headings, "up", "down"), [_over(row) for row in part.networks], words=0)


def _over(row: OverNetwork) -> tuple[str, ...]:
    network = (f"{row.rtt_ms:g}", NONE if row.mbit is None else f"{row.mbit:g}", f"`{row.packing}`")
    if row.refused:
        return (*network, row.refused, *(NONE,) * 5)
    return (
        *network,
        ", ".join(row.chosen) or NONE,
        NONE if row.predicted_ms is None else number(row.predicted_ms),
        NONE if row.measured_ms is None else number(row.measured_ms),
        f"{row.round_trips:.0f}",
        size(row.bytes_up),
        size(row.bytes_down),
    )


def shapes(part: Part) -> str:
    """Shapes in both modes."""
    headings = (
        "shape",
        "modules of a layer",
        "layers, run",
        "mode",
        "packings",
        "N",
        "ms a token",
        "encrypt",
        "server",
    )
    more = (
        "decrypt",
        "rotations",
        "up",
        "down",
        "keys",
        "filling, ms a token",
        "filling up, down",
        "bits, promised",
        "learns",
    )
    return table((*headings, *more), [_shaped(row) for row in part.shapes], words=2)


def _shaped(row: Shaped) -> tuple[str, ...]:
    what = (f"`{row.shape}`", "; ".join(row.modules))
    if row.refused:
        return (*what, str(row.layers), row.mode, row.refused, *(NONE,) * 13)
    ahead = bool(row.ahead_us)
    return (
        *what,
        f"{row.layers}, {row.measured_layers}",
        row.mode,
        ", ".join(f"`{each}`" for each in row.packings),
        ", ".join(map(str, row.ring_degrees)),
        number(row.token_ms),
        *(number(each) for each in (row.phases.encrypt, row.phases.server, row.phases.decrypt)),
        f"{row.rotations:.0f}",
        size(row.bytes_up),
        size(row.bytes_down),
        size(row.keys_bytes),
        number(row.ahead_us / 1e3) if ahead else NONE,
        f"{size(row.ahead_up)}, {size(row.ahead_down)}" if ahead else NONE,
        NONE if row.bits is None else f"{row.bits:.1f}, {row.target_bits:g}",
        f"{row.leakage}, {row.sanitize_bits} bits" + "".join(f", if {each}" for each in row.assumes),
    )


def _phases(phases: Phases) -> tuple[str, ...]:
    return tuple(number(getattr(phases, name)) for name in Phases.__struct_fields__)


def number(value: float) -> str:
    """Three significant digits, or whole from 100 on."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, words: int) -> str:
    """A table in Markdown.

    Args:
        headings: Of the columns.
        rows: Cells.
        words: How many columns from the left are aligned as words.
    """
    marks = ["---" if i < words else "--:" for i in range(len(headings))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, marks, *rows))
