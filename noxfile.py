"""The suites that CI runs, each in an environment of its own: ``nox`` for all, ``nox -s lint`` for one.

The README's ``uv run pytest`` is the quick way to the same tests on one Python.
"""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
WORKSPACE = ["-e", ".", "-e", "plugins/helora-numpy", "-e", "plugins/helora-tenseal[native]"]


def _install(session: nox.Session, *groups: str) -> None:
    group_options = [option for group in groups for option in ("--group", group)]
    session.install(*WORKSPACE, *group_options)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests, on every supported Python."""
    _install(session, "test")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style of code and of the code in the documentation."""
    session.install("--group", "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python="3.11")
def types(session: nox.Session) -> None:
    """mypy --strict over core and plugins."""
    _install(session, "lint")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, with every broken link an error."""
    _install(session, "docs")
    session.run("mkdocs", "build", "--strict")


@nox.session
def overhead(session: nox.Session) -> None:
    """What helora adds to the same calls of SEAL: a paired benchmark, for people to read; it gates nothing."""
    _install(session)
    session.run("python", "harness/framework_overhead.py", *session.posargs)
