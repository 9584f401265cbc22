"""``helora calibrate``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options
from helora_core.cli.numbers import Whole

if TYPE_CHECKING:
    from helora_core.planning.profile import ChainFigures, Profile


@click.command()
@options.backend
@click.option(
    "--ring",
    "rings",
    type=int,
    multiple=True,
    metavar="N",
    help="Calibrate this ring degree only; may be given several times. By default 2048 to 16384.",
)
@click.option(
    "--rounds",
    type=Whole(min=1),
    default=30,
    show_default=True,
    metavar="R",
    help="How often to time each operation.",
)
@click.option(
    "--output",
    "output_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write the profile; by default where helora looks for it.",
)
@options.force
@options.security_table
@options.wide
@options.as_json
def calibrate(
    backend: str | None, rings: tuple[int, ...], rounds: int, output_path: Path | None, force: bool,
    security_table: str, as_json: bool,
) -> None:  # fmt: skip
    """Time a backend's operations on this machine.

    Writes a profile: the time of each operation by ring degree, number of primes and level. With --force it replaces
    an existing one as a whole. Keep the machine idle meanwhile.
    """
    from functools import partial

    import msgspec

    from helora_core.cli.output import print_json, tell_selection, warn
    from helora_core.compiler.request import BackendTraits
    from helora_core.files.outputs import opened
    from helora_core.host.manager import get_manager
    from helora_core.planning.calibrate import calibrate as time_operations
    from helora_core.planning.chains import chains_for
    from helora_core.planning.profile_files import dump_profile, target_path
    from helora_core.planning.selection import select_backend

    manager = get_manager()
    selection = select_backend(manager, backend)
    tell_selection(selection)
    loaded = manager.load_backend(selection.name)
    traits, correlations = BackendTraits.of([loaded.capabilities]), loaded.capabilities.correlations
    chains = chains_for(rings, table=security_table, traits=traits, correlations=correlations)
    registered = manager.backends()[selection.name]
    path = target_path(selection.name, output_path, device=registered.device)
    with opened([path], force=force) as files:  # before the work, which takes minutes
        with _round_progress(rounds) as advance:
            profile = time_operations(
                loaded,
                chains=chains,
                rounds=rounds,
                library=registered.spec.library,
                library_version=registered.library_version,
                device=registered.device,
                on_round=advance,
                table=security_table,
            )
        files.write(path, partial(dump_profile, profile))
    if as_json:
        print_json({"output": str(path), "secure": selection.secure, **msgspec.to_builtins(profile)})
    else:
        _show(profile)
        click.echo(f"wrote {path}")
    if not selection.secure:
        warn(f"backend {selection.name} is an emulation: these are not the times of encryption.")


@contextmanager
def _round_progress(rounds: int) -> Iterator[Any]:
    """A progress bar on standard error, shown only if that is a terminal; yields a function to advance it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("rounds", total=rounds)
        yield lambda: progress.advance(task)


_SHOWN = ("encrypt_slots", "encode_slots", "encode_scalar", "multiply_plain", "add", "rotate", "rotate_further",
          "rescale", "decrypt_slots")  # fmt: skip
"""Operations of the table; the file has all."""

_SHOWN_AHEAD = ("ahead_encrypt", "ahead_receive", "ahead_multiply_down", "ahead_result", "ahead_multiply_up",
                "ahead_decrypt", "online_answer")  # fmt: skip
"""Those of the table of chains with a wrap limb."""


def _show(profile: Profile) -> None:
    from helora_core.cli.output import print_table, warn
    from helora_core.cli.tables import Table
    from helora_core.cli.terminal import say

    headings = [name.replace("_", " ") for name in _SHOWN]
    print_table(
        Table.of_text(
            ("ring", "chain", "primes left", *headings),
            [row for chain in profile.chains if not chain.wrap_bits for row in _rows(chain)],
            numbers=("ring", "primes left", *headings),
            spare=("encode scalar", "rotate further", "encode slots", "add", "decrypt slots", "encrypt slots",
                   "rescale", "multiply plain"),
        )
    )  # fmt: skip
    ahead = [_row_ahead(chain) for chain in profile.chains if chain.wrap_bits]
    if ahead:
        shown = [name.replace("_", " ") for name in _SHOWN_AHEAD]
        spare = [*shown[:0:-1]]
        print_table(Table.of_text(("ring", "chain", *shown), ahead, numbers=("ring", *shown), spare=spare))
    say("ms, medians; chain: bits of the data primes | of the special primes, or + of the wrap limb", hanging=2)
    for chain in profile.refused:
        warn(f"no times for ring degree {chain.ring_degree}, primes of {chain.data_bits} bits: {chain.reason}")


def _rows(chain: ChainFigures) -> Iterator[tuple[str, ...]]:
    figures = chain.by_operation()
    bits = "|".join(",".join(map(str, each)) for each in (chain.data_bits, chain.special_bits))
    for level in reversed(range(len(chain.data_bits))):
        shown = (figures.get((operation, level)) for operation in _SHOWN)
        cells = ("" if figure is None else f"{figure.median_ns / 1e6:.3f}" for figure in shown)
        yield (str(chain.ring_degree), bits, str(level + 1), *cells)


def _row_ahead(chain: ChainFigures) -> tuple[str, ...]:
    figures, top = chain.by_operation(), len(chain.data_bits) - 1
    times = (figures.get((operation, top)) for operation in _SHOWN_AHEAD)
    cells = ("" if figure is None else f"{figure.median_ns / 1e6:.3f}" for figure in times)
    return (str(chain.ring_degree), f"{','.join(map(str, chain.data_bits))}+{chain.wrap_bits}", *cells)
