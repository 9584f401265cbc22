"""A small project with a history, and rows as the harness would have measured them at each of its commits."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helora_harness.metrics import lost_bits
from helora_harness.rows import Cell, Provenance, Row

DAY_ONE = datetime(2026, 3, 2, 9, 0, tzinfo=timezone.utc)
SHAPES = ("576:192:8", "1536:1536:16")
PACKINGS = {"rank_bsgs": 1.0, "zero_moai": 1.7, "halevi_shoup": 3.1}
BACKENDS = {
    "numpy": ("numpy", "2.3.1", 0.4, "none"),
    "tenseal": ("SEAL", "4.1.1", 1.0, "128 bits, classical"),
    "openfhe": ("OpenFHE", "1.2.3", 1.3, "128 bits, classical"),
}
SPEEDS = (1.0, 0.97, 1.22, 0.8, 0.78)
"""How long a token takes at each commit, against the first: the third is a regression, the fourth mends it."""

ROTATIONS = (35, 35, 41, 32, 32)

MakeRow = Callable[..., Row]


def _git(repo: Path, *arguments: str, when: datetime | None = None) -> str:
    env = dict(os.environ)
    for name in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{name}_NAME": "A", f"GIT_{name}_EMAIL": "a@example.org"}
        if when:
            env[f"GIT_{name}_DATE"] = when.isoformat()
    done = subprocess.run(["git", *arguments], cwd=repo, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="session")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with five commits, three days apart."""
    folder = tmp_path_factory.mktemp("project")
    _git(folder, "init", "-q", "-b", "main")
    for number in range(len(SPEEDS)):
        (folder / "file").write_text(str(number))
        _git(folder, "add", "file")
        _git(folder, "commit", "-q", "-m", f"Change {number}", when=DAY_ONE + timedelta(days=3 * number))
    return folder


@pytest.fixture(scope="session")
def commits(repo: Path) -> list[str]:
    """Its commits, oldest first."""
    return _git(repo, "rev-list", "--reverse", "HEAD").split()


@pytest.fixture(scope="session")
def make_row() -> MakeRow:
    """A row of plausible values; keywords replace any of its fields, its cell's or its provenance's."""

    def make(**changes: Any) -> Row:
        cell = {"backend": "tenseal", "packing": "rank_bsgs", "shape": "1536:1536:16", "tokens": 8, "sanitized": False}
        provenance = {
            "commit": "c0ffee" + 34 * "0",
            "commit_date": DAY_ONE,
            "dirty": False,
            "plan_digest": "9f2a",
            "ring_degree": 8192,
            "modulus_bits": (60, 40, 40, 60),
            "scale_bits": (40.0,),
            "levels": 2,
            "security": "128 bits, classical",
            "library": "SEAL",
            "library_version": "4.1.1",
            "threads": 1,
            "cpu_model": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
            "machine": "x86_64-2c",
            "python": "3.11.7",
            "os": "Linux",
            "date": DAY_ONE + timedelta(hours=2),
        }
        row: dict[str, Any] = {"kind": "e2e", "metrics": {"ms_per_token": 100.0}}
        for name, value in changes.items():
            next(part for part in (cell, provenance, row) if name in part or part is row)[name] = value
        return msgspec.convert({**row, "cell": Cell(**cell), "provenance": Provenance(**provenance)}, Row)

    return make


@pytest.fixture(scope="session")
def rows(commits: list[str], make_row: MakeRow) -> list[Row]:
    """End-to-end rows and counts of every commit; openfhe is missing at the first, and fails one shape at the last."""
    found = []
    for number, commit in enumerate(commits):
        when = DAY_ONE + timedelta(days=3 * number)
        of = {"commit": commit, "commit_date": when, "date": when + timedelta(hours=2)}
        for packing, factor in PACKINGS.items():
            for shape in SHAPES:
                size = int(shape.split(":")[0]) / 576
                rotations = round(ROTATIONS[number] * factor * size)
                counts = {
                    "rotations_per_token": rotations,
                    "keyswitches_per_token": rotations,
                    "rescales_per_token": 2,
                    "ct_pt_per_token": 4 * rotations,
                    "bytes_keys": 1_500_000 * rotations,
                }
                plain = {"backend": "", "library": "", "library_version": "", "packing": packing, "shape": shape}
                found.append(make_row(kind="counts", metrics=counts, **plain, **of))
                for backend, (library, version, slower, security) in BACKENDS.items():
                    if backend == "openfhe" and number == 0:
                        continue
                    about = {
                        "backend": backend, "packing": packing, "shape": shape, "library": library,
                        "library_version": "4.1.2" if backend == "tenseal" and number >= 3 else version,
                        "security": security, **of,
                    }  # fmt: skip
                    if backend == "openfhe" and number == len(commits) - 1 and shape == SHAPES[1]:
                        reason = "LevelExhausted: the chain has two levels, and the program needs three"
                        found.append(make_row(outcome="failed", reason=reason, metrics={}, **about))
                        continue
                    ms = round(61.5 * SPEEDS[number] * factor * size * slower, 3)
                    bits = 17.5 - 1.8 * factor + slower
                    metrics = {
                        "ms_per_token": ms,
                        "encrypt_ms_per_token": round(0.11 * ms, 3),
                        "compute_ms_per_token": round(0.84 * ms, 3),
                        "decrypt_ms_per_token": round(0.05 * ms, 3),
                        "predicted_ms_per_token": round(ms * (1.02 - 0.13 * (slower - 0.6)), 3),
                        "precision_bits": round(bits, 2),
                        "lost_bits": round(lost_bits(bits), 2),
                        "bytes_up_per_token": 131_072.0,
                        "bytes_down_per_token": 65_536.0,
                        "peak_rss_bytes": int(2.1e8 * slower * size),
                    }
                    found.append(make_row(metrics=metrics, **about))
    absent = make_row(
        backend="pyfhel", outcome="skipped", reason="Pyfhel is not installed", metrics={}, library="Pyfhel",
        library_version="", commit=commits[-1], commit_date=DAY_ONE + timedelta(days=3 * (len(commits) - 1)),
    )  # fmt: skip
    return [*found, absent]
