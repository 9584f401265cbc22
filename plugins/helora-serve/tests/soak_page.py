"""``docs/serving-figures.md``, made of ``harness/serving.json``, and what a soak has to hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from soak_figures import Figures, Load, Malformed
from soak_overhead import Overhead

from helora_harness.lm.page import conditions
from helora_harness.places import DOCS

PAGE = DOCS / "serving-figures.md"
WINDOW_MIB = 8
"""Of a session's answers that wait, and of its requests in flight: a client here has one at a time."""

LAG_MS = 20.0
"""A server's event loop should be late by more than this once in a thousand times, or less often."""

_INTRODUCTION = """\
<!-- Made by `python plugins/helora-serve/tests/soak.py` from harness/serving.json: do not edit. -->

# Figures of serving

One `helora serve` and clients on the same machine, each a process of its own with its own keys. They replay recorded
activations of the bundled adapter with real encryption, one request after another, as fast as they get answers: no
base model runs, and **clients take processors from the server**. A *token* is {per_token} requests, one for each
layer. `nox -s serve_soak` measures it.

*Answer* is from message to answer, at the client, without its own encryption; *Δ* has that too. *Fair* is Jain's
index of requests answered by client (1: all the same), and beside it the slowest client's share of the fastest one's.
*Cores* are processors in use: the server's, its event loop's part of them, and all clients'. *Lag* is how late the
server's event loop ran at most in 99.9 % of its looks, 100 a second, as the upper end of a bucket; *bare* is that of a
loop which does nothing, in a process beside it at the same time: what the machine alone does to one. *Computing* and
*waiting* are means at the server, from the worker to the answer and from arrival to the worker. *MiB* are resident:
before clients came, when all were connected, at most, and what the limits allow, with a window of {window} MiB.
*Stolen* is processor time that others on the same hardware took."""

_COSTS = """\
One client, a request of one token and layer with the client's own work, by turns: both parties in one process; in two,
over a bare socket, where each waits for the other and finds its caches cold; and served over loopback. The median, and
the least, which others on the machine stretch least. *Over one* and *over two* are what serving adds to the medians of
the first and of the second; *more* is what it adds to a token of the whole adapter, by the least of the first; the base
model takes its own time beside it."""


def rendered(figures: Figures) -> str:
    """The page."""
    first = figures.loads[0]
    introduction = _INTRODUCTION.format(per_token=first.per_token, window=WINDOW_MIB)
    return f"{introduction}\n\n{conditions(figures.conditions)}\n\n{tables(figures)}\n"


def tables(figures: Figures) -> str:
    """Its tables."""
    parts = (
        ["## What serving costs", _COSTS, _costs(figures.overheads, figures.loads[0].per_token)]
        if figures.overheads
        else []
    )
    for plan in dict.fromkeys(each.plan for each in figures.loads):
        loads = [each for each in figures.loads if each.plan == plan]
        parts += [f"## {plan.capitalize()}", _about(loads[0]), _speed(loads), _resources(loads)]
    if figures.malformed is not None:
        parts += ["## Malformed frames", _noise(figures.malformed)]
    return "\n\n".join(parts)


def problems(figures: Figures) -> list[str]:
    """What does not hold, in words."""
    return [*_wrong(figures)]


def _wrong(figures: Figures) -> Iterator[str]:
    for each in figures.loads:
        name = f"{each.plan}, {each.clients} clients"
        if not each.right:
            yield f"{name}: a Δ was wrong"
        if each.most_mib > each.bound_mib:
            yield f"{name}: {each.most_mib:g} MiB are held, and {each.bound_mib:g} allowed"
        if each.lag_ms[2] > max(LAG_MS, each.bare_lag_ms[2]):
            yield f"{name}: the event loop ran {each.lag_ms[2]:g} ms late, and a bare one {each.bare_lag_ms[2]:g}"
    noise = figures.malformed
    if noise is not None and (noise.right < noise.asked or noise.faults or noise.mib_after > noise.mib_before + 100):
        yield f"malformed frames: {noise}"


def _costs(overheads: Sequence[Overhead], per_token: int) -> str:
    heads = (
        "plan", "bytes up", "down", "one process, µs", "least", "two, µs", "least", "served, µs", "least",
        "over one", "over two", "more, ms a token",
    )  # fmt: skip
    return _table(
        heads,
        [
            (
                each.plan, each.bytes_up, each.bytes_down,
                *(f"{time:.0f}" for pair in (each.in_process, each.apart, each.served) for time in pair),
                *(f"{each.served[0] / of[0] - 1:+.0%}" for of in (each.in_process, each.apart)),
                f"{1e-3 * per_token * (each.served[1] - each.in_process[1]):.1f}",
            )
            for each in overheads
        ],
    )  # fmt: skip


def _about(load: Load) -> str:
    if load.plan == "online":
        return f"Each request is encrypted when it is asked for; {load.seconds:g} seconds for each number of clients."
    return (
        f"Each client has pools for {load.inputs} of the {load.per_token} layers, asks for them in turn, and fills one "
        f"again when it is empty; {load.seconds:g} seconds for each number of clients. *Filling* is the share of the "
        "clients' time that it takes: encrypted work, which the server does beside other clients' requests."
    )


def _speed(loads: list[Load]) -> str:
    heads = (
        "clients", "tokens/s", "answer, ms: 50 %", "95 %", "99 %", "longest", "Δ, ms: 50 %", "fair",
        "slowest of fastest", "filling",
    )  # fmt: skip
    return _table(
        heads,
        [
            (
                each.clients, f"{each.tokens_per_s:.3g}", *map(_ms, each.answer_ms), _ms(each.delta_ms),
                f"{each.jain:.3f}", f"{each.least_of_most:.2f}",
                "–" if each.plan == "online" else f"{each.ahead_share:.0%}",
            )
            for each in loads
        ],
    )  # fmt: skip


def _resources(loads: list[Load]) -> str:
    heads = (
        "clients", "cores: server", "its loop", "clients", "lag, ms", "bare", "computing, ms", "waiting, ms",
        "MiB: before", "connected", "most", "allowed", "stolen",
    )  # fmt: skip
    return _table(
        heads,
        [
            (
                each.clients, f"{each.server_cores:.2f}", f"{each.loop_cores:.2f}", f"{each.client_cores:.2f}",
                f"≤ {each.lag_ms[2]:g}", f"≤ {each.bare_lag_ms[2]:g}", _ms(each.compute_ms), _ms(each.wait_ms),
                f"{each.idle_mib:.0f}", f"{each.opened_mib:.0f}", f"{each.most_mib:.0f}", f"{each.bound_mib:.0f}",
                "–" if each.steal is None else f"{each.steal:.1%}",
            )
            for each in loads
        ],
    )  # fmt: skip


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [heads, ["--:"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _noise(found: Malformed) -> str:
    return (
        f"{found.frames} frames that nobody should send, over sockets of their own. Of a client's {found.asked} "
        f"requests between them {found.right} were answered rightly; {found.faults} frames were taken for faults of "
        f"the server itself; its memory was {found.mib_before:g} MiB after the first tenth, and {found.mib_after:g} "
        "MiB at the end."
    )


def _ms(time: float) -> str:
    return f"{time:.3g}" if time < 1000 else f"{time:.0f}"
