"""Reads TOML of limited size and depth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from helora_core.files.malformed import Malformed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_BYTES = 64 << 10
"""Largest file that is read: on some files the parser takes quadratic time."""


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        OSError: It cannot be read.
        Malformed: It is too large, or not TOML.
    """
    with open(path, "rb") as file:  # the user's own file, so a pipe or /dev/null is fine
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise Malformed(f"has more than the {MOST_BYTES} bytes that are read")
    try:
        tables: dict[str, Any] = tomllib.loads(data.decode("utf-8"))
        return tables
    except UnicodeDecodeError as error:
        raise Malformed(f"is not TOML (not UTF-8 at byte {error.start})") from error
    except RecursionError as error:  # tomli also raises it itself, for a key of more than 1000 parts
        raise Malformed("is not TOML that can be read (too many arrays, tables or parts of a key)") from error
    except ValueError as error:  # a TOMLDecodeError, or from a number of thousands of digits
        raise Malformed(f"is not TOML ({error})") from error
