"""The operations of a backend that can be timed, at each level, ready to be called.

The operations, at the client: ``encrypt_<encoding>`` and ``client_send`` (fresh ciphertexts), ``client_receive``,
``decrypt_<encoding>``. At the server: ``server_receive`` (fresh ciphertexts), ``encrypt_public_slots``,
``encode_<encoding>``, ``multiply_plain``, ``multiply_scalar`` (which encodes its number on the fly), ``add``,
``add_plain``, ``rotate``, ``rescale``, ``sanitize`` (a flood of two limbs), ``sanitize_trimmed``, ``mask``, ``unmask``,
``server_send``. Encryption includes encoding and decryption includes decoding: no backend is asked for either by
itself. ``embed`` and ``unembed`` are core's own transform between coefficients and complex slots; where a backend does
not take coefficients, their encoding, encryption and decryption include it.

Operands come from small pools: a plan does not multiply one ciphertext by one plaintext again and again either, while
both are in the cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from helora_core.backend import residues
from helora_core.backend.capabilities import Encoding
from helora_core.backend.checked_programs import runs_programs
from helora_core.backend.embedding import coefficients_to_slots, slots_to_coefficients
from helora_core.backend.encodings import can_encode
from helora_core.backend.protocol import Backend, Ciphertext, Plaintext, Values
from helora_core.backend.session import open_sessions
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import DEFAULT_TABLE
from helora_core.planning.probe import Probe
from helora_core.planning.program_probes import ProgramBench

_POOL = 8
"""Operands to take in turn."""

_TOGETHER = (1, 2, 4, 8)
"""Rotations, or products, per call, to separate the cost of the first from that of the further ones."""

_HEADROOM_BITS = 5
"""Bits that a product of the scales leaves in the base prime: room for sums of as many products, each below 1."""


_KEPT = 64
"""Coefficients that a trimmed result keeps, and numbers of a mask's factor."""

_FLOOD_BITS = 80
"""A flood of two limbs, if the modulus takes it."""

_FLOOD_ROOM_BITS = 24
"""Bits by which the modulus exceeds a flood, which in slots is √N times as large as in coefficients."""


def probes_for(backend: Backend, params: CKKSParams, *, table: str = DEFAULT_TABLE) -> tuple[CKKSParams, list[Probe]]:
    """The resolved parameters, and everything that can be timed for them.

    Raises:
        InvalidParameters, InsecureParameters: As ``open_sessions`` does.
    """
    bench = _Bench(backend, params, table)
    probes = [*bench.embedding(), *bench.trip_up()]
    ciphertexts = bench.received()
    probes += bench.sanitizing()
    for level in range(bench.params.max_level, -1, -1):
        probes += bench.at_level(level, ciphertexts)
        if level:
            products = bench.products(level, ciphertexts)
            probes.append(Probe("rescale", level, _each(bench.server.evaluator.rescale, products)))
            ciphertexts = [bench.server.evaluator.rescale(product) for product in products]
    return bench.params, probes


