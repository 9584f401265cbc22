"""Compares the random draws of fresh processes: a generator with a fixed seed repeats itself in the next process."""

from __future__ import annotations

import os
import subprocess
import sys

_DRAW = """
import hashlib
import numpy as np
from helora_core.conformance.draws import SMALLEST
from helora_core.host.manager import get_manager
backend = get_manager().load_backend({name!r})
params = backend.resolve(SMALLEST)
public = backend.capabilities.public_key
decryptor, evaluator = backend.generate_keys(params, (), public_key=public)
values, scale = np.ones(params.slots), 2.0 ** params.scale_bits
drawn = {{"key id": decryptor.key_id, "encryption": decryptor.encrypt(values, scale=scale)}}
if public:
    drawn["public-key encryption"] = evaluator.encrypt_public(values, scale=scale)
    drawn["public key"] = decryptor.evaluation_keys()
for name, thing in drawn.items():
    found = thing if isinstance(thing, bytes) else decryptor.decrypt(thing).tobytes()
    print(name, hashlib.sha256(found).hexdigest(), sep=": ")
"""


def drawn_in_processes(backend: str, count: int = 2) -> list[dict[str, str]]:
    """Run ``count`` processes side by side, and return for each the digests of its draws for a backend, by name.

    Raises:
        subprocess.CalledProcessError: One of them failed.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", _DRAW.format(name=backend)]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    shown = [process.communicate(timeout=120)[0] for process in running]
    for process in running:
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
    return [dict(line.split(": ") for line in lines.splitlines()) for lines in shown]
