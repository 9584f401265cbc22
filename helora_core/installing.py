"""The line that installs an extra of helora here: it depends on how helora itself came to be installed.

helora's names are on no package index, so a bare name is never the answer. What an installer wrote
beside the package says where it took it from: a checkout, a wheel's file, or a folder of wheels that it does not name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

IN_CHECKOUT: Mapping[str, tuple[str, ...]] = {
    "numpy": ("helora-numpy",),
    "rns": ("helora-rns",),
    "tenseal": ("helora-tenseal[native]",),
    "pyfhel": ("helora-pyfhel[native]",),
    "openfhe": ("helora-openfhe[native]",),
    "cuda12": ("helora-rns", "helora-cupy[cuda12]"),
    "cuda13": ("helora-rns", "helora-cupy[cuda13]"),
    "lm": ("helora-rns", "helora-transformers[models]"),
    "serve": ("helora-rns", "helora-serve"),
    "proxy": ("helora-rns", "helora-transformers[models]", "helora-serve[proxy]"),
}
"""Folders in ``plugins`` that an extra stands for; an extra that is not here is of the core alone."""


def install_line(extra: str) -> str:
    """A command that installs ``helora-core[extra]`` from where this helora came from.

    For a checkout it is one to run there. A folder of wheels that is not on record is written ``WHEELS``.
    """
    try:
        found = distribution("helora-core")
    except PackageNotFoundError:  # on the path, and not installed
        return _line(None, extra, "")
    return _line(_origin(found), extra, found.version)


def _line(origin: Path | None, extra: str, version: str) -> str:
    if origin is not None and (origin / "plugins").is_dir():
        parts = [f"plugins/{part}" for part in IN_CHECKOUT.get(extra, ())] or [f".[{extra}]"]
        return " ".join(("pip install", *(f"-e {_quoted(part)}" for part in parts)))
    folder = "WHEELS" if origin is None else _quoted(str(origin))
    pinned = f"=={version}" if version else ""
    return f"pip install --find-links {folder} 'helora-core[{extra}]{pinned}'"


def _origin(found: Distribution) -> Path | None:
    """The checkout, or the folder of the wheel, that the installer recorded (PEP 610), if it is still there."""
    try:
        record: dict[str, Any] = json.loads(found.read_text("direct_url.json") or "{}")
        address = urlsplit(str(record.get("url", "")))
    except ValueError:
        return None
    if address.scheme != "file":
        return None
    path = Path(url2pathname(address.path))
    folder = path if "dir_info" in record else path.parent
    return folder if folder.is_dir() else None


def _quoted(argument: str) -> str:
    """For a shell, in the same quotes everywhere."""
    return f"'{argument}'" if any(character in argument for character in " []()&;") else argument
