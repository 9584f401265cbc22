"""A backend under test: resolved parameters, an open client and server, and results checked against plain values."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import cached_property
from typing import Any

import numpy as np

from helora_core.backend.capabilities import Capabilities, Encoding, RescaleMode
from helora_core.backend.checked_backend import checked
from helora_core.backend.ledger import Ledger, MeteredEvaluator
from helora_core.backend.protocol import Backend, Ciphertext, Plaintext, Values
from helora_core.backend.session import ClientSession, ServerSession, open_sessions
from helora_core.conformance.tolerance import Expected
from helora_core.params.ckks import CKKSParams

PARAMS = CKKSParams(ring_degree=8192, data_bits=(56, 40, 40), special_bits=(60,), scale_bits=40)
"""The smallest 128-bit ring of depth 2, with a longer base prime than plans have, since laws use larger values."""

SCALE_BITS = PARAMS.scale_bits
"""Scale of every ciphertext and plaintext in the laws; libraries with a fixed scale have this one too."""

SLOTS = PARAMS.slots

STEPS = (1, 2, 3, 8, 100, SLOTS // 2, SLOTS - 1)
"""Steps that have keys. 4, 5 and 9 are sums of some of them, and must be refused."""


class Bench:
    """One backend under test. Its sessions are shared by the laws, which leave them as they were.

    Attributes:
        library: The backend as its plugin made it.
        backend: The same backend behind core's checks, as every session uses it.
        ledger: The ledger of its sessions.
        achieved_bits: The precision of every result, for the report.
        kept: Data that several laws share, such as a sample of errors; made by the first law that needs it.
    """

    def __init__(self, backend: Backend, params: CKKSParams = PARAMS, steps: Collection[int] = STEPS) -> None:
        self.library = backend
        self.backend = checked(backend)
        self._asked = params, steps
        self.ledger = Ledger()
        self.achieved_bits: list[float] = []
        self.kept: dict[object, Any] = {}

    @cached_property
    def _sessions(self) -> tuple[ClientSession, ServerSession]:
        """Opened by the first law that needs them, so that laws about parameters run even if opening fails."""
        return self.open(*self._asked)

    @property
    def client(self) -> ClientSession:
        """The side with the secret key."""
        return self._sessions[0]

    @property
    def server(self) -> ServerSession:
        """The side with the evaluation keys."""
        return self._sessions[1]

    def open(
        self, params: CKKSParams = PARAMS, steps: Collection[int] = STEPS, *, ledger: Ledger | None = None
    ) -> tuple[ClientSession, ServerSession]:
        """Another pair of sessions, with keys of its own, and a public key if the backend has one."""
        return open_sessions(
            self.backend,
            params,
            steps,
            ledger=self.ledger if ledger is None else ledger,
            public_key=self.capabilities.public_key,
        )

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities that the backend claims."""
        return self.backend.capabilities

    @property
    def explicit(self) -> bool:
        """Whether the program, not the library, manages levels and scales."""
        return self.capabilities.rescale is RescaleMode.EXPLICIT

    @cached_property
    def params(self) -> CKKSParams:
        """Resolved parameters."""
        return self.backend.resolve(self._asked[0])

    @property
    def evaluator(self) -> MeteredEvaluator:
        """The server's operations."""
        return self.server.evaluator

    def fresh(
        self, values: Values, scale_bits: int = SCALE_BITS, *, encoding: Encoding = Encoding.SLOTS, public: bool = False
    ) -> Expected:
        """The result that a fresh encryption, by the client or with the public key, must decrypt to."""
        return Expected.fresh(
            values,
            self.params,
            scale_bits,
            encoding=encoding,
            public=public or not self.capabilities.symmetric_encryption,
            nominal_scale=self.explicit and not self.capabilities.free_plaintext_scale,
        )

    def encrypted(self, values: Values, encoding: Encoding = Encoding.SLOTS) -> tuple[Ciphertext, Expected]:
        """A ciphertext as the server receives it, and the result that it must decrypt to."""
        sealed = self.client.encrypt(values, scale_bits=SCALE_BITS, encoding=encoding)
        expected = self.fresh(values, encoding=encoding)
        return self.server.receive(self.client.send(sealed)), expected

    def encoded(self, values: Values, level: int | None = None, encoding: Encoding = Encoding.SLOTS) -> Plaintext:
        """A plaintext for ciphertexts at ``level``, by default fresh ones."""
        level = self.params.max_level if level is None else level
        return self.server.encoder.encode(values, level=level, scale_bits=SCALE_BITS, encoding=encoding)

    def decrypted(self, ciphertext: Ciphertext, encoding: Encoding = Encoding.SLOTS) -> Values:
        """Send the ciphertext to the client as bytes, and decrypt it there."""
        return self.client.decrypt(self.client.receive(self.server.send(ciphertext)), encoding=encoding)

    def agrees(self, ciphertext: Ciphertext, expected: Expected) -> None:
        """Assert that a ciphertext decrypts to the expected values, within tolerance, at the right level and scale.

        Level and scale are asserted if the program manages them. The bits achieved are kept for the report.
        """
        if self.explicit:
            level = self.evaluator.level(ciphertext)
            assert level == expected.level, f"level {level}, not {expected.level}"
            if self.capabilities.free_plaintext_scale:
                scale = self.evaluator.scale(ciphertext)
                # To the last bit: libraries compare scales before a sum, and refuse one that is off by a bit.
                assert scale == expected.scale, f"scale {scale.hex()}, not {expected.scale.hex()}"
        else:
            expected = expected.rescaled_unasked()
        actual = self.decrypted(ciphertext, expected.encoding)
        assert actual.shape == expected.values.shape, f"{actual.shape} values, not {expected.values.shape}"
        assert actual.dtype == expected.values.dtype, f"dtype {actual.dtype}, not {expected.values.dtype}"
        worst = int(np.argmax(np.abs(actual - expected.values)))
        error = float(np.abs(actual[worst] - expected.values[worst]))
        if error and expected.magnitude >= 1:
            self.achieved_bits.append(-math.log2(error / expected.magnitude))
        assert error <= expected.tolerance, (
            f"place {worst}: {actual[worst]!r} instead of {expected.values[worst]!r}; the error {error:.3g} is over "
            f"the tolerance {expected.tolerance:.3g}"
        )
