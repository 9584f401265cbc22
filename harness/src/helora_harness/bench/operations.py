"""Times single operations of a backend at every level, a round at a time, in a process of ``ab_worker.py``.

What is timed are the probes of ``helora calibrate``; a round times each of them once, in a freshly shuffled order, so
that a machine whose speed drifts favours none. Operations are named here by what a reader asks for.

=====================  ===========================================================================================
encode                 a vector of all slots, into a plaintext
encrypt_secret_key     such a vector, encoding included, by the client
encrypt_public_key     likewise, by the server, or by clients of libraries that encrypt in no other way
decrypt                decoding included
ct_pt                  product with a plaintext that is encoded already
add                    of two ciphertexts
rotate                 by one step
rotate_hoisted         by one of eight steps that one ciphertext is rotated by together
rescale                by one prime
serialize              of a result, by the server; ``serialize_fresh`` of what the client has encrypted
deserialize            of a result, by the client; ``deserialize_fresh`` of an upload, by the server
=====================  ===========================================================================================

This module imports nothing of the harness: a worker sees only core and plugins.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from helora_core.errors import HeloraError, InsecureParameters, InvalidParameters
from helora_core.host.manager import get_manager
from helora_core.params.choose import Requirement, choose_params
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import security_verdict
from helora_core.planning.calibrate import SAMPLE_NS, require_calibratable
from helora_core.planning.chains import chains_for
from helora_core.planning.probe import Probe
from helora_core.planning.probes import probes_for

_HOISTED = 8
_NAMES = {
    "encode_slots": "encode",
    "encrypt_public_slots": "encrypt_public_key",
    "decrypt_slots": "decrypt",
    "multiply_plain": "ct_pt",
    "add": "add",
    "rotate": "rotate",
    "rescale": "rescale",
    "server_send": "serialize",
    "client_receive": "deserialize",
    "client_send": "serialize_fresh",
    "server_receive": "deserialize_fresh",
}


def chain_of(ring_degree: int, depth: int | None) -> CKKSParams:
    """A chain to time operations on: one that calibration knows, else one chosen for the depth.

    Args:
        ring_degree: N.
        depth: Rescales that it has to allow; None for 2, or as many as are secure at a small ring.

    Raises:
        InvalidParameters, InsecureParameters: No secure chain of that depth exists at the ring.
    """
    for wanted in (depth,) if depth is not None else (2, 1, 0):
        known = [chain for chain in chains_for((ring_degree,)) if chain.max_level == wanted and _rotates(chain)]
        if known:
            return known[0]
        try:
            return choose_params(
                Requirement(depth=wanted, slots=1, rotates=True, precision_bits=0, ring_degree=ring_degree)
            )
        except (InvalidParameters, InsecureParameters):
            if depth is not None or wanted == 0:
                raise
    raise AssertionError("the last depth is returned or refused")


def _rotates(chain: CKKSParams) -> bool:
    return max(chain.special_bits, default=0) >= max(chain.data_bits)


class Operations:
    """Keys and operands of one backend at one ring, and what each round took.

    Args:
        backend: Name of the backend.
        ring_degree: N.
        depth: As of ``chain_of``.

    Raises:
        NotImplementedError: The backend cannot be used, rescales by itself, or refuses the chain; in its own words.
    """

    def __init__(self, backend: str, ring_degree: int, depth: int | None) -> None:
        manager = get_manager()
        try:
            loaded = manager.load_backend(backend)
            require_calibratable(loaded)
            self.params, probes = probes_for(loaded, chain_of(ring_degree, depth))
        except HeloraError as error:
            raise NotImplementedError(str(error)) from error
        self._secure = manager.backends()[backend].spec.provides_security
        client = "encrypt_secret_key" if loaded.capabilities.symmetric_encryption else "encrypt_public_key"
        named: dict[str, Probe] = {}
        for probe in probes:  # where clients encrypt with the public key too, theirs comes first, and stands for both
            if name := _named(probe, client):
                named.setdefault(f"{name}@{probe.level}", probe)
        self._timed = [_Timed(name, probe) for name, probe in named.items()]
        self._shuffled = random.Random(0)  # the same orders in each process

    def round(self) -> dict[str, Any]:
        """Time every operation once more: medians and minima in ns by ``operation@level``, and the parameters."""
        self._shuffled.shuffle(self._timed)
        for timed in self._timed:
            timed.sample()
        params = self.params
        verdict = security_verdict(params)
        return {
            "median_ns": {timed.name: statistics.median(timed.samples) for timed in self._timed},
            "minimum_ns": {timed.name: min(timed.samples) for timed in self._timed},
            "plan": {
                "digest": "",
                "ring_degree": params.ring_degree,
                "modulus_bits": [*params.data_bits, *params.special_bits],
                "scale_bits": [params.scale_bits],
                "levels": params.max_level,
                "security": f"{verdict.security_bits} bits, classical",
            },
            "provides_security": self._secure,
        }


def _named(probe: Probe, client: str) -> str | None:
    if probe.operation == "encrypt_slots":
        return client
    if probe.parts:
        return "rotate_hoisted" if probe.operation == "rotate" and _done(probe) == _HOISTED else None
    return _NAMES.get(probe.operation)


def _done(probe: Probe) -> int:
    """How often one call does the operation."""
    return round(sum(probe.parts.values())) or 1


class _Timed:
    """A probe, and its samples in nanoseconds an operation; each lasts a millisecond or one call."""

    def __init__(self, name: str, probe: Probe) -> None:
        self.name = name
        self.samples: list[float] = []
        self._call = probe.call
        self._together = _done(probe)
        self._call()  # the first call warms caches, the second says how many make a sample
        self._calls = max(1, math.ceil(SAMPLE_NS / max(1, _elapsed_ns(self._call, 1))))

    def sample(self) -> None:
        self.samples.append(_elapsed_ns(self._call, self._calls) / (self._calls * self._together))


def _elapsed_ns(call: Callable[[], object], calls: int) -> int:
    start = time.perf_counter_ns()
    for _ in range(calls):
        call()
    return time.perf_counter_ns() - start
