"""``python with_library.py LIBRARY PYTEST-ARGUMENTS…``: the tests with kernels that were compiled elsewhere.

``--exact`` before the library gives every array memory of its own, at whose end it ends, and gives none out twice: for
libraries that check each access.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from helora_rns import arrays, compiled


def exact(size: int) -> arrays.Block:
    """Aligned memory of the C library's, without a byte behind it."""
    libc = ctypes.CDLL(None)
    place = ctypes.c_void_p()
    if libc.posix_memalign(ctypes.byref(place), ctypes.c_size_t(arrays.ALIGNMENT), ctypes.c_size_t(max(size, 1))):
        raise MemoryError(f"{size} bytes")
    assert place.value is not None
    memory = (ctypes.c_uint8 * size).from_address(place.value)
    weakref.finalize(memory, libc.free, ctypes.c_void_p(place.value))
    return np.frombuffer(memory, dtype=np.uint8)


def main(arguments: list[str]) -> int:
    """Pytest's exit status."""
    is_exact = arguments[:1] == ["--exact"]
    library, *rest = arguments[1:] if is_exact else arguments
    compiled.library_path = lambda: Path(library)
    if compiled.library() is None:
        print(f"{library} is no library of kernels", file=sys.stderr)
        return 1
    if is_exact:
        arrays._aligned, arrays.KEPT_FROM = exact, sys.maxsize
    return int(pytest.main(["-p", "no:cacheprovider", *rest]))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
