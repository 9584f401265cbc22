"""Defaults from a file: ``$HELORA_CONFIG``, else ``helora.toml`` here, else ``config.toml`` in helora's own folder.

::

    backend = "tenseal"
    ring = 16384
    security = "192"

A key is an option's name without its dashes and holds for every command that has the option. The command line comes
first, then the environment, then the file.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import click

from helora_core.cli.groups import closest
from helora_core.errors import InvalidInput
from helora_core.files.malformed import Malformed
from helora_core.files.strict_toml import read_toml

KEYS = (
    "backend", "packing", "ring", "security", "security_table", "target_bits", "min_bits", "private_weights",
    "sanitize", "rtt_ms", "max_rotations", "max_keyswitches", "max_rescales", "max_bytes", "max_key_bytes",
    "max_depth",
)  # fmt: skip

FLAGS = ("private_weights",)
"""The keys whose values are true or false."""


def _path() -> Path | None:
    named = os.environ.get("HELORA_CONFIG")
    if named:
        return Path(named)
    places = (Path("helora.toml"), Path(click.get_app_dir("helora"), "config.toml"))
    return next((place for place in places if place.is_file()), None)


def read_defaults() -> dict[str, str]:
    """Option defaults by parameter name, as text, empty if there is no file.

    Raises:
        InvalidInput: The file does not exist, is not TOML, has a key that is not an option, or a value that no option
            could have.
    """
    path = _path()
    if path is None:
        return {}
    try:
        content = read_toml(path)
    except (Malformed, OSError) as error:
        why = error.reason if isinstance(error, Malformed) else f"cannot be read ({error.strerror or error})"
        raise InvalidInput(f"{path}: {why}.", hint="Write key = value lines, such as ring = 8192.") from error
    defaults = {key.replace("-", "_"): value for key, value in content.items()}
    if len(defaults) != len(content):
        raise InvalidInput(
            f"{path}: a setting is given twice, with a dash and with an underscore.", hint="Write each setting once."
        )
    unknown = sorted(set(defaults) - set(KEYS))
    if unknown:
        raise InvalidInput(
            f"{path}: there is no setting {', '.join(unknown)}.",
            hint=closest(unknown[0], list(KEYS)),
        )
    for key, value in defaults.items():
        _check_value(path, key, value)
    return {key: str(value) for key, value in defaults.items()}


def _check_value(path: Path, key: str, value: object) -> None:
    """Refuse a value that is only valid for the option once it is turned into text."""
    if key in FLAGS:
        sound, wanted = isinstance(value, bool), "true or false"
    else:
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63  # as TOML has them
        sound = whole or isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))
        wanted = "text or a number in range"
    if not sound:
        raise InvalidInput(
            f"{path}: {key} is a {type(value).__name__}, not {wanted}.",
            hint=f"Write {key} = true, or false." if key in FLAGS else f"Write {key} as on the command line.",
        )
