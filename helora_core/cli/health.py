"""What ``helora doctor`` finds: everything on this machine that decides what runs, and how fast."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helora_core.installing import install_line

if TYPE_CHECKING:
    from helora_core.host.manager import PluginManager

FEATURES = ("avx2", "avx512f", "avx512ifma", "avx512_ifma", "bmi2", "aes", "vaes", "sha_ni", "neon", "asimd", "sve")
"""Of a processor, as Linux names them: those that kernels or libraries choose by."""

COMPILERS = ("c++", "g++", "clang++", "nvcc")

EXTRAS = (
    ("helora-transformers", "helora_transformers", "chat, generate, link, model", install_line("lm")),
    ("helora-serve", "helora_serve", "serve, proxy, token, the private page", install_line("serve")),
    ("torch", "torch", "language models", "pip install torch"),
    ("transformers", "transformers", "language models", install_line("lm")),
    ("tokenizers", "tokenizers", "language models", install_line("lm")),
    ("gguf", "gguf", "helora model fetch", install_line("lm")),
)
"""Distributions, their modules, what of helora needs them, and how to get them."""

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "HELORA_THREADS", "HELORA_OPENFHE_THREADS")
"""How many threads libraries take."""


def findings() -> dict[str, Any]:
    """All of it, as ``helora doctor --json`` prints it; the keys are documented in docs/cli.md."""
    from helora_core import __version__
    from helora_core.host.manager import get_manager

    manager = get_manager()
    auto = _auto(manager)
    backends = [_backend(manager, name) for name in manager.backends()]
    return {
        "helora": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "compilers": [*_compilers()],
        "backends": backends,
        "auto": auto,
        "extras": [
            {"name": name, "version": _version(name, module), "for": use, "install": install}
            for name, module, use, install in EXTRAS
        ],
        "folders": [*_folders()],
        "variables": _variables(),
        "problems": [*_problems(manager, auto, backends)],
    }


def _processor() -> dict[str, Any]:
    from helora_core.planning.profile import Provenance

    here = Provenance.here("", library="", library_version=None, rounds=0)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    flags = next(named, [])
    return {"model": here.cpu, "cores": here.cores, "features": [name for name in FEATURES if name in flags]}


def _compilers() -> Iterator[dict[str, str]]:
    for name in dict.fromkeys(filter(None, (os.environ.get("CXX"), *COMPILERS))):
        path = shutil.which(name)
        if path is not None:
            yield {"name": name, "path": path, "version": _says(path)}


def _says(path: str) -> str:
    """The version of a compiler: the first line that has a number with a point in it."""
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next((line.strip() for line in told.splitlines() if re.search(r"\d\.\d", line)), "")


def _backend(manager: PluginManager, name: str) -> dict[str, Any]:
    registered = manager.backends()[name]
    return {
        "name": name,
        "available": registered.availability is None,
        "reason": registered.availability,
        "only_by_name": registered.only_by_name,
        "secure": registered.spec.provides_security,
        "library": " ".join(filter(None, (registered.spec.library, registered.library_version))),
        "device": registered.device,
        "facts": registered.facts,
        "profile": _profile(name, registered.device) if registered.availability is None else None,
    }


def _profile(name: str, device: str) -> dict[str, Any]:
    """The backend's calibration: where it is, of when, and what it says of other machines."""
    from helora_core.errors import HeloraError
    from helora_core.planning.profile import Provenance
    from helora_core.planning.profile_files import load_profile, profile_path

    path = profile_path(name, device=device)
    found: dict[str, Any] = {"path": str(path), "date": None, "differs": [], "refusal": None}
    try:
        profile = load_profile(name, device=device)
    except HeloraError as error:
        return found | {"refusal": error.message}
    if profile is None:
        return found
    made = profile.provenance
    here = Provenance.here(name, library=made.library, library_version=made.library_version, rounds=0, device=device)
    return found | {"date": made.date, "differs": list(made.differences(here))}


def _auto(manager: PluginManager) -> dict[str, Any]:
    """What runs without ``--backend``, and why the backends that were preferred to it do not."""
    from helora_core.errors import HeloraError
    from helora_core.planning.selection import AUTO, select_backend

    named = os.environ.get("HELORA_BACKEND") or None
    try:
        selection = select_backend(manager)
    except HeloraError as error:
        return {"backend": None, "named_by": named, "skipped": [], "refusal": error.message, "hint": error.hint}
    return {
        "backend": selection.name,
        "named_by": f"HELORA_BACKEND={named}" if named and named != AUTO else None,
        "skipped": [{"backend": name, "reason": reason} for name, reason in selection.skipped],
        "refusal": None,
        "hint": None,
    }


def _version(name: str, module: str) -> str | None:
    """The version of a distribution whose module can be imported; None if it cannot."""
    try:
        return importlib.metadata.version(name) if importlib.util.find_spec(module) else None
    except (importlib.metadata.PackageNotFoundError, ImportError, ValueError):
        return None


def _folders() -> Iterator[dict[str, Any]]:
    """Where helora keeps things, with what is there; not followed out of these folders by links."""
    from helora_core.planning.profile_files import profile_path

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "helora"
    yield {"what": "profiles", **_size(profile_path("any").parent)}
    yield {"what": "cache", **_size(cache)}
    for each in sorted(cache.iterdir()) if cache.is_dir() else ():
        if each.is_dir() and not each.is_symlink():
            yield {"what": f"cache: {each.name}", **_size(each)}


def _size(folder: Path) -> dict[str, Any]:
    files = [path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {"path": str(folder), "exists": folder.is_dir(), "files": len(files), "bytes": sum(files)}


def _variables() -> dict[str, str | None]:
    others = [name for name in sorted(os.environ) if name.startswith("HELORA_") and "PASSWORD" not in name]
    return {name: os.environ.get(name) for name in dict.fromkeys((*VARIABLES, *others))}


def _problems(manager: PluginManager, auto: dict[str, Any], backends: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """What has to be seen to before anything is encrypted here, and what to do about it."""
    if auto["backend"] is None:
        yield {"what": auto["refusal"], "hint": auto["hint"]}
    elif not manager.backends()[auto["backend"]].spec.provides_security:
        yield {"what": f"HELORA_BACKEND names {auto['backend']}, which encrypts nothing.", "hint": "Unset it."}
    for failure in manager.failures:
        yield {"what": failure.reason, "hint": failure.next_step}
    for row in backends:
        if row["profile"] and row["profile"]["refusal"]:
            hint = f"Run helora calibrate --backend {row['name']} --force."
            yield {"what": row["profile"]["refusal"], "hint": hint}
