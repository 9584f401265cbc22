"""Reads what a compiled library is for: format, machine, and the newest glibc that it asks for. ELF, Mach-O and PE."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple


class Binary(NamedTuple):
    """A library: ``elf``, ``macho`` or ``pe``; ``x86_64`` or ``arm64``; the glibc that it needs, (0, 0) for none."""

    format: str
    machine: str
    glibc: tuple[int, int]


ELF = {62: "x86_64", 183: "arm64"}
MACHO = {0x01000007: "x86_64", 0x0100000C: "arm64"}
PE = {0x8664: "x86_64", 0xAA64: "arm64"}


def read(data: bytes) -> Binary:
    """What a library's bytes are.

    Raises:
        ValueError: None of the three formats, or a machine that helora is not built for.
    """
    if data[:4] == b"\x7fELF":
        kind, code, machines = "elf", struct.unpack_from("<H", data, 18)[0], ELF
    elif data[:4] == b"\xcf\xfa\xed\xfe":
        kind, code, machines = "macho", struct.unpack_from("<I", data, 4)[0], MACHO
    elif data[:2] == b"MZ":
        start = struct.unpack_from("<I", data, 0x3C)[0]
        if data[start : start + 4] != b"PE\0\0":
            raise ValueError("an MZ file without a PE header")
        kind, code, machines = "pe", struct.unpack_from("<H", data, start + 4)[0], PE
    else:
        raise ValueError(f"neither ELF, Mach-O nor PE: {data[:4]!r}")
    if code not in machines:
        raise ValueError(f"{kind} for machine {code:#x}")
    asked = [(int(major), int(minor)) for major, minor in re.findall(rb"GLIBC_(\d+)\.(\d+)", data)]
    return Binary(kind, machines[code], max(asked, default=(0, 0)))


def wanted(tag: str) -> Binary:
    """What a wheel's platform tag promises; its glibc is the newest that the library may ask for."""
    machine = "arm64" if tag.endswith(("arm64", "aarch64")) else "x86_64"
    if tag.startswith("macosx"):
        return Binary("macho", machine, (0, 0))
    if tag.startswith("win"):
        return Binary("pe", machine, (0, 0))
    manylinux = re.match(r"manylinux_(\d+)_(\d+)_", tag)
    if manylinux:
        return Binary("elf", machine, (int(manylinux[1]), int(manylinux[2])))
    # musl has no versions; a wheel of this machine alone (linux_x86_64) may ask for whatever this machine has.
    return Binary("elf", machine, (0, 0) if tag.startswith("musl") else (99, 99))


def wrong(data: bytes, tag: str) -> str | None:
    """Why a library is not what its wheel's tag says, or None."""
    try:
        found, promised = read(data), wanted(tag)
    except (ValueError, struct.error) as error:
        return f"unreadable: {error}"
    if found[:2] != promised[:2]:
        return f"{found.format} for {found.machine}, and the tag is {tag}"
    if found.glibc > promised.glibc:
        return f"asks for glibc {found.glibc[0]}.{found.glibc[1]}, and the tag is {tag}"
    return None
