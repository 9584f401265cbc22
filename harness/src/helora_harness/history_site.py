"""The history site: the page of trends, our own report, and asv's results in a viewer that loads nothing from outside.

asv's own pages load ten files from content networks; they are replaced by the viewer of the distribution asv-tachyon,
which reads the same data and brings its scripts and fonts along. ``serve`` shows a site to this machine only.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from helora_core.errors import HeloraError
from helora_harness.export.asv import write_asv
from helora_harness.export.csv import to_csv
from helora_harness.export.html import to_html
from helora_harness.rows import Row, append_rows, latest
from helora_harness.trends.annotations import read_annotations
from helora_harness.trends.page import to_page

VIEWER = "viewer"
_MARK = "written-by-helora"
_ASV_PAGES = ("*.js", "*.css", "error.html", "index.legacy.html", "swallow.*")
"""Files that asv publishes for its own pages; its data stays."""


class HistoryUnavailable(HeloraError):
    """The site cannot be made here, or not from these rows."""

    code: ClassVar[str] = "history-unavailable"


class Site(msgspec.Struct, frozen=True):
    """A site that was built.

    Attributes:
        index: Its first page.
        left_out: A line about each thing among the rows that it does not show.
    """

    index: Path
    left_out: tuple[str, ...]


def build_site(rows: Iterable[Row], repo: Path, out_dir: Path, annotations: Path | None = None) -> Site:
    """Make the site of the commits that led to the one checked out in ``repo``.

    Args:
        rows: Of any commits; those with uncommitted changes, or on other branches, are left out.
        repo: A git repository.
        out_dir: Replaced as a whole, if it was made by this function before.
        annotations: A file of changes that were meant; it need not exist.

    Raises:
        AnnotationsRefused: That file is not one, or names a commit that this history does not have.
        HistoryUnavailable: asv or its viewer is not installed, asv fails, no row is of this history, or ``out_dir``
            holds something else.
    """
    for module in ("asv", "asv_tachyon"):
        if importlib.util.find_spec(module) is None:
            raise HistoryUnavailable(
                f"The history needs {module.replace('_', '-')}, which is not installed.",
                hint="Run `uv sync --group history`.",
            )
    if out_dir.exists() and not (out_dir.is_dir() and ((out_dir / _MARK).exists() or not any(out_dir.iterdir()))):
        raise HistoryUnavailable(
            f"{out_dir} holds something other than a history site.", hint="Name a new or an empty directory."
        )
    every = latest(rows)
    subjects = _subjects(repo)
    shown, left_out = _of_history(every, subjects)
    meant = read_annotations(annotations, subjects) if annotations else ()
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir.parent, prefix=f".{out_dir.name}.") as folder:
        made = Path(folder, "site")
        made.mkdir()
        (made / "report.html").write_text(to_html(shown, notes=left_out), encoding="utf-8")
        left_out += [
            f"from asv's results: {line}" for line in _publish(shown, subjects, repo, Path(folder), made / VIEWER)
        ]
        (made / "rows.csv").write_text(to_csv(shown), encoding="utf-8")
        append_rows(made / "rows.jsonl", shown)
        (made / "index.html").write_text(to_page(shown, subjects, meant, left_out), encoding="utf-8")
        (made / _MARK).write_text("A new build replaces this directory.\n", encoding="utf-8")
        if out_dir.exists():
            shutil.move(out_dir, Path(folder, "old"))
        shutil.move(made, out_dir)
    return Site(out_dir / "index.html", tuple(left_out))


def _subjects(repo: Path) -> dict[str, str]:
    """The subject of every commit that led to the one checked out, by hash."""
    lines = _git(repo, "log", "--first-parent", "--format=%H %s").splitlines()
    return {commit: subject for commit, _, subject in (line.partition(" ") for line in lines)}


def _of_history(rows: list[Row], commits: Collection[str]) -> tuple[list[Row], list[str]]:
    clean = [row for row in rows if not row.provenance.dirty]
    shown = [row for row in clean if row.provenance.commit in commits]
    left_out = []
    if len(clean) < len(rows):
        left_out.append(f"{len(rows) - len(clean)} rows with changes that their commit does not have")
    if len(shown) < len(clean):
        left_out.append(f"{len(clean) - len(shown)} rows of commits that are not in this branch's history")
    if not shown:
        raise HistoryUnavailable(
            f"No row is of a commit in this history: {'; '.join(left_out) or 'there are no rows'}.",
            hint="Measure a committed state first, and clone with full history, not only the last commits.",
        )
    return shown, left_out


def _git(repo: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=repo, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HistoryUnavailable(
            f"{repo}: git {arguments[0]} failed: {done.stderr.strip()}", hint="Name a git repository with a commit."
        )
    return done.stdout.strip()


def write_asv_project(rows: Iterable[Row], repo: Path, folder: Path) -> list[str]:
    """Write the files that asv's commands need to show rows: ``asv.conf.json`` and ``results`` in ``folder``.

    Returns:
        A line about each thing among the rows that asv cannot show.

    Raises:
        HistoryUnavailable: ``repo`` is not a git repository.
        RowsRefused: ``folder/results`` holds files that this function did not write.
    """
    config = {
        "version": 1,
        "project": "helora",
        "repo": str(repo.resolve()),
        "branches": [_git(repo, "rev-parse", "--abbrev-ref", "HEAD")],  # HEAD itself if it is on no branch
        "results_dir": "results",
        "html_dir": "html",
    }
    folder.mkdir(parents=True, exist_ok=True)
    left_out = write_asv(rows, folder / "results")
    (folder / "asv.conf.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return left_out


def _publish(rows: list[Row], subjects: Mapping[str, str], repo: Path, scratch: Path, html_dir: Path) -> list[str]:
    left_out = write_asv_project(rows, repo, scratch)
    _run("asv", "publish", "--no-pull", "--config", str(scratch / "asv.conf.json"), "--html-dir", str(html_dir))
    _run("asv_tachyon", "install", "--no-backup", str(html_dir))
    for pattern in _ASV_PAGES:
        for path in html_dir.glob(pattern):
            path.unlink()
    # The viewer also asks for subjects of commits for its tooltips.
    measured = {row.provenance.commit for row in rows}
    of_hash = {commit: subject for commit, subject in subjects.items() if commit in measured}
    for name, data in (("commits", of_hash), ("profiles", {"paths": {}}), ("regressions-ignore", [])):
        (html_dir / f"{name}.json").write_text(json.dumps(data), encoding="utf-8")
    return left_out


def _run(module: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise HistoryUnavailable(
            f"{module} {arguments[0]} failed: {last}", hint="Run `uv sync --group history`, and try again."
        )


class _Handler(SimpleHTTPRequestHandler):
    """Files of one directory, to pages of this machine only, with a policy that lets them ask no one else."""

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in ("127.0.0.1", "localhost"):  # a foreign name that points to this machine
            self.send_error(403, "This site is shown to its own machine only")
            return
        super().do_GET()

    def end_headers(self) -> None:
        policy = "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'"
        self.send_header(
            "Content-Security-Policy", f"{policy}; img-src 'self' data:; font-src 'self' data:; frame-ancestors 'none'"
        )
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing, to keep the terminal clean."""


def server(out_dir: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of a site that is bound to the loopback interface; port 0 takes any that is free.

    Raises:
        HistoryUnavailable: There is no site, or the port is taken.
    """
    if not (out_dir / "index.html").is_file():
        raise HistoryUnavailable(f"{out_dir} holds no history site.", hint="Make one with build_site first.")
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(out_dir)))
    except OSError as error:
        raise HistoryUnavailable(
            f"Port {port} of 127.0.0.1 cannot be used ({error.strerror or error}).", hint="Take another, or 0 for any."
        ) from error


def serve(out_dir: Path, port: int = 0) -> None:
    """Serve a site to this machine until interrupted; says where on standard error.

    Raises:
        HistoryUnavailable: There is no site, or the port is taken.
    """
    with server(out_dir, port) as running:
        print(f"History at http://127.0.0.1:{running.server_port}/ – stop with Ctrl-C", file=sys.stderr)
        with suppress(KeyboardInterrupt):
            running.serve_forever()
