"""Asks a plugin about its backend in a fresh interpreter that cannot find the backend's library."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from helora_core.host.records import RegisteredBackend

_HIDE = """
import importlib.machinery
_hidden = frozenset({names!r})
_find_spec = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in _hidden else _find_spec(name, path, target)
importlib.machinery.PathFinder.find_spec = staticmethod(find_spec)
"""

_ASK = """
import json, sys
from helora_core.host.manager import get_manager
manager = get_manager()
backend = manager.backends()[{name!r}]
imported = {module!r} in sys.modules
answer = backend.availability
failures = [failure.reason for failure in manager.failures if failure.origin == backend.origin]
print(json.dumps({{"imported_by_listing": imported, "availability": answer, "failures": failures}}))
"""


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fresh interpreter's findings about a backend that it did not use.

    Attributes:
        imported_by_listing: Whether listing the backends imported the module of its target.
        availability: Why it cannot be used, or None.
        failures: The plugin's failures so far.
    """

    imported_by_listing: bool
    availability: str | None
    failures: list[str]


def modules_of(registered: RegisteredBackend) -> list[str]:
    """Top-level modules of the backend's library; none if it has no library, or one that its plugin always needs.

    A plugin that cannot be installed without its library need not handle its absence.
    """
    library = _normal(registered.spec.library)
    needed = importlib.metadata.requires(registered.distribution) if registered.distribution else None
    for requirement in needed or ():
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        if _normal(name) == library and "extra ==" not in requirement:
            return []
    distributions = importlib.metadata.packages_distributions()
    return sorted(module for module, owners in distributions.items() if library in map(_normal, owners))


def ask_without(registered: RegisteredBackend, modules: list[str]) -> Answer:
    """Ask a fresh interpreter about a backend; it and its children find none of ``modules``.

    Raises:
        subprocess.CalledProcessError: The interpreter failed; the plugin host never should.
    """
    module = registered.spec.target.partition(":")[0]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(_HIDE.format(names=modules), encoding="utf-8")
        shown = subprocess.run(
            [sys.executable, "-c", _ASK.format(name=registered.spec.name, module=module)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([folder, *filter(None, sys.path)])},
            stdout=subprocess.PIPE,
            check=True,
            timeout=120,
        )
    return msgspec.json.decode(shown.stdout.splitlines()[-1], type=Answer)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
