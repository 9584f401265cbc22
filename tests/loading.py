"""A file that is in no package, as a module: what lies beside the tests of plugins, how engines are built, examples."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def module_at(path: Path) -> ModuleType:
    """The module of a file in this repository; one for all that ask."""
    name = "file_" + re.sub(r"\W", "_", str(path.resolve().relative_to(ROOT).with_suffix("")))
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[name])
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
