"""A backend behind core's checks. Sessions use this even if they are given a bare backend."""

from __future__ import annotations

import functools
from collections.abc import Collection, Hashable
from typing import cast

from helora_core.backend import checks
from helora_core.backend.checked import CheckedDecryptor, CheckedEncoder
from helora_core.backend.checked_correlations import CheckedCorrelations
from helora_core.backend.checked_evaluator import CheckedEvaluator
from helora_core.backend.correlations import SupportsCorrelations
from helora_core.backend.protocol import Backend, HasUnit, SupportsKeyRestore
from helora_core.errors import CapabilityMissing, InvalidParameters
from helora_core.params.ckks import CKKSParams

_ENCODERS = 32
"""Most encoders that are cached: a library's context may take milliseconds to make, and every session needs one."""


class CheckedBackend:
    """The calls of ``Backend``, but with checked roles.

    Attributes:
        library: The backend itself.
    """

    def __init__(self, library: Backend) -> None:
        self.library = library
        self.name = library.name
        self.capabilities = library.capabilities

    def resolve(self, params: CKKSParams) -> CKKSParams:
        """The parameters that the library really uses.

        Raises:
            InvalidParameters: It cannot realise them.
        """
        try:
            return self.library.resolve(params)
        except ValueError as error:
            raise InvalidParameters(
                f"{self.name}: the parameters cannot be realised: {error}.",
                hint="Use longer primes, fewer of one length, or another ring degree.",
            ) from error

    def encoder(self, params: CKKSParams) -> CheckedEncoder:
        """An encoder for resolved parameters, the same one each time."""
        return _encoder(cast(Hashable, self.library), params)

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[CheckedDecryptor, CheckedEvaluator]:
        """A key pair and its roles.

        Raises:
            InvalidInput: A rotation step is out of range.
            CapabilityMissing: A public key or a seed was asked for, and the backend does not claim the capability.
        """
        checks.check_keys_asked(
            params, rotation_steps, self.capabilities, public_key=public_key, seeded=seed is not None, who=self.name
        )
        decryptor, evaluator = self.library.generate_keys(params, rotation_steps, public_key=public_key, seed=seed)
        encoder = self.encoder(params)
        return CheckedDecryptor(decryptor, encoder), CheckedEvaluator(evaluator, encoder)

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> CheckedEvaluator:
        """A server's evaluator from what a client sent.

        Raises:
            CorruptPayload: The bytes are not evaluation keys of these parameters.
        """
        load = functools.partial(self.library.load_evaluator, params, evaluation_keys)
        return CheckedEvaluator(checks.read(load, "evaluation keys", who=self.name), self.encoder(params))

    def restore_keys(self, params: CKKSParams, exported: bytes) -> CheckedDecryptor:
        """A decryptor made from ``export_keys``' result. The library's exceptions pass through; they may quote secrets.

        Raises:
            CapabilityMissing: The backend cannot restore keys.
        """
        if not isinstance(self.library, SupportsKeyRestore):
            raise CapabilityMissing(
                f"restore_client: backend {self.name} cannot restore keys.", hint="Use the backend that exported them."
            )
        return CheckedDecryptor(self.library.restore_keys(params, exported), self.encoder(params))

    @property
    def correlations(self) -> CheckedCorrelations:
        """What the backend does for plans that run ahead of time.

        Raises:
            CapabilityMissing: It does nothing for them.
        """
        if not (self.capabilities.correlations and isinstance(self.library, SupportsCorrelations)):
            raise CapabilityMissing(
                f"Backend {self.name} cannot run plans ahead of time.",
                hint="Choose a backend with the ability `correlations`; `helora backends` lists what each can do.",
            )
        return CheckedCorrelations(self.library, self.name)


def checked(backend: Backend | CheckedBackend) -> CheckedBackend:
    """The backend behind core's checks; returned unchanged if it already is."""
    return backend if isinstance(backend, CheckedBackend) else CheckedBackend(backend)


@functools.lru_cache(maxsize=_ENCODERS)
def _encoder(library: Hashable, params: CKKSParams) -> CheckedEncoder:
    backend = cast(Backend, library)
    unit = backend.unit(params) if isinstance(backend, HasUnit) and backend.capabilities.free_plaintext_scale else None
    family = (type(backend), backend.name, params)
    return CheckedEncoder(backend.encoder(params), params, backend.capabilities, family, unit)
