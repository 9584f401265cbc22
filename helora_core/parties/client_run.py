"""The client's side of one run: it scales, packs and encrypts, answers rounds, then decrypts, unpacks and rescales Δ.

Encoding, scales and exponents come from the plan, so that callers cannot pass wrong ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.capabilities import Encoding
from helora_core.backend.session import ClientSession
from helora_core.compiler.exponents import normalized_tokens
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidInput
from helora_core.execution.interactive import encrypt_answer
from helora_core.execution.reference import FLOAT64_BITS
from helora_core.packing.protocol import Vector


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one run.

    Attributes:
        delta: Δ, float64, shape (tokens, d_out).
        error_bound: float64, shape (tokens,): bound on the error of each value of a token's Δ, except with probability
            2^-40 over the randomness of keys, encryption and flood. 0 for an x of zeros, whose Δ is known.
    """

    delta: Vector
    error_bound: Vector


def joined(results: Sequence[RunResult]) -> RunResult:
    """The tokens of all, one after the other."""
    return RunResult(
        delta=np.concatenate([result.delta for result in results]),
        error_bound=np.concatenate([result.error_bound for result in results]),
    )


class ClientRun:
    """One run of a plan, for 1 to ``plan.tokens_per_run`` tokens. Ciphertexts go in and out as a session's bytes.

    Args:
        plan: A plan for the module, from ``compile_plan(…, module=…)``, ``plan.for_module`` or an offer.
        x: Activations, float64, shape (tokens, d_in), finite.
        module: The adapter in the clear, for packings whose client finishes the sum.

    Raises:
        InvalidInput: ``x`` is not such an array, or the plan has no module's exponent yet.
    """

    def __init__(self, plan: Plan, x: Vector, *, module: LoRAModule | None = None) -> None:
        if plan.exponent is None:
            raise InvalidInput(
                f"Plan {plan.packing.name} {plan.shape} was made without a module: its exponent is not known.",
                hint="Compile it with the module, or take plan.for_module(module).",
            )
        self._plan = plan
        self._module = plan.normalized(module) if module is not None else None
        self._tokens = x.shape[0]
        scaled, self._exponents = normalized_tokens(x)
        self._nothing: NDArray[np.bool_] = np.logical_not(scaled.any(axis=1))
        self._vectors = plan.pack(scaled)

    def inputs(self, client: ClientSession) -> list[bytes]:
        """The first upload: a ciphertext for each vector of the packed activations."""
        scale_bits, encoding = self._plan.scales.input_bits, self._plan.program.encoding
        return [
            client.serialize(client.encrypt(vector, scale_bits=scale_bits, encoding=encoding))
            for vector in self._vectors
        ]

    def answer(self, client: ClientSession, number: int, download: Sequence[bytes]) -> bytes:
        """The upload for round ``number``, 1 or more, from the download of the round before."""
        received = [client.decrypt(client.deserialize(payload), encoding=Encoding.INTEGERS) for payload in download]
        return client.serialize(encrypt_answer(self._plan, number, client, received))

    def result(self, client: ClientSession, download: Sequence[bytes]) -> RunResult:
        """Δ, from the results that the server sent."""
        plan = self._plan
        outputs = [
            client.decrypt(client.read_result(payload, low_bits), encoding=plan.program.encoding)
            for payload, low_bits in zip(download, plan.low_bits, strict=True)
        ]
        delta = plan.unpack(outputs, self._tokens, self._module)
        exponents = self._exponents + (plan.exponent or 0)
        bound = plan.precision(noise_model=client.capabilities.noise_model).error_bound
        return RunResult(
            # Values known to be zero are returned as zero, without the noise of their results.
            delta=np.where(self._nothing[:, np.newaxis], 0.0, np.ldexp(delta, exponents[:, np.newaxis])),
            error_bound=np.where(self._nothing, 0.0, np.ldexp(bound, exponents)),
        )


def relative_bits(delta: NDArray[np.float64], error_bound: NDArray[np.float64]) -> float:
    """−log2(error bound / max|Δ|) of the Δ that came out, 0 to 53: its precision without the adapter. −inf if
    a value is not finite.

    Args:
        delta: Δ, shape (tokens, d_out).
        error_bound: Bound on the error of each token's values, shape (tokens,).
    """
    bound, largest = float(np.max(error_bound, initial=0.0)), float(np.max(np.abs(delta), initial=0.0))
    if not np.isfinite(delta).all():
        return -math.inf
    if bound == 0.0:
        return FLOAT64_BITS
    return float(np.clip(np.log2(largest / bound), 0.0, FLOAT64_BITS)) if largest else 0.0
