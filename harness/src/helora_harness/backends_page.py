"""``docs/backends.md``: what each backend can do, how it fares in the conformance kit, and what its operations take.

``measure`` runs the kit and times operations for every backend that can be used here, and writes the figures with their
provenance to ``backends.json``. ``render`` makes the page of them. ``check`` fails if the page is not what the figures
give, or if a backend claims other abilities now. All libraries have a build for Python 3.10: ``nox -s backends_page``.
"""

from __future__ import annotations

import datetime
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.protocol import Backend
from helora_core.cli.groups import Group
from helora_core.compiler.compile import compile_plan
from helora_core.errors import CapabilityMissing
from helora_core.execution.reference import precision_bits
from helora_core.files.atomic import replacing
from helora_core.host.manager import get_manager
from helora_core.params.presets import FAST
from helora_core.parties.adapter_run import ModuleJob, run_adapter
from helora_core.planning.calibrate import calibrate
from helora_harness.places import DATA, DOCS

FIGURES = DATA / "backends.json"
PAGE = DOCS / "backends.md"
SHAPE = ModuleShape.parse("1536:1536:16")
TOKENS = 8


def _kit(name: str) -> dict[str, Any]:
    """The kit's own report, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "helora_core", "conform", name, "--json", str(report)]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        return msgspec.json.decode(report.read_bytes(), type=dict[str, Any])


def _lora(name: str) -> dict[str, float]:
    """One module of a 1.5-billion-parameter model, through the whole straight line."""
    manager = get_manager()
    plan = compile_plan(SHAPE, manager.load_packing("rank_bsgs"), params=FAST, private_weights=False)
    module, x = synthetic_module(SHAPE, seed=1), synthetic_activations(SHAPE, TOKENS, seed=2)
    (outcome,) = run_adapter(manager.load_backend(name), [ModuleJob(module, x, plan)], private_weights=False)
    return {
        "ms_per_token": outcome.report.times.total / 1e6 / TOKENS,
        "precision_bits": precision_bits(outcome.delta, module.reference_delta(x)),
    }


def _measured(name: str) -> dict[str, Any]:
    backend = get_manager().load_backend(name)
    kit = _kit(name)
    (subject,) = kit.pop("backends")
    laws = kit.pop("laws")
    return {
        **subject,
        "kit": kit,
        "not_passed": {law["id"]: law["reason"] for law in laws if law["outcome"] in ("failed", "xfailed")},
        "operations_ms": _operations_ms(backend),
        "lora": _lora(name),
        "measured": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


_TRIPS = {
    "encode": ("encode_slots",),
    "encrypt": ("encrypt_slots", "client_send", "server_receive"),
    "decrypt": ("server_send", "client_receive", "decrypt_slots"),
}
"""Operations of the page that are several of a profile; the others are one of the same name."""


def _operations_ms(backend: Backend) -> dict[str, float]:
    """Medians of the page's operations; none if the library decides its levels."""
    try:
        profile = calibrate(backend, chains=(FAST,), rounds=15)
    except CapabilityMissing:
        return {}
    figures = profile.chain(FAST).by_operation()
    return {
        f"{kind}@{level}": sum(figures[name, level].median_ns for name in _TRIPS.get(kind, (kind,))) / 1e6
        for kind, _, level in _OPERATIONS
        if all((name, level) in figures for name in _TRIPS.get(kind, (kind,)))
    }


_ABILITIES = {
    "encrypts": None,
    "complex slots": lambda has: Encoding.COMPLEX_SLOTS in has.encodings,
    "coefficients": lambda has: (
        "native"
        if Encoding.COEFFICIENTS in has.encodings
        else Encoding.COMPLEX_SLOTS in has.encodings and "by embedding"
    ),
    "scalars": lambda has: "native" if Encoding.SCALAR in has.encodings else "by slots",
    "rescaling": lambda has: has.rescale.value,
    "a scale for each plaintext": lambda has: has.free_plaintext_scale,
    "client encrypts": lambda has: "with the secret key" if has.symmetric_encryption else "with a public key",
    "server can encrypt": lambda has: has.public_key,
    "hoisted rotations": lambda has: "native" if has.hoisting else "one by one",
    "keys from a seed": lambda has: has.seeded_keys,
    "compressed upload": lambda has: has.compressed_upload,
    "centred digits": lambda has: has.centred_digits,
}


def _word(value: object) -> str:
    return value if isinstance(value, str) else ("yes" if value else "no")


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _abilities(backends: list[dict[str, Any]]) -> str:
    claims = [msgspec.convert(backend["capabilities"], Capabilities) for backend in backends]
    rows = []
    for ability, ask in _ABILITIES.items():
        if ask is None:
            cells = ["yes" if backend["secure"] else "**no**" for backend in backends]
        else:
            cells = [_word(ask(has)) for has in claims]
        rows.append([ability, *cells])
    return _table(["", *(f"`{backend['backend']}`" for backend in backends)], rows)


