"""A server needs no helora-transformers, and the proxy says that it does."""

from __future__ import annotations

import subprocess
import sys

HIDING = """
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "helora_transformers":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "helora_transformers" else found(name, *more)
from helora_core.cli.main import main
main(sys.argv[1:])
"""


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HIDING, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_a_server_starts_without_it() -> None:
    assert "--host" in _run("serve", "--help").stdout


def test_the_proxy_says_what_to_install() -> None:
    done = _run("proxy", "artifact", "--base", "base")
    assert done.returncode == 1
    assert "helora-serve[proxy]" in done.stderr
