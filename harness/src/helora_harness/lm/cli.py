"""``helora bench lm``."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from helora_core.cli import options
from helora_core.cli.groups import Group
from helora_core.cli.numbers import Real, Whole
from helora_core.cli.output import print_json
from helora_core.compiler.request import AUTO
from helora_core.data.bundled import DIRECTORY
from helora_harness.lm import figures, page
from helora_harness.lm.figures import FIGURES, KINDS, ONLINE, PRECOMPUTED, Figures
from helora_harness.lm.history import history_rows
from helora_harness.lm.measuring import Wanted, measured
from helora_harness.lm.networks import NETWORKS, Network, NetworkType
from helora_harness.lm.requirements import BASE
from helora_harness.lm.shapes import SHAPES
from helora_harness.places import HISTORY
from helora_harness.rows import append_rows


class _Numbers(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic only in newer versions
    name = "N[,N…]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        one: click.ParamType = Whole(1, 1024)  # type: ignore[type-arg,unused-ignore]
        return tuple(int(one.convert(each.strip(), param, ctx)) for each in str(value).split(","))


@click.group(cls=Group)
def lm() -> None:
    """A language model with encrypted LoRA beside PEFT in the clear: docs/language-model-figures.md."""


@lm.command()
@click.option(
    "--only", "kinds", type=click.Choice(KINDS), multiple=True, default=KINDS, show_default="all", help="These parts.",
)  # fmt: skip
@click.option(
    "--base", type=click.Path(path_type=Path), default=BASE, show_default="SmolLM2-135M-Instruct", metavar="DIR",
    help="Base model, as transformers saves it.",
)  # fmt: skip
@click.option(
    "--adapter", type=click.Path(path_type=Path, exists=True), default=DIRECTORY / "adapter", show_default="bundled",
    metavar="DIR", help="LoRA adapter of PEFT.",
)  # fmt: skip
@click.option("--backend", default="rns", show_default=True, metavar="NAME", help="CKKS backend.")
@click.option("--packing", default=AUTO, show_default=True, metavar="NAME", help="Of plans that run online.")
@click.option(
    "--mode", "modes", type=click.Choice((ONLINE, PRECOMPUTED)), multiple=True, default=(ONLINE, PRECOMPUTED),
    show_default="both", help="Encrypted modes; PEFT in the clear is always beside them.",
)  # fmt: skip
@click.option(
    "--link", type=click.Choice(("tcp", "in-process")), default="tcp", show_default=True,
    help="A server in a process of its own, or both parties in this one.",
)  # fmt: skip
@click.option("--delay-ms", type=Real(0, 1e5), default=0.0, metavar="MS", help="Of the TCP link, one way.")
@click.option("--mbit", type=Real(0.001, 1e6), metavar="RATE", help="Mbit/s of the TCP link, each way.")
@click.option("--threads", type=Whole(1, 256), default=1, show_default=True, help="Of torch, and of the engine.")
@click.option("--sequences", type=_Numbers(), default="1,4,8,16", show_default=True, help="That decode together.")
@click.option("--tokens", type=Whole(2, 1024), default=17, show_default=True, help="To generate in each run.")
@click.option("--rounds", type=Whole(1), default=2, show_default=True, help="Of all modes by turns.")
@click.option("--identity", type=Whole(1, 100), default=10, show_default=True, help="Prompts to compare.")
@click.option(
    "--identity-tokens", type=Whole(1, 1024), default=64, show_default=True, help="To generate for each.",
)  # fmt: skip
@click.option("--ahead", type=Whole(1), default=8192, show_default=True, help="Tokens to prepare for.")
@click.option(
    "--network", "networks", type=NetworkType(), multiple=True, default=NETWORKS, metavar="RTT:MBIT",
    show_default=", ".join(f"{each.rtt_ms:g}:{each.mbit:g}" if each.mbit else f"{each.rtt_ms:g}" for each in NETWORKS),
    help="Of the part networks: round trip in ms, and Mbit/s.",
)  # fmt: skip
@click.option(
    "--shape", "shapes", type=click.Choice(tuple(SHAPES)), multiple=True, default=tuple(SHAPES), show_default="all",
    help="Of the part shapes.",
)  # fmt: skip
@click.option("--layers", type=Whole(1), default=2, show_default=True, help="Of a shape, to run.")
@click.option("--quick", is_flag=True, help="A few tokens of everything, to see that it runs; writes no figures.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=FIGURES, show_default="harness/lm.json", metavar="FILE",
    help="Parts are put in the place of those of the same backend and link; what else is there is kept.",
)  # fmt: skip
@options.as_json
def measure(
    kinds: tuple[figures.Kind, ...],
    base: Path,
    adapter: Path,
    backend: str,
    packing: str,
    modes: tuple[str, ...],
    link: str,
    delay_ms: float,
    mbit: float | None,
    threads: int,
    sequences: tuple[int, ...],
    tokens: int,
    rounds: int,
    identity: int,
    identity_tokens: int,
    ahead: int,
    networks: tuple[Network, ...],
    shapes: tuple[str, ...],
    layers: int,
    quick: bool,
    output: Path,
    as_json: bool,
) -> None:
    """Measure, write the figures, and render the page; some minutes, on an otherwise idle machine.

    All parts but shapes run a model: they need torch, transformers, peft and the plugin helora-transformers.
    """
    if link == "in-process" and (delay_ms or mbit is not None):
        raise click.UsageError("--delay-ms and --mbit are of the link tcp.")
    wanted = Wanted(
        kinds=kinds,
        base=base,
        adapter=adapter,
        backend=backend,
        packing=packing,
        modes=modes,
        link=link,
        delay_ms=delay_ms,
        mbit=mbit,
        threads=threads,
        sequences=sequences,
        tokens=tokens,
        rounds=rounds,
        identity=identity,
        identity_tokens=identity_tokens,
        ahead=ahead,
        networks=networks,
        shapes=shapes,
        layers=layers,
    )
    kept = figures.read(output) if output.exists() and not quick else Figures()
    done = []
    for part in measured(wanted.quick() if quick else wanted, lambda line: click.echo(line, err=True)):
        done.append(part)
        if not quick:  # each part as soon as it is there: what is interrupted later loses nothing
            kept = kept.with_parts([part])
            figures.write(kept, output)
    if not quick and output == FIGURES:
        page.PAGE.write_text(page.rendered(kept), encoding="utf-8")
        append_rows(HISTORY / "lm.jsonl", [row for part in done for row in history_rows(part)])
    if as_json:
        print_json(msgspec.to_builtins(Figures(parts=tuple(done))))
    else:
        click.echo(page.tables(Figures(parts=tuple(done))))


@lm.command()
def render() -> None:
    """Make the page from the figures."""
    page.PAGE.write_text(page.rendered(figures.read()), encoding="utf-8")


@lm.command()
def check() -> None:
    """Fail if the page is not what the figures give, a part is missing, or tokens were not those of PEFT."""
    found = figures.read()
    broken = page.problems(found, page.PAGE.read_text(encoding="utf-8"))
    click.echo("\n".join(broken) or f"{len(found.parts)} parts hold")
    sys.exit(bool(broken))
