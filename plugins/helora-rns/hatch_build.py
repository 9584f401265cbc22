"""Hatchling's hook: a wheel or an editable install gets compiled kernels if this machine can make them.

``HELORA_RNS_BUILD=pure`` leaves them out, and ``HELORA_RNS_BUILD=`` the name of a target in build.py is for that one.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledKernels(BuildHookInterface[Any]):
    """Compiles before files are collected."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """A compiler from the index, where the system has none."""
        asked = os.environ.get("HELORA_RNS_BUILD", "")
        if self.target_name != "wheel" or asked == "pure" or (not asked and self._build().system_compiler()):
            return []
        return ["ziglang>=0.13"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Put the library among the package's files, and say what the wheel runs on."""
        if self.target_name != "wheel":
            return
        build, asked = self._build(), os.environ.get("HELORA_RNS_BUILD", "")
        target = build.TARGETS[asked] if asked and asked != "pure" else None
        library = None if asked == "pure" else build.compile_library(build.LIBRARY, target)
        # Only now, since processes of other environments may be about to load it.
        for file in {each.file for each in build.TARGETS.values()}:
            if library is None or file != library.name:
                (build.LIBRARY / file).unlink(missing_ok=True)
        if library is None:
            if asked != "pure":
                self.app.display_warning("helora-rns: no compiler; this is a pure wheel, with the slow NumPy kernels")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{(target or build.this_machine()).tag}"

    def _build(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location("helora_rns_build", Path(self.root, "build.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where its dataclass looks for it
        spec.loader.exec_module(module)
        return module
