"""Profiles as files: where a backend's profile is kept, and how it is written and read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec

from helora_core.errors import CorruptPayload, InvalidInput
from helora_core.files import strict_json
from helora_core.files.atomic import replacing
from helora_core.files.bounded import read_bytes
from helora_core.files.malformed import Malformed
from helora_core.planning.profile import FORMAT, OLDEST_SCHEMA, SCHEMA, Profile

_LONGEST_KIND = 64

MOST_BYTES = 16 << 20
"""Largest profile that is read; one with all rings and chains has a few hundred KiB."""


def profile_path(backend_name: str, environ: Mapping[str, str] | None = None, *, device: str = "") -> Path:
    """Where a backend's profile is kept: in ``$HELORA_PROFILES``, else in helora's folder in the user's data.

    Args:
        backend_name: Registered name of the backend.
        environ: The environment with ``HELORA_PROFILES``, ``XDG_DATA_HOME`` and ``HOME``; ``os.environ`` if None.
        device: The device that it computes on, each with a profile of its own; empty for the CPU.

    Raises:
        InvalidInput: The name cannot be a file's name.
    """
    if Path(backend_name).name != backend_name or backend_name in ("", ".."):
        raise InvalidInput(
            f"{backend_name!r} is not a backend's name.", hint="Use a name that `helora backends` lists."
        )
    kind = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")[:_LONGEST_KIND]
    file = f"{backend_name}@{kind}.json" if device else f"{backend_name}.json"
    environ = os.environ if environ is None else environ
    if environ.get("HELORA_PROFILES"):
        return Path(environ["HELORA_PROFILES"]) / file
    data = Path(environ.get("XDG_DATA_HOME", ""))
    if not data.is_absolute():  # the XDG specification says to ignore a relative one
        data = Path(environ["HOME"] if environ.get("HOME") else Path.home()) / ".local" / "share"
    return data / "helora" / "profiles" / file


def target_path(backend_name: str, output: Path | None = None, *, device: str = "") -> Path:
    """Where to write a profile: ``output``, or the place where ``load_profile`` looks, whose folder is made.

    Call it before the work rather than after it.

    Raises:
        InvalidInput: A file cannot be written there, as far as can be known beforehand.
    """
    if output is None:
        path = profile_path(backend_name, device=device)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(
                f"{path.parent}: cannot be made ({error.strerror or error}).",
                hint="Name a file with --output, or a folder with HELORA_PROFILES.",
            ) from error
    else:
        path = output
    if path.is_dir() or not path.parent.is_dir():
        raise InvalidInput(
            f"{path}: cannot be written, since "
            + ("it is a directory." if path.is_dir() else f"{path.parent} is not a directory."),
            hint="Name a file in a directory that exists.",
        )
    return path


def write_profile(profile: Profile, path: Path) -> None:
    """Write a profile as JSON, whole or not at all.

    Raises:
        InvalidInput: The place cannot be written to.
    """
    with replacing(path) as file:
        dump_profile(profile, file)


def dump_profile(profile: Profile, file: BinaryIO) -> None:
    """Write a profile as JSON into an open file."""
    file.write(msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n")


class _Header(msgspec.Struct):
    format: str = ""
    schema: int = 0


def read_profile(path: Path) -> Profile:
    """Read what ``write_profile`` wrote, here or in a version since schema ``OLDEST_SCHEMA``.

    Raises:
        InvalidInput: The file cannot be read.
        CorruptPayload: It is not a profile, is damaged, or has another schema.
    """
    try:
        content = read_bytes(path, most=MOST_BYTES)
    except Malformed as error:
        raise CorruptPayload(
            f"{path}: this is not a profile of helora (it {error.reason}).", hint="Name a file of helora calibrate."
        ) from error
    except OSError as error:
        raise InvalidInput(
            f"{path}: cannot be read ({error.strerror or error}).", hint="Run helora calibrate to make a profile."
        ) from error
    try:
        header = strict_json.decode(content, _Header, most=MOST_BYTES)
        if header.format != FORMAT:
            raise CorruptPayload(f"{path}: this is not a profile of helora.", hint="Name a file of helora calibrate.")
        if not OLDEST_SCHEMA <= header.schema <= SCHEMA:
            raise CorruptPayload(
                f"{path}: this profile has schema {header.schema}; this helora reads {OLDEST_SCHEMA} to {SCHEMA}.",
                hint="Update helora." if header.schema > SCHEMA else "Run helora calibrate again, with --force.",
            )
        return strict_json.decode(content, Profile, most=MOST_BYTES)
    except Malformed as error:
        raise CorruptPayload(
            f"{path}: this profile is damaged (it {error.reason}).", hint="Run helora calibrate again, with --force."
        ) from error


def load_profile(backend_name: str, environ: Mapping[str, str] | None = None, *, device: str = "") -> Profile | None:
    """The stored profile of a backend (on its device), or None if it was never calibrated.

    Raises:
        InvalidInput, CorruptPayload: As ``profile_path`` and ``read_profile`` do; or the file is another backend's, or
            of another device.
    """
    path = profile_path(backend_name, environ, device=device)
    if not path.exists():
        return None
    profile = read_profile(path)
    if profile.provenance.backend != backend_name:
        raise CorruptPayload(
            f"{path}: this is the profile of {profile.provenance.backend}, not of {backend_name}.",
            hint=f"Run helora calibrate --backend {backend_name} --force.",
        )
    if profile.provenance.device != device:
        raise CorruptPayload(
            f"{path}: this profile was made on {profile.provenance.device or 'the CPU'}, not on {device or 'the CPU'}.",
            hint=f"Run helora calibrate --backend {backend_name} --force.",
        )
    return profile