_OPERATIONS = (
    ("encode", "encode", 2),
    ("encrypt", "encrypt, with transport", 2),
    ("multiply_plain", "ct×pt", 2),
    ("add", "add", 2),
    ("rotate", "rotate, 3 primes", 2),
    ("rotate", "rotate, 2 primes", 1),
    ("rescale", "rescale", 2),
    ("decrypt", "decrypt, with transport", 0),
)


def _figures(backends: list[dict[str, Any]]) -> str:
    rows = []
    for kind, label, level in _OPERATIONS:
        times = [backend["operations_ms"].get(f"{kind}@{level}") for backend in backends]
        rows.append([f"{label}, ms", *("–" if ms is None else f"{ms:.2f}" for ms in times)])
    rows.append([f"`rank_bsgs` {SHAPE}, ms per token", *(f"{b['lora']['ms_per_token']:.1f}" for b in backends)])
    rows.append([f"`rank_bsgs` {SHAPE}, bits", *(f"{b['lora']['precision_bits']:.1f}" for b in backends)])
    return _table(["", *(f"`{backend['backend']}`" for backend in backends)], rows)


def _verdicts(backends: list[dict[str, Any]]) -> str:
    rows = []
    for backend in backends:
        kit, totals = backend["kit"], backend["kit"]["totals"]
        rows.append(
            [
                f"`{backend['backend']}`",
                backend["distribution"],
                backend["library"],
                f"{totals['passed']} passed, {totals['failed']} failed, {totals['xfailed']} known failures, "
                f"{totals['skipped']} not run (not claimed, or slow)",
                f"{kit['seconds']:.0f} s",
                f"kit {kit['kit']}, Python {kit['python']}, {kit['cpus']} {kit['machine']} CPUs, {backend['measured']}",
            ]
        )
    return _table(["backend", "distribution", "library", "laws", "time", "with"], rows)


def page(backends: list[dict[str, Any]]) -> str:
    """The whole page."""
    known = [
        f"- `{backend['backend']}`, `{law}`: {reason}"
        for backend in backends
        for law, reason in backend["not_passed"].items()
    ]
    return f"""# Backends

<!-- Made by `helora bench backends render` from harness/backends.json: do not edit. -->

What each can do, as its `capabilities` say. What is missing, helora-core does in a generic way, or refuses.

{_abilities(backends)}

## Conformance

`helora conform NAME` on each; the laws are in [the kit's page](conformance.md).

{_verdicts(backends)}

{chr(10).join(["Laws not kept:", "", *known]) if known else "No backend has a known failure."}

## Times

Medians of 15 calls, N=8192, primes 60+40+40 and a special one of 60 bits, single-threaded, on the machine named above.
They compare orders of magnitude; for a decision, measure on your own machine: `helora calibrate`.

{_figures(backends)}
"""


@click.group("backends", cls=Group)
def backends_group() -> None:
    """Figures and page of the backends."""


@backends_group.command()
def measure() -> None:
    """Measure every backend that can be used here, and render the page."""
    names = [name for name, registered in get_manager().backends().items() if registered.availability is None]
    with click.progressbar(names, label="measuring", item_show_func=lambda name: name or "") as progress:
        rows = [_measured(name) for name in progress]
    with replacing(FIGURES) as file:
        file.write(msgspec.json.format(msgspec.json.encode(rows, order="sorted"), indent=1) + b"\n")
    _render()


def _rows() -> list[dict[str, Any]]:
    return msgspec.json.decode(FIGURES.read_bytes(), type=list[dict[str, Any]])


def _render() -> None:
    with replacing(PAGE) as file:
        file.write(page(_rows()).encode())


@backends_group.command()
def render() -> None:
    """Make the page from the figures."""
    _render()


@backends_group.command()
def check() -> None:
    """Fail if page and figures disagree, or a backend that can be used here is missing or claims something else."""
    rows = {row["backend"]: row for row in _rows()}
    wrong = [] if PAGE.read_text(encoding="utf-8") == page(_rows()) else ["the page is not what the figures give"]
    manager = get_manager()
    for name, registered in manager.backends().items():
        if registered.availability is not None:
            continue
        claimed = msgspec.to_builtins(manager.load_backend(name).capabilities)
        if name not in rows:
            wrong.append(f"{name} has no figures")
        elif msgspec.convert(rows[name]["capabilities"], Capabilities) != msgspec.convert(claimed, Capabilities):
            wrong.append(f"{name} claims {claimed}, the figures are of {rows[name]['capabilities']}")
    for line in wrong:
        click.echo(f"backends page: {line}")
    if wrong:
        click.echo("backends page: run `nox -s backends_page`")
        sys.exit(1)
    click.echo(f"backends page: OK, {len(rows)} backends")
