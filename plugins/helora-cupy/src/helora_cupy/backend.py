"""helora-rns on a card: one scheme, whose arrays are the card's."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import version

from helora_core.backend.origin import Origin, origin_of
from helora_core.backend.protocol import Executable
from helora_core.backend.tape import Tape
from helora_core.params.ckks import CKKSParams
from helora_cupy.correlations import CupyBatchSums
from helora_cupy.executable import prepared
from helora_cupy.roles import CupyDecryptor, CupyEncoder, CupyEvaluator
from helora_cupy.running import KernelsOf, Running, chosen
from helora_rns.backend import RNSBackend, RNSDecryptor, RNSEvaluator
from helora_rns.correlations.ring import ring_of
from helora_rns.scheme.context import Context, Parameters, context


class CupyBackend(RNSBackend):
    """The engine on CUDA. Keys, messages and results are those of ``rns``.

    Args:
        device: Where to compute; the one that the environment names if None.

    Raises:
        BackendUnavailable: There is no such device here.
    """

    name = "cupy"
    encoder_type = CupyEncoder
    decryptor_type = CupyDecryptor
    evaluator_type = CupyEvaluator

    def __init__(self, device: Running | None = None) -> None:
        self._device = chosen() if device is None else device
        self._kernels = KernelsOf(self._device)

    @property
    def device(self) -> str:
        """What it computes on, in words."""
        return self._device.name

    def finish(self) -> None:
        """Wait until all that this thread has asked for is done."""
        self._device.finish()

    @property
    def library_version(self) -> str:
        return f"helora-cupy {version('helora-cupy')} on {self._device.name}"

    @property
    def message_origin(self) -> Origin:
        """Bytes are those of helora-rns."""
        return origin_of(RNSBackend())

    def context(self, params: CKKSParams) -> Context:
        parameters = Parameters(params.ring_degree, params.data_primes, params.special_primes)
        return context(parameters, self._kernels)

    def prepare(self, params: CKKSParams, tape: Tape) -> Executable:
        with self._device.working():
            executable = prepared(self.context(params), self._device, tape)
            self._device.finish()
        return executable

    def batch_sums(self, params: CKKSParams, public_key: bytes, nonces: bytes, rows: int) -> CupyBatchSums:  # type: ignore[override]
        ring = ring_of(params)
        kernels = self._kernels(ring.ring_degree, ring.primes)
        return CupyBatchSums(ring, self._device, kernels, public_key, nonces, rows)

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[RNSDecryptor, RNSEvaluator]:
        with self._device.working():
            return super().generate_keys(params, rotation_steps, public_key=public_key, seed=seed)

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> RNSEvaluator:
        with self._device.working():
            return super().load_evaluator(params, evaluation_keys)

    def restore_keys(self, params: CKKSParams, exported: bytes) -> RNSDecryptor:
        with self._device.working():
            return super().restore_keys(params, exported)
