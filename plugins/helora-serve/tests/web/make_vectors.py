"""Writes ``vectors.json``: one request in coefficients with all of its seeds, for clients that share no code with us.

``python plugins/helora-serve/tests/web/make_vectors.py`` from the repository's root. Messages are base64, seeds
hexadecimal. Random bytes are those of tests: call k gives the first bytes of SHA-256("k.0"), SHA-256("k.1"), …
(``random.mjs``). ``draws`` has them in the order in which they were drawn.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from helora_core.adapter.lora import LoRAAdapter, LoRAModule
from helora_core.compiler.exponents import normalized
from helora_core.compiler.request import Constraints
from helora_core.parties import request
from helora_core.parties.compile import compile

FILE = Path(__file__).parent / "vectors.json"
CLIENT = ("secret key", "public polynomial", "public key's errors", "key id")
REQUEST = ("request id", "ciphertext's uniform polynomial", "ciphertext's errors")


def vectors() -> dict[str, Any]:
    """The exchange: the same each time, but for what the server says of its time."""
    rng = np.random.default_rng(58)
    down, up = rng.standard_normal((4, 24)) / 5, rng.standard_normal((6, 4)) / 2
    module = LoRAModule("layers.0.q_proj", down, up, 0.5)
    constraints = Constraints(private_weights=False)
    lora = compile(
        LoRAAdapter({module.name: module}, "vectors"),
        packing="cheetah",
        backend="rns",
        constraints=constraints,
        tokens=1,
    )
    (compiled,), server = lora.modules, lora.server()
    draws: list[bytes] = []
    calls = itertools.count()
    own, new_id = os.urandom, request.new_request_id

    def random(count: int) -> bytes:
        call = next(calls)
        parts = [hashlib.sha256(f"{call}.{i}".encode()).digest() for i in range(-(-count // 32))]
        draws.append(b"".join(parts)[:count])
        return draws[-1]

    x = rng.standard_normal((1, 24)) * 3
    client = lora.client(server.offer())
    os.urandom, request.new_request_id = random, lambda: random(16)  # type: ignore[assignment]
    try:
        keys = client.evaluation_keys()
        asked = client.begin(module.name, x)
        drawn = [each.hex() for each in draws]
        message = asked.message()
        answer = server.open(keys).answer(message)
    finally:
        os.urandom, request.new_request_id = own, new_id
    asked.receive(answer)
    plan, (scaled, _) = compiled.plan, normalized(module)
    params = next(iter(client._keys.values())).params
    return {
        "offer": server.offer().decode(),
        "ring_degree": params.ring_degree,
        "primes": list(params.data_primes),
        "scale_bits": plan.scales.input_bits,
        "low_bits": list(plan.low_bits[0]),
        "layout": dict(plan.layout.figures),
        "exponent": plan.exponent,
        "draws": dict(zip((*CLIENT, *REQUEST), drawn, strict=True)),
        "keys": base64.b64encode(keys).decode(),
        "x": x[0].tolist(),
        "message": base64.b64encode(message).decode(),
        "answer": base64.b64encode(answer).decode(),
        "up": scaled.scaled_up.tolist(),
        "delta": asked.delta[0].tolist(),
        "error_bound": float(asked.error_bounds[module.name][0]),
        "expected": module.reference_delta(x)[0].tolist(),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1) + "\n")
    print(FILE, FILE.stat().st_size)