class _Bench:
    """Open sessions for one chain, and operands."""

    def __init__(self, backend: Backend, params: CKKSParams, table: str) -> None:
        self.capabilities = backend.capabilities
        self.together = _TOGETHER if self.capabilities.hoisting else (1,)
        # A special prime shorter than the data primes is only there because the library wants one: a rotation's noise
        # would drown everything, and no plan rotates there.
        self.rotates = sum(params.special_bits) >= max(params.data_bits)
        most = _POOL if runs_programs(self.capabilities) else max(self.together)
        steps = range(1, most + 1) if self.rotates else ()
        self.client, self.server = open_sessions(
            backend, params, steps, public_key=self.capabilities.public_key, table=table
        )
        self.params = self.client.params
        self.encodings = [
            encoding for encoding in (Encoding.SLOTS, Encoding.COEFFICIENTS) if can_encode(encoding, self.capabilities)
        ]
        # If plaintexts have one scale for all, products do not fit the lower levels and are left out there.
        self.scale_bits = self.params.scale_bits
        if self.capabilities.free_plaintext_scale:
            self.scale_bits = min(self.scale_bits, (self.params.data_bits[0] - _HEADROOM_BITS) // 2)
        rng = np.random.default_rng(0)
        self.vectors = {
            Encoding.SLOTS: list(rng.uniform(-1, 1, (_POOL, self.params.slots))),
            Encoding.COEFFICIENTS: list(rng.uniform(-1, 1, (_POOL, self.params.ring_degree))),
            Encoding.SCALAR: list(rng.uniform(-1, 1, (_POOL, 1))),
        }

    def embedding(self) -> Iterator[Probe]:
        """Core's own transform, which has no level; it is listed at the highest."""
        ring_degree, generator = self.params.ring_degree, self.capabilities.slot_generator
        vectors = self.vectors[Encoding.COEFFICIENTS]
        slots = [coefficients_to_slots(vector, ring_degree, generator) for vector in vectors]
        level = self.params.max_level
        yield Probe(
            "embed", level, _each(lambda vector: coefficients_to_slots(vector, ring_degree, generator), vectors)
        )
        yield Probe("unembed", level, _each(lambda each: slots_to_coefficients(each, ring_degree, generator), slots))

    def trip_up(self) -> Iterator[Probe]:
        """Encryption by either side, and sending and receiving fresh ciphertexts."""
        level = self.params.max_level
        for encoding in self.encodings:
            yield Probe(f"encrypt_{encoding.value}", level, _each(self._encrypt(encoding), self.vectors[encoding]))
        if self.capabilities.public_key:
            public = _each(
                lambda values: self.server.encrypt_public(values, scale_bits=self.scale_bits),
                self.vectors[Encoding.SLOTS],
            )
            yield Probe("encrypt_public_slots", level, public)
        fresh = self._fresh()
        yield Probe("client_send", level, _each(self.client.send, fresh))
        yield Probe("server_receive", level, _each(self.server.receive, [self.client.send(each) for each in fresh]))

    def sanitizing(self) -> Iterator[Probe]:
        """At the highest level, where plans that sanitise end; masks at the lowest, where they are made."""
        if not self.capabilities.public_key or not self.capabilities.free_plaintext_scale:
            return
        top = self.params.max_level
        noise_bits = min(_FLOOD_BITS, self.params.data_modulus_bits - _FLOOD_ROOM_BITS)
        wide = partial(self.server.sanitize, flood_bits=noise_bits, mask_bits=noise_bits)
        whole = [self._wide(vector, Encoding.SLOTS, noise_bits) for vector in self.vectors[Encoding.SLOTS]]
        yield Probe("sanitize", top, _each(partial(wide, keep=range(_KEPT), encoding=Encoding.SLOTS), whole))
        if not self.capabilities.exact_integers:
            return
        vectors = self.vectors[Encoding.COEFFICIENTS]
        kept = [self._wide(vector, Encoding.COEFFICIENTS, noise_bits) for vector in vectors]
        trimmed = partial(wide, keep=range(_KEPT), encoding=Encoding.COEFFICIENTS)
        yield Probe("sanitize_trimmed", top, _each(trimmed, kept))
        if top:
            yield from self._masking(top)

    def _wide(self, vector: Values, encoding: Encoding, scale_bits: int) -> Ciphertext:
        """A ciphertext at the scale of results of plans that sanitise."""
        fresh = self.client.encrypt(vector, scale_bits=scale_bits, encoding=encoding)
        return self.server.receive(self.client.send(fresh))

    def _masking(self, top: int) -> Iterator[Probe]:
        """Masks are made at the level below the highest, and taken off at the highest."""
        vectors = self.vectors[Encoding.COEFFICIENTS]
        fresh = [self._wide(vector, Encoding.COEFFICIENTS, self.scale_bits) for vector in vectors]
        one = self.server.encoder.encode(
            np.ones(1), level=top, scale_bits=self.params.data_bits[top], encoding=Encoding.SCALAR
        )
        products = [self.server.evaluator.multiply_plain(result, one) for result in fresh]
        yield Probe(
            "mask", top - 1, _each(self.server.uniform_mask, list(map(self.server.evaluator.rescale, products)))
        )
        primes = self.params.data_primes
        lower = primes[:top]
        masks = residues.uniform(lower, self.params.ring_degree)

        def unmask(ciphertext: Ciphertext) -> Ciphertext:
            taken = np.zeros((len(primes), self.params.ring_degree), dtype=np.uint64)
            taken[:top] = residues.times(masks, -primes[top], lower)
            plaintext = self.server.encoder.encode(
                taken, level=top, scale_bits=self.scale_bits, encoding=Encoding.INTEGERS
            )
            return self.server.evaluator.add_plain(ciphertext, plaintext)

        yield Probe("unmask", top, _each(unmask, fresh))

    def received(self) -> list[Ciphertext]:
        """A pool of fresh ciphertexts, as the server computes on them."""
        return [self.server.receive(self.client.send(each)) for each in self._fresh()]

    def products(self, level: int, ciphertexts: Sequence[Ciphertext]) -> list[Ciphertext]:
        """Ciphertexts to rescale, which brings their scale back to about the original one."""
        bits = self.params.data_bits[level] if self.capabilities.free_plaintext_scale else self.scale_bits
        vectors = self.vectors[Encoding.SLOTS]
        plaintexts = (self.server.encoder.encode(vector, level=level, scale_bits=bits) for vector in vectors)
        return list(map(self.server.evaluator.multiply_plain, ciphertexts, plaintexts))

    def at_level(self, level: int, ciphertexts: Sequence[Ciphertext]) -> Iterator[Probe]:
        """The operations of every level, without products if none fits."""
        evaluator = self.server.evaluator
        slots = self.vectors[Encoding.SLOTS]
        yield from self._encoding(level)
        yield Probe("add", level, _each(evaluator.add, ciphertexts, [*ciphertexts[1:], ciphertexts[0]]))
        free = self.capabilities.free_plaintext_scale
        scale = evaluator.scale(ciphertexts[0]) if free else 2.0**self.scale_bits
        addends = [evaluator.encoder.encode(vector, level=level, scale=scale) for vector in slots]
        yield Probe("add_plain", level, _each(evaluator.add_plain, ciphertexts, addends))
        fits = 2 * self.scale_bits + _HEADROOM_BITS <= self.params.modulus_bits_at(level)
        if fits:
            yield from self._products(level, ciphertexts)
        if self.rotates:
            yield from self._rotations(level, ciphertexts)
        if self.server.encoder.prepares:
            vectors = slots if fits else []
            yield from ProgramBench(self.server, ciphertexts, vectors, self.scale_bits, self.rotates).probes()
        yield from self._trip_down(level, ciphertexts)

    def _encrypt(self, encoding: Encoding) -> Callable[[Any], Ciphertext]:
        return lambda values: self.client.encrypt(values, scale_bits=self.scale_bits, encoding=encoding)

    def _encode(self, encoding: Encoding, level: int) -> Callable[[Any], Plaintext]:
        return lambda values: self.server.encoder.encode(
            values, level=level, scale_bits=self.scale_bits, encoding=encoding
        )

    def _fresh(self) -> list[Ciphertext]:
        return list(map(self._encrypt(Encoding.SLOTS), self.vectors[Encoding.SLOTS]))

    def _encoding(self, level: int) -> Iterator[Probe]:
        for encoding in (*self.encodings, Encoding.SCALAR):
            encode = self._encode(encoding, level)
            yield Probe(f"encode_{encoding.value}", level, _each(encode, self.vectors[encoding]))

    def _products(self, level: int, ciphertexts: Sequence[Ciphertext]) -> Iterator[Probe]:
        evaluator, scalar = self.server.evaluator, self._encode(Encoding.SCALAR, level)
        plaintexts = list(map(self._encode(Encoding.SLOTS, level), self.vectors[Encoding.SLOTS]))

        def by_scalar(ciphertext: Ciphertext, values: Any) -> Ciphertext:
            return evaluator.multiply_plain(ciphertext, scalar(values))

        yield Probe("multiply_plain", level, _each(evaluator.multiply_plain, ciphertexts, plaintexts))
        yield Probe("multiply_scalar", level, _each(by_scalar, ciphertexts, self.vectors[Encoding.SCALAR]))
        for k in _TOGETHER:
            yield Probe(
                "dot", level, _sum_of_products(evaluator.dot_plain, ciphertexts, plaintexts, k), _first("dot", k)
            )

    def _rotations(self, level: int, ciphertexts: Sequence[Ciphertext]) -> Iterator[Probe]:
        evaluator = self.server.evaluator
        yield Probe("rotate", level, _each(lambda each: evaluator.rotate(each, 1), ciphertexts))
        if self.capabilities.hoisting:
            for k in self.together:
                yield Probe("rotate", level, _by_many_steps(evaluator.rotate_many, ciphertexts, k), _first("rotate", k))

    def _trip_down(self, level: int, ciphertexts: Sequence[Ciphertext]) -> Iterator[Probe]:
        messages = [self.server.send(each) for each in ciphertexts]
        results = [self.client.receive(message) for message in messages]
        yield Probe("server_send", level, _each(self.server.send, ciphertexts))
        yield Probe("client_receive", level, _each(self.client.receive, messages))
        for encoding in self.encodings:
            yield Probe(f"decrypt_{encoding.value}", level, _each(self._decrypt(encoding), results))

    def _decrypt(self, encoding: Encoding) -> Callable[[Ciphertext], object]:
        return lambda ciphertext: self.client.decrypt(ciphertext, encoding=encoding)


def _first(operation: str, k: int) -> dict[str, float]:
    """The parts of a call that does k of an operation."""
    return {f"{operation}_first": 1, f"{operation}_further": k - 1}


def _each(operation: Callable[..., object], *pools: Sequence[Any]) -> Callable[[], object]:
    """Do an operation with the next operands at each call, round and round."""
    operands = itertools.cycle(list(zip(*pools, strict=True)))
    return lambda: operation(*next(operands))


def _by_many_steps(
    rotate_many: Callable[..., object], ciphertexts: Sequence[Ciphertext], k: int
) -> Callable[[], object]:
    steps = range(1, k + 1)
    return _each(lambda ciphertext: rotate_many(ciphertext, steps), ciphertexts)


def _sum_of_products(
    dot: Callable[..., object], ciphertexts: Sequence[Ciphertext], plaintexts: Sequence[Plaintext], k: int
) -> Callable[[], object]:
    sums = [slice(start, start + k) for start in range(0, _POOL, k)]
    return _each(dot, [ciphertexts[each] for each in sums], [plaintexts[each] for each in sums])
