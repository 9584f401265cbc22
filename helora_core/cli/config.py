"""Defaults from a file: ``$HELORA_CONFIG``, else ``helora.toml`` here, else ``config.toml`` in helora's own folder.

::

    backend = "tenseal"
    ring = 16384
    security = "192"

A key is an option's name without its dashes and holds for every command that has the option. The command line comes
first, then the environment, then the file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from helora_core.errors import InvalidInput

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KEYS = (
    "backend", "packing", "ring", "security", "min_bits", "private_weights", "sanitize", "batch", "rtt_ms",
    "max_rotations", "max_keyswitches", "max_rescales", "max_bytes", "max_key_bytes", "max_depth",
)  # fmt: skip


def _path() -> Path | None:
    named = os.environ.get("HELORA_CONFIG")
    if named:
        return Path(named)
    places = (Path("helora.toml"), Path(click.get_app_dir("helora"), "config.toml"))
    return next((place for place in places if place.is_file()), None)


def read_defaults() -> dict[str, str]:
    """Option defaults by parameter name, as text, empty if there is no file.

    Raises:
        InvalidInput: The file named does not exist, is no TOML, or has a key that is no option.
    """
    path = _path()
    if path is None:
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path}: {error}", hint="Write key = value lines, as in ring = 8192.") from error
    defaults = {key.replace("-", "_"): value for key, value in content.items()}
    unknown = sorted(set(defaults) - set(KEYS))
    if unknown:
        raise InvalidInput(
            f"{path}: there is no setting {', '.join(unknown)}.",
            hint=f"The settings are {', '.join(KEYS)}.",
        )
    return {key: str(value) for key, value in defaults.items()}
