"""``c++`` with a cache, for the many environments that the documentation's pages make: run it as ``CXX``.

``HELORA_OBJECTS`` is the cache's folder. An object is taken from it if arguments and all files beside its source are
the same; everything else goes to ``c++``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    cache = Path(os.environ["HELORA_OBJECTS"])
    if "-c" not in arguments:
        return subprocess.call(["c++", *arguments])
    source, out = (Path(arguments[arguments.index(flag) + 1]) for flag in ("-c", "-o"))
    digest = hashlib.sha256(repr([Path(each).name for each in arguments]).encode())
    for file in sorted(source.parent.iterdir()):
        if file.is_file():
            digest.update(file.read_bytes())
    kept = cache / digest.hexdigest()
    if not kept.exists():
        status = subprocess.call(["c++", *arguments])
        if status:
            return status
        staged = cache / f"{kept.name}.{os.getpid()}"
        shutil.copyfile(out, staged)
        os.replace(staged, kept)
    shutil.copyfile(kept, out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
