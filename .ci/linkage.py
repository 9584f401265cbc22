"""What a compiled library offers and needs: exported names, and the libraries it asks the loader for.

ELF, Mach-O and PE of 64 bits, little-endian, as build.py makes them; binaries.py tells them apart.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

SYSTEM = {
    "elf": ("libc.so", "libm.so", "ld-linux-"),
    "macho": ("/usr/lib/libSystem.B.dylib",),
    "pe": ("api-ms-win-crt-", "kernel32.dll", "ucrtbase.dll", "msvcrt.dll"),
}
"""Beginnings of the names that every system has; no C++ runtime is among them."""

LINKER = frozenset({"__dso_handle", "_mh_dylib_header"})
"""What a linker adds to every Mach-O library."""


class Linkage(NamedTuple):
    """Names without the underscore that Mach-O puts before them; libraries as the file writes them."""

    exported: frozenset[str]
    needed: frozenset[str]


def linkage(data: bytes, kind: str) -> Linkage:
    """What a library of a kind (``elf``, ``macho``, ``pe``) offers and needs.

    Raises:
        ValueError, struct.error, IndexError: The file is not of that kind, or is cut off.
    """
    return {"elf": _elf, "macho": _macho, "pe": _pe}[kind](data)


def wrong(found: Linkage, promised: frozenset[str], system: tuple[str, ...]) -> Iterator[str]:
    """Where a library differs from the names that its header declares, or needs what a system may lack: anything
    whose name begins with none of ``system``; empty stands for no such promise.
    """
    if found.exported != promised:
        missing, extra = sorted(promised - found.exported), sorted(found.exported - promised)
        yield f"it exports {len(found.exported)} names: without {missing[:5]}, and with {extra[:5]}"
    known = tuple(name.lower() for name in system)
    strange = sorted(name for name in found.needed if not name.lower().startswith(known)) if system else []
    if strange:
        yield f"it needs {strange}"


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()


def _elf(data: bytes) -> Linkage:
    table, size, count = *struct.unpack_from("<Q", data, 0x28), *struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + index * size) for index in range(count)]
    exported, needed = set(), set()
    for _, kind, _, _, start, length, link, *_ in sections:
        if kind == 11:  # SHT_DYNSYM
            for at in range(start, start + length, 24):
                name, info, other, section = struct.unpack_from("<IBBH", data, at)
                # Defined, global or weak, and of default or protected visibility.
                if section != 0 and info >> 4 in (1, 2) and other & 3 in (0, 3):
                    exported.add(_text(data, sections[link][4] + name))
        elif kind == 6:  # SHT_DYNAMIC
            entries = [struct.unpack_from("<QQ", data, at) for at in range(start, start + length, 16)]
            needed |= {_text(data, sections[link][4] + value) for tag, value in entries if tag == 1}
    if not any(section[1] == 11 for section in sections):
        raise ValueError("an ELF file without a table of dynamic symbols")
    return Linkage(frozenset(exported), frozenset(needed))


def _macho(data: bytes) -> Linkage:
    exported, needed, at = set(), set(), 32
    for _ in range(struct.unpack_from("<I", data, 16)[0]):
        command, size = struct.unpack_from("<II", data, at)
        if command & 0x7FFFFFFF in (0xC, 0x18, 0x1F):  # LC_LOAD_DYLIB, weak, re-exported
            needed.add(_text(data, at + struct.unpack_from("<I", data, at + 8)[0]))
        elif command == 2:  # LC_SYMTAB
            symbols, count, strings, _ = struct.unpack_from("<IIII", data, at + 8)
            for index in range(count):
                name, kind = struct.unpack_from("<IB", data, symbols + 16 * index)
                # In a section (0x0E of 0x0E), external (0x01), not private (0x10), no debugger's entry (0xE0).
                if kind & 0xFF == 0x0F:
                    exported.add(_text(data, strings + name).removeprefix("_"))
        at += size
    return Linkage(frozenset(exported) - LINKER, frozenset(needed))


def _pe(data: bytes) -> Linkage:
    header = struct.unpack_from("<I", data, 0x3C)[0]
    count, optional = struct.unpack_from("<H", data, header + 6)[0], struct.unpack_from("<H", data, header + 20)[0]
    if struct.unpack_from("<H", data, header + 24)[0] != 0x20B:
        raise ValueError("a PE file that is not of 64 bits")
    table = header + 24 + optional
    sections = [struct.unpack_from("<IIII", data, table + 40 * index + 8) for index in range(count)]

    def offset(address: int) -> int:
        for virtual, start, size, raw in sections:
            if start <= address < start + max(virtual, size):
                return address - start + raw
        raise ValueError(f"no section has address {address:#x}")

    exports, _, imports, _ = struct.unpack_from("<IIII", data, header + 24 + 112)
    exported, needed = set(), set()
    if exports:
        names = struct.unpack_from("<I", data, offset(exports) + 24)[0]
        addresses = offset(struct.unpack_from("<I", data, offset(exports) + 32)[0])
        exported = {
            _text(data, offset(struct.unpack_from("<I", data, addresses + 4 * index)[0])) for index in range(names)
        }
    at = offset(imports) if imports else 0
    while at and (name := struct.unpack_from("<I", data, at + 12)[0]):
        needed.add(_text(data, offset(name)))
        at += 20
    return Linkage(frozenset(exported), frozenset(needed))
