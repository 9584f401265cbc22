"""Runs the kit in this process, independent of any pytest configuration nearby."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

from helora_core.errors import BackendUnavailable
from helora_core.installing import install_line

_DOOR = Path(__file__).with_name("door.py")


def conform(
    backend: str,
    *,
    keyword: str = "",
    json_path: Path | None = None,
    html_path: Path | None = None,
    thorough: bool = False,
    quiet: bool = False,
) -> int:
    """Run the kit against a backend and return pytest's exit status: 0 if every law that applies holds.

    Args:
        backend: Registered name.
        keyword: Only the laws that match, as pytest's ``-k``.
        json_path: Where to write the report as JSON.
        html_path: Where to write it as a page.
        thorough: Run the slow laws too, and search ten times as many examples.
        quiet: Print nothing but failures.

    Raises:
        BackendUnavailable: The backend is unknown, or its library or the kit's own extra is missing.
    """
    if importlib.util.find_spec("pytest") is None or importlib.util.find_spec("hypothesis") is None:
        raise BackendUnavailable("The conformance kit needs pytest and Hypothesis.", hint=install_line("conformance"))
    import pytest

    from helora_core.host.manager import get_manager

    get_manager().load_backend(backend)
    os.environ.pop("PYTEST_ADDOPTS", None)
    with tempfile.TemporaryDirectory() as root:
        # Use our own configuration file: a pytest.ini in the working directory belongs to another project.
        config = Path(root, "pytest.ini")
        config.write_text("[pytest]\nxfail_strict = true\n", encoding="utf-8")
        arguments = [
            str(_DOOR),
            "-c", str(config), "--rootdir", str(_DOOR.parent), "--import-mode=importlib", "-p", "no:cacheprovider",
            "--helora-backend", backend, "--helora-require", "-rfEx", "--tb=short",
            # pytest wants to rewrite the assertions of all of helora-core, part of which is already imported.
            "-W", "ignore::pytest.PytestAssertRewriteWarning",
        ]  # fmt: skip
        arguments += ["-k", keyword] if keyword else []
        arguments += ["--helora-thorough"] if thorough else []
        arguments += [f"--helora-json={json_path.resolve()}"] if json_path else []
        arguments += [f"--helora-html={html_path.resolve()}"] if html_path else []
        arguments += ["-q", "-q"] if quiet else []
        plugins = [] if _is_registered() else ["helora_core.conformance.plugin"]
        return int(pytest.main(arguments, plugins=plugins))


def _is_registered() -> bool:
    """Whether pytest finds the kit's plugin by its entry point (not so in a checkout that is not installed)."""
    from importlib.metadata import entry_points

    return any(entry.value == "helora_core.conformance.plugin" for entry in entry_points(group="pytest11"))
