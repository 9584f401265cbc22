"""Encryptions of zero under a public key, at any level: what makes a result's polynomials say nothing of their past.

With the public key (b, a) modulo the primes of the level, zero is u·(b, a) + (e₀, e₁), u ternary: a public key modulo
the whole modulus is one modulo each of its divisors. Its noise is that of a fresh encryption at any level, some four
bits more than if it were made at the highest level and divided; it takes a third of the time, and every flood is
larger by far. Where there is no flood, ``quiet`` is divided.

They can be made ahead of time. Each is given out once: it is taken under a lock, and a process that was forked begins
with none, since its parent gives out those that were there.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import defaultdict

from helora_rns.modular import Residues
from helora_rns.scheme import sampling
from helora_rns.scheme.context import Context
from helora_rns.scheme.keys import PublicKey

MOST_KEPT_BYTES = 64 << 20
"""Bytes of ready encryptions that one evaluator keeps at most, of all levels together."""

_pools: weakref.WeakSet[Zeros] = weakref.WeakSet()


class Zeros:
    """Makes them, and keeps some that are ready. Thread-safe."""

    def __init__(self, context: Context, key: PublicKey, *, most_bytes: int = MOST_KEPT_BYTES) -> None:
        self._context = context
        self._pair = key.pair(context)
        self._pairs = {context.max_level: self._pair}
        self._most_bytes = most_bytes
        self.forget()
        _pools.add(self)

    def forget(self) -> None:
        """Throw away what is ready, with the lock, which another thread may have held when this process was forked."""
        self._lock = threading.Lock()
        self._ready: defaultdict[int, list[Residues]] = defaultdict(list)
        self._bytes = 0

    def encrypted(self, level: int, first: Residues | None = None) -> Residues:
        """A fresh one at a level: (2, limbs, N).

        Args:
            level: Of what it is added to.
            first: Values that are e₀ and whatever else is to be added to the first polynomial; if None, e₀ is drawn.
        """
        context, kernels, basis = self._context, self._context.kernels, self._context.basis(level)
        n = context.ring_degree
        stream = kernels.stream(sampling.fresh_seed())
        u = sampling.ternary_of(context, stream)
        errors = kernels.binomial(stream.words((2 if first is None else 1) * n)).reshape(-1, n)
        noise = context.residues((2, len(basis), n))
        noise[0] = kernels.values_of_doubles(errors[1], basis) if first is None else first
        noise[1] = kernels.values_of_doubles(errors[0], basis)
        return kernels.multiply_add(self._key(level), kernels.values_of_doubles(u, basis), noise, basis, out=noise)

    def quiet(self, level: int) -> Residues:
        """One made at the highest level and divided by the primes above the level, so that only rounding is left."""
        highest = self._context.max_level
        whole = self.encrypted(highest)
        if level == highest:
            return whole
        return self._context.kernels.mod_down(whole, self._context.basis(highest), highest - level)

    def taken(self, level: int) -> Residues | None:
        """One that is ready, or None. Nobody else gets it."""
        with self._lock:
            ready = self._ready[level]
            if not ready:
                return None
            zero = ready.pop()
            self._bytes -= zero.nbytes
            return zero

    def prepare(self, level: int, count: int) -> int:
        """Make some until ``count`` are ready at a level, or as many bytes as are kept; returns how many are ready."""
        while True:
            with self._lock:
                owner, ready = self._lock, len(self._ready[level])
                if ready >= count:
                    return ready
            zero = self.encrypted(level)
            self._context.kernels.finish()
            with self._lock:
                # A process forked in between has another lock, and leaves this one to its parent.
                if self._lock is not owner:
                    continue
                if self._bytes + zero.nbytes > self._most_bytes:
                    return len(self._ready[level])
                self._ready[level].append(zero)
                self._bytes += zero.nbytes

    def _key(self, level: int) -> Residues:
        pair = self._pairs.get(level)
        if pair is None:
            cut = self._context.copied(self._pair[:, : level + 1])
            self._context.kernels.finish()
            pair = self._pairs.setdefault(level, cut)
        return pair


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
