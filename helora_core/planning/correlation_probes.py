"""Small pieces of work ahead of time and online to time, for backends that plans can run ahead of time on.

Figures are fitted to them; sending and reading are with the envelopes of messages. Ahead of time:

- at the client ``ahead_key``, a batch's key pair; ``ahead_encrypt``, a ciphertext made and sent; ``ahead_decrypt``, a
  result read, decrypted and packed to be kept;
- at the server ``ahead_sums``, which a batch begins with; ``ahead_receive``, a ciphertext read and expanded;
  ``ahead_multiply_down``, one ciphertext in one sum; ``ahead_result``, an output re-randomised, divided and sent;
  ``ahead_multiply_up``, one sum in one output;
- ``ahead_result_exact`` and ``ahead_decrypt_exact`` in place of those for plans whose results are exact;
- at either ``ahead_draw``, the pads of a feature or the masks of an output, N words by AES, which is core's own.

Online, likewise:

- at the client ``online_pad`` a request and ``online_pad_word`` an activation; ``online_open`` a request and
  ``online_open_word`` a result;
- at the server ``online_answer`` a request; ``online_multiply`` a product of words; ``online_answer_word`` a result and
  its mask.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from helora_core.adapter.lora import ModuleShape
from helora_core.backend import envelope
from helora_core.backend.checked_backend import checked
from helora_core.backend.checked_correlations import CheckedBatchSums, CheckedOnlineWeights
from helora_core.backend.correlations import NONCE_BYTES, SEED_BYTES, Integers, Switching, Words
from helora_core.backend.envelope import KEY_ID_BYTES, PayloadKind
from helora_core.backend.protocol import Backend
from helora_core.compiler.exponents import token_exponents
from helora_core.compiler.grid import chosen_grid, switching_bits
from helora_core.execution import modular
from helora_core.execution.modular import OnlineRound
from helora_core.packing.protocol import Vector
from helora_core.params.ckks import WRAP_BITS, CKKSParams
from helora_core.params.security import DEFAULT_TABLE, require_secure
from helora_core.planning.probe import Probe
from helora_core.privacy.policy import DEFAULT_SANITIZE_BITS

_FEATURES, _ROWS = 32, 8
"""Of a sum, which is copied once for all of them; and the sums of a module of this rank."""

_FEW = 8
"""Ciphertexts that a client makes, and results."""

_DRAWN = 64
"""Polynomials of pads or masks, which are drawn for all features and outputs of a message together."""

_TYPICAL = ModuleShape(d_in=576, d_out=768, rank=16)
"""Bits of results depend on the module, but hardly."""

_ONLINE = ((64, 64, 4, 1), (64, 1024, 4, 1), (1024, 64, 32, 1), (1024, 1024, 16, 1), (1024, 1024, 16, 8))
"""d_in, d_out, rank and tokens of requests."""

_NOBODY = bytes(KEY_ID_BYTES)

_WEIGHT = 1 << 20
"""About how large integers of weights are."""


def correlation_probes(
    backend: Backend, params: CKKSParams, *, table: str = DEFAULT_TABLE
) -> tuple[CKKSParams, list[Probe]]:
    """The resolved parameters, and everything that can be timed for plans that run ahead of time under them.

    Raises:
        InvalidParameters, InsecureParameters: The backend or the table refuses them.
        CapabilityMissing: The backend does nothing for such plans.
    """
    bench = _Bench(backend, params, table)
    return bench.params, [*bench.client(), *bench.server(), *bench.online()]


class _Bench:
    """A batch in the making, and what it takes."""

    def __init__(self, backend: Backend, params: CKKSParams, table: str) -> None:
        library = checked(backend)
        self.params = library.resolve(params)
        require_secure(self.params, table=table)
        self._library = library.correlations
        self._nonces = secrets.token_bytes(2 * NONCE_BYTES)
        self._key = self._library.batch_key(self.params, self._nonces)
        seed = secrets.token_bytes(SEED_BYTES)
        self._pads, self._masks = modular.pads(seed), modular.masks(seed, "", b"")
        self._grid = chosen_grid(_TYPICAL)
        first, second, of_answers = switching_bits(_TYPICAL, self._grid, self.params, DEFAULT_SANITIZE_BITS)
        self._trimmed, self._answer_bits = Switching(WRAP_BITS - first, WRAP_BITS - second), WRAP_BITS - of_answers
        self._rng = np.random.default_rng(0)

    @property
    def ways(self) -> dict[str, Switching]:
        """How results leave, by the ending of a figure's name."""
        exact = {"_exact": Switching(WRAP_BITS, WRAP_BITS, exact=True)} if self.params.max_level else {}
        return {"": self._trimmed, **exact}

    def client(self) -> Iterator[Probe]:
        """A batch at the client."""
        yield self._probe({"ahead_key": 1}, lambda: self._library.batch_key(self.params, self._nonces).erase())
        yield self._probe({"ahead_draw": _DRAWN}, partial(self._pads.columns, self.params.ring_degree, 0, _DRAWN))
        yield self._probe({"ahead_encrypt": _FEW}, partial(self._encrypted, self._words(_FEW)))
        sums = self._summed(1)
        for ending, how in self.ways.items():
            message = self._made(sums, self._integers(_FEW, 1), self._words(_FEW), how)
            yield self._probe({f"ahead_decrypt{ending}": _FEW}, partial(self._decrypted, message, how))

    def server(self) -> Iterator[Probe]:
        """A batch at the server."""
        yield self._probe({"ahead_sums": 1}, partial(self._sums, _ROWS))
        message = self._encrypted(self._words(_FEATURES))
        for rows in (1, _ROWS):
            parts = {"ahead_receive": _FEATURES, "ahead_multiply_down": rows * _FEATURES}
            yield self._probe(parts, partial(self._added, self._sums(rows), message, self._integers(rows, _FEATURES)))
        for rows, ending in ((1, ""), (_ROWS, ""), (1, "_exact")):
            if ending in self.ways:
                up, masks = self._integers(_FEW, rows), self._words(_FEW)
                make = partial(self._made, self._summed(rows), up, masks, self.ways[ending])
                parts = {f"ahead_result{ending}": _FEW, "ahead_multiply_up": rows * _FEW}
                yield self._probe(parts, make, family="ahead_result")

    def online(self) -> Iterator[Probe]:
        """Requests, which need no ring; they are listed with each."""
        for d_in, d_out, rank, tokens in _ONLINE:
            turn = OnlineRound(
                self._grid.bits, self._grid.x_bits, self._trimmed, self._answer_bits, None, None, d_in, d_out, d_out
            )
            x = self._rng.normal(size=(tokens, d_in))
            weights = self._library.online_weights([self._integers(rank, d_in), self._integers(d_out, rank)])
            answer = partial(self._answered, turn, weights, self._padded(turn, x))
            c = secrets.token_bytes(tokens * turn.row_bytes)
            yield self._probe({"online_pad": 1, "online_pad_word": x.size}, partial(self._padded, turn, x))
            products = tokens * rank * (d_in + d_out)
            parts = {"online_answer": 1, "online_multiply": products, "online_answer_word": tokens * d_out}
            yield self._probe(parts, answer)
            parts = {"online_open": 1, "online_open_word": tokens * d_out}
            yield self._probe(parts, partial(self._delta, turn, answer(), c, tokens))

    def _probe(self, parts: Mapping[str, float], call: Callable[[], object], *, family: str = "") -> Probe:
        return Probe(family or next(iter(parts)), self.params.max_level, call, parts)

    def _words(self, polynomials: int) -> Words:
        return self._pads.columns(self.params.ring_degree, 0, polynomials)

    def _encrypted(self, numbers: Words) -> bytes:
        return _sealed(self._key.encrypt(numbers))

    def _added(self, sums: CheckedBatchSums, message: bytes, matrix: Integers) -> None:
        sums.add(_opened(message), matrix)

    def _sums(self, rows: int) -> CheckedBatchSums:
        return self._library.batch_sums(self.params, self._key.public_key, self._nonces, rows)

    def _summed(self, rows: int) -> CheckedBatchSums:
        sums = self._sums(rows)
        self._added(sums, self._encrypted(self._words(1)), self._integers(rows, 1))
        return sums

    def _made(self, sums: CheckedBatchSums, matrix: Integers, masks: Words, how: Switching) -> bytes:
        return _sealed(sums.results(matrix, masks, secrets.token_bytes(SEED_BYTES), how))

    def _decrypted(self, message: bytes, how: Switching) -> bytes:
        rows = np.ascontiguousarray(self._key.decrypt(_opened(message), _FEW, how).T)
        return self._library.pack(rows.reshape(-1), how.top_bits)

    def _integers(self, rows: int, columns: int) -> Integers:
        return self._rng.integers(-_WEIGHT, _WEIGHT, (rows, columns))

    def _padded(self, turn: OnlineRound, x: Vector) -> bytes:
        pads = self._pads.rows(0, len(x), 0, turn.inputs)
        return _sealed(turn.padded(self._library, x, token_exponents(x), pads))

    def _answered(self, turn: OnlineRound, weights: CheckedOnlineWeights, message: bytes) -> bytes:
        y = _opened(message)
        masks = self._masks.rows(0, len(y) // (8 * turn.inputs), 0, turn.outputs)
        return _sealed(weights.answer(y, masks, turn.answer_bits))

    def _delta(self, turn: OnlineRound, message: bytes, c: bytes, tokens: int) -> Vector:
        return turn.delta(self._library, _opened(message), c, np.zeros(tokens, dtype=np.int64), 0)


def _sealed(payload: bytes) -> bytes:
    return envelope.wrap(PayloadKind.CIPHERTEXT, _NOBODY, payload)


def _opened(message: bytes) -> bytes:
    return envelope.unwrap(PayloadKind.CIPHERTEXT, _NOBODY, message)
