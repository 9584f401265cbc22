"""The kit's report, law by law, for the terminal, as JSON and as an HTML page."""

from __future__ import annotations

import html
import os
import platform
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helora_core import __version__
from helora_core.conformance import KIT_VERSION
from helora_core.conformance.bench import Bench
from helora_core.conformance.plugin import suite_of
from helora_core.conformance.requirements import NOT_CLAIMED
from helora_core.files.atomic import replacing

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def provenance(bench: Bench) -> dict[str, Any]:
    """Everything that a figure or verdict about this backend depends on: parameters, versions and the like."""
    from helora_core.host.manager import get_manager

    registered = get_manager().backends().get(bench.backend.name)
    try:
        params = bench.params
    except Exception:  # even a backend that cannot resolve its parameters gets a report
        params = None
    return {
        "backend": bench.backend.name,
        "distribution": f"{registered.distribution} {registered.version}" if registered else None,
        "library": f"{registered.spec.library} {registered.library_version}" if registered else None,
        "secure": registered.spec.provides_security if registered else None,
        "capabilities": msgspec.to_builtins(bench.capabilities),
        "params": msgspec.to_builtins(params),
        "modulus_bits": params.modulus_bits if params else None,
        "achieved_bits_least": min(bench.achieved_bits, default=None),
    }


def surroundings() -> dict[str, Any]:
    """Kit, interpreter, machine class, threads and every HELORA_* variable set."""
    return {
        "kit": KIT_VERSION,
        "helora_core": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": {name: os.environ.get(name) for name in _THREAD_VARIABLES},
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith("HELORA_")},
    }


class KitReport:
    """Collects the outcome of every law of a run."""

    def __init__(self) -> None:
        self._benches: list[Bench] = []
        self._laws: dict[str, dict[str, Any]] = {}

    def enter(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Record one phase of one law; the worst phase counts."""
        bench = getattr(item, "funcargs", {}).get("bench")
        if bench is not None and bench not in self._benches:
            self._benches.append(bench)
        outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
        law = self._laws.setdefault(
            item.nodeid,
            {"id": item.name, "suite": suite_of(item), "backend": bench.backend.name if bench else None,
             "outcome": "passed", "seconds": 0.0, "reason": None},
        )  # fmt: skip
        law["seconds"] += report.duration
        if outcome != "passed":
            law["outcome"] = outcome
            law["reason"] = _reason(report)

    def document(self) -> dict[str, Any]:
        """The report as JSON-ready data."""
        laws = sorted(self._laws.values(), key=_place)
        outcomes = [law["outcome"] for law in laws]
        return {
            **surroundings(),
            "backends": [provenance(bench) for bench in self._benches],
            "totals": {name: outcomes.count(name) for name in ("passed", "failed", "skipped", "xfailed")},
            "seconds": sum(law["seconds"] for law in laws),
            "laws": laws,
        }

    def lines(self) -> list[str]:
        """The header of the report, for a terminal."""
        document = self.document()
        lines = [f"helora conformance kit {document['kit']}, helora-core {document['helora_core']}, "
                 f"Python {document['python']}, {document['cpus']} CPUs"]  # fmt: skip
        for backend in document["backends"]:
            lines += _backend_lines(backend)
        threads = _assignments(document["threads"]) or "as the libraries choose"
        lines.append(
            f"  threads: {threads}; environment: {_assignments(document['environment']) or 'no HELORA_* is set'}"
        )
        return lines

    def left_out(self) -> list[str]:
        """Which laws were not run, by reason, for a terminal; those of abilities that are not claimed are counted."""
        reasons = Counter(law["reason"] for law in self._laws.values() if law["outcome"] == "skipped")
        unclaimed = sum(count for reason, count in reasons.items() if (reason or "").startswith(NOT_CLAIMED))
        others = [f"  {count} law{'s' * (count > 1)} did not run: {reason}" for reason, count in reasons.items()
                  if not (reason or "").startswith(NOT_CLAIMED)]  # fmt: skip
        return ([f"  laws about abilities that it does not claim, not run: {unclaimed}"] if unclaimed else []) + others

    def write_json(self, path: Path) -> None:
        """Write the document, whole or not at all."""
        with replacing(path) as file:
            file.write(msgspec.json.format(msgspec.json.encode(self.document()), indent=2))

    def write_html(self, path: Path) -> None:
        """Write one self-contained HTML page."""
        with replacing(path) as file:
            file.write(_page(self.document(), self.lines()).encode())


def _backend_lines(backend: dict[str, Any]) -> list[str]:
    library = (backend["library"] or "").removesuffix(" None").strip()
    origin = ", ".join(filter(None, (backend["distribution"], library))) or "not registered"
    secure = "" if backend["secure"] is not False else "; an emulation, which hides nothing"
    params, bits = backend["params"], backend["achieved_bits_least"]
    if params is None:
        return [f"  {backend['backend']}: {origin}{secure}; its parameters could not be resolved"]
    return [
        f"  {backend['backend']}: {origin}{secure}",
        f"    N={params['ring_degree']}, primes {params['data_bits']} + {params['special_bits']}, log2(QP) = "
        f"{backend['modulus_bits']}",
        f"    least precision seen {'none' if bits is None else format(bits, '.1f')} bits",
    ]


def _assignments(variables: dict[str, str | None]) -> str:
    return " ".join(f"{name}={value}" for name, value in variables.items() if value is not None)


def _place(law: dict[str, Any]) -> int:
    """The position of a law's suite in reports; pytest collects base classes in reverse order."""
    from helora_core.conformance.suites import SUITES

    suites = [suite.__module__.rpartition(".")[2] for suite in SUITES]
    return suites.index(law["suite"]) if law["suite"] in suites else len(suites)


def _reason(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return report.wasxfail
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr)


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #8882 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } td, th { padding: .2rem .6rem; text-align: left; vertical-align: top }
tr { border-bottom: 1px solid var(--line) } td:nth-child(3) { overflow-wrap: anywhere } td:last-child { opacity: .75 }
.passed { color: light-dark(#17692c, #7fd095) } .skipped, .xfailed { color: light-dark(#7a5e00, #e0c060) }
.failed { color: light-dark(#b3261e, #ff8a80); font-weight: bold }
pre { background: var(--quiet); padding: .6rem; white-space: pre-wrap }
"""


def _page(document: dict[str, Any], header: list[str]) -> str:
    totals = ", ".join(f"{count} {name}" for name, count in document["totals"].items())
    rows = "".join(
        f"<tr><td>{html.escape(law['backend'] or '')}</td><td>{law['suite']}</td>"
        f'<td>{html.escape(law["id"])}</td><td class="{law["outcome"]}">{law["outcome"]}</td>'
        f"<td>{html.escape(law['reason'] or '')}</td></tr>\n"
        for law in document["laws"]
    )
    names = html.escape(", ".join(backend["backend"] for backend in document["backends"]) or "no backend")
    columns = "".join(f"<th>{column}</th>" for column in ("backend", "suite", "law", "outcome", "reason"))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Conformance of {names}</title><style>{_STYLE}</style>\n"
        f"<h1>Conformance of {names}</h1><p>{totals}; {document['seconds']:.0f} s</p>\n"
        f"<pre>{html.escape(chr(10).join(header))}</pre>\n"
        f"<table><tr>{columns}</tr>\n{rows}</table></html>\n"
    )
