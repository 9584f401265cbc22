"""``shim`` for plans that run ahead of time, on every commit that has them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.shim import MANAGERS, SEED, NotThere, assumptions, compiled, found, library_of


class PreparedAhead:
    """Both parties of a module whose plan runs ahead of time, in one process, with nothing but messages between them.

    Args:
        backend: Name of the backend.
        packing: Name of the packing.
        shape: ``d_in:d_out:r``.

    Raises:
        NotThere: The backend, the packing or an ability is missing here.
    """

    def __init__(self, backend: str, packing: str, shape: str) -> None:
        refusal = found("HeloraError", "helora_core.errors")
        try:
            self._open(backend, packing, shape)
        except refusal as error:
            raise NotThere(str(error)) from error

    def _open(self, backend: str, packing: str, shape: str) -> None:
        manager = found("get_manager", *MANAGERS)()
        library = manager.load_backend(backend)
        synthetic, models = "helora_core.adapter.synthetic", "helora_core.compiler.compiled"
        parsed = found("ModuleShape", "helora_core.adapter.lora").parse(shape)
        self.module = found("synthetic_module", synthetic)(parsed, seed=SEED)
        self.x = found("synthetic_activations", synthetic)(parsed, 1, seed=SEED + 1)
        self.plan = compiled(packing, shape, ahead=True).for_module(self.module)
        found("require_capabilities", "helora_core.compiler.requirements")(library, self.plan)
        name = self.module.name
        parts = (found("Part", models)(name=name, d_out=parsed.d_out),)
        modules = {name: found("CompiledModule", models)(self.module, parts, self.plan)}
        server = found("Server", "helora_core.parties.server")(modules, library, assume=assumptions())
        self._client = found("Client", "helora_core.parties.client")(server.offer(), backend=library)
        self._session = server.open(self._client.evaluation_keys())
        self._name = name
        self.library, self.library_version = library_of(manager, backend)
        self.provides_security = manager.backends()[backend].spec.provides_security
        self._bytes = [0, 0]

    @property
    def batch(self) -> int:
        """Tokens of a batch."""
        return int(self.plan.tokens_per_run)

    def prepare(self) -> None:
        """Make a batch, from random numbers to a pool that is full."""
        preparation = self._client.prepare(self._name, self.batch)
        while not preparation.done:
            preparation.receive(self.answer(preparation.message()))

    def answer(self, message: bytes) -> bytes:
        """The server's answer; both are counted."""
        answer: bytes = self._session.answer(message)
        self._bytes[0] += len(message)
        self._bytes[1] += len(answer)
        return answer

    def ask(self) -> Any:
        """One request for one token, from activations to Δ; it uses up a correlation."""
        return self._client.run(self._name, self.x, self)

    def ahead_ms_per_token(self, batches: int = 2) -> float:
        """Wall time of a batch over its tokens, both sides; the least of several."""
        return min(self._elapsed_ns(self.prepare) for _ in range(batches)) / 1e6 / self.batch

    def online_us_per_token(self, requests: int = 200) -> float:
        """Wall time of a request, both sides; the median of several."""
        return statistics.median(self._elapsed_ns(self.ask) for _ in range(requests)) / 1e3

    def figures(self, requests: int) -> dict[str, Any]:
        """What a batch and so many requests took, and the bytes of each, for one token."""
        ahead_ms, batch = self.ahead_ms_per_token(), self.batch
        self._bytes = [0, 0]
        self.prepare()
        prepared, self._bytes = self._bytes, [0, 0]
        online_us = self.online_us_per_token(requests)
        asked = self._bytes
        return {
            "ahead_ms_per_token": ahead_ms,
            "ms_per_token": online_us / 1e3,
            "bytes_ahead_up_per_token": prepared[0] / batch,
            "bytes_ahead_down_per_token": prepared[1] / batch,
            "bytes_up_per_token": asked[0] / requests,
            "bytes_down_per_token": asked[1] / requests,
            "precision_bits": self.precision_bits(self.ask().delta),
        }

    def precision_bits(self, delta: Any) -> float:
        """Precision of a result, compared with the plain adapter."""
        measure = found("precision_bits", "helora_core.execution.reference")
        return float(measure(delta, self.module.reference_delta(self.x)))

    @staticmethod
    def _elapsed_ns(work: Callable[[], object]) -> int:
        start = time.perf_counter_ns()
        work()
        return time.perf_counter_ns() - start
