"""Reads NumPy's ``.npy`` and ``.npz``, checking stated sizes against the actual bytes before memory is allocated.

The format is https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. NumPy's own reader evaluates the
header as Python, allocates whatever it states, ignores bytes after the array, and inflates an archive's members to any
size.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from helora_core.files.bounded import open_plain
from helora_core.files.malformed import Malformed

MOST_BYTES = 16 << 30
"""Most bytes that are read from one file, all arrays together."""

MOST_RATIO = 100
"""The most times its own size that an archive may be inflated to, if that is more than ``FREE_BYTES``."""

FREE_BYTES = 64 << 20
"""Bytes that any archive may be inflated to, whatever its size: matrices of zeros are compressed a thousand times."""

_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_MOST_HEADER = 10_000
_FIELDS = re.compile(
    r"""\s*\{\s*(?:
        (?: (?P<q1>['"])descr(?P=q1)\s*:\s*(?P<q2>['"])(?P<descr>[^'"\\]{1,16})(?P=q2)
          | (?P<q3>['"])fortran_order(?P=q3)\s*:\s*(?P<fortran>True|False)
          | (?P<q4>['"])shape(?P=q4)\s*:\s*\((?P<shape>[0-9,\sL]{0,999})\)
        )\s*(?:,\s*|(?=\})))
    {3}\}\s*""",
    re.VERBOSE,
)
_PLAIN_DTYPE = re.compile(r"[<>|=]?(?:[fiuc][0-9]{1,2}|[b?]1?|V2)")

_END = struct.Struct("<4sHHHHIIH")  # of an archive: magic, disks, entries, size and place of the directory, comment
_MOST_DIRECTORY = 32 << 20

Array = NDArray[Any]


def read_arrays(path: Path, wanted: Collection[str] | None = None) -> Array | dict[str, Array]:
    """The array of an ``.npy`` file, or the arrays of an ``.npz`` file by name. The content says which of them it is.

    Args:
        path: The file.
        wanted: Names of the arrays to read from an archive; all if None.

    Returns:
        Arrays of plain numbers, in C or Fortran order. bfloat16, as other software writes it, comes as ``|V2``.

    Raises:
        OSError: It cannot be read.
        Malformed: It is damaged, states sizes that it does not have, or holds anything other than plain numbers.
    """
    descriptor, size = open_plain(path)
    with open(descriptor, "rb") as file:
        magic = file.read(len(_MAGIC))
        file.seek(0)
        try:
            if magic == _MAGIC:
                return _read_array(file, size)
            if magic[:4] in _ZIP_MAGIC:
                return _read_archive(file, size, wanted)
        except MemoryError as error:
            raise Malformed("holds more than there is memory for") from error
    raise Malformed("is neither an .npy file nor an .npz archive")


def _read_array(file: BinaryIO, size: int) -> Array:
    """Read one array that takes exactly ``size`` bytes with its header."""
    head = _exactly(file, 8)
    if head[:6] != _MAGIC or head[6:] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise Malformed("is not of .npy version 1, 2 or 3")
    width = 2 if head[6] == 1 else 4
    length = int.from_bytes(_exactly(file, width), "little")
    if length > min(_MOST_HEADER, size):
        raise Malformed(f"has an .npy header of {length} bytes")
    dtype, fortran, shape = _parsed(_exactly(file, length))
    body = size - 8 - width - length
    needed = math.prod(shape) * dtype.itemsize
    if needed != body:
        raise Malformed(f"states an array of {needed} bytes, and holds {body}")
    if needed > MOST_BYTES:
        raise Malformed(f"states an array of {needed} bytes, and at most {MOST_BYTES} are read")
    data = bytearray(needed)  # writable, as from numpy.load
    filled = 0
    while filled < needed:
        count = file.readinto(memoryview(data)[filled:])  # type: ignore[attr-defined]
        if not count:
            raise Malformed("was cut short")
        filled += count
    array = np.frombuffer(data, dtype) if needed else np.empty(0, dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise Malformed("was cut short")
    return data


def _parsed(header: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    found = _FIELDS.fullmatch(header.decode("latin-1"))
    if found is None or not all((found["descr"], found["fortran"])) or found["shape"] is None:
        raise Malformed("has no .npy header of a plain array")
    if _PLAIN_DTYPE.fullmatch(found["descr"]) is None:
        raise Malformed("holds something other than plain numbers, or a pickle")
    sides = [side.strip().rstrip("L") for side in found["shape"].split(",")]
    if sides[-1] == "":  # (), (3,) and (3, 4) are tuples; (3) is not
        sides.pop()
    elif len(sides) == 1:
        raise Malformed("has no .npy header of a plain array")
    if len(sides) > 32 or any(not side.isdecimal() or len(side) > 18 for side in sides):
        raise Malformed("states a shape that no array has")
    try:
        dtype = np.dtype(found["descr"])
    except TypeError as error:
        raise Malformed("holds numbers of an unknown kind") from error
    return dtype, found["fortran"] == "True", tuple(map(int, sides))


def _read_archive(file: BinaryIO, size: int, wanted: Collection[str] | None) -> dict[str, Array]:
    _check_end(file, size)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_entries(entries, size)
            names = {entry.filename.removesuffix(".npy"): entry for entry in entries}
            kept = names if wanted is None else {name: names[name] for name in names if name in wanted}
            arrays = {}
            for name, entry in kept.items():
                with archive.open(entry) as member:
                    arrays[name] = _read_member(name, member, entry.file_size)
            return arrays
    except (Malformed, MemoryError):
        raise
    except Exception as error:  # on damaged files zipfile raises many kinds of exceptions
        raise Malformed(f"is a damaged archive ({error or type(error).__name__})") from error


def _read_member(name: str, member: Any, size: int) -> Array:
    try:
        array = _read_array(member, size)
    except Malformed as error:
        raise Malformed(f"array {name!r} {error.reason}") from error
    if member.read(1):
        raise Malformed(f"array {name!r} continues after its end")
    return array


def _check_end(file: BinaryIO, size: int) -> None:
    """Refuse bytes after the archive, which zipfile ignores, and a directory that would fill the memory."""
    if size < _END.size:
        raise Malformed("is a damaged archive (was cut short)")
    file.seek(size - _END.size)
    magic, *_, directory, _, comment = _END.unpack(_exactly(file, _END.size))
    file.seek(0)
    if magic != b"PK\x05\x06" or comment:
        raise Malformed("is a damaged archive (it does not end where it should)")
    if directory > _MOST_DIRECTORY:
        raise Malformed(f"is an archive with a directory of {directory} bytes")


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse an archive with members other than arrays, or one that would inflate to more than is read."""
    seen = set[str]()
    for entry in entries:
        name = entry.filename
        if not name.endswith(".npy") or name in seen:
            raise Malformed(f"holds {name!r}, which is there twice or is not an array")
        if entry.flag_bits & 0x1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Malformed(f"holds {name!r} encrypted, or compressed in a way that numpy.savez does not")
        seen.add(name)
    total = sum(entry.file_size for entry in entries)
    if total > max(FREE_BYTES, MOST_RATIO * size) or total > MOST_BYTES:
        raise Malformed(
            f"has {size} bytes and would be inflated to {total}; at most {MOST_RATIO} times its size, or {FREE_BYTES} "
            f"bytes if that is more, and never more than {MOST_BYTES}, are read"
        )
