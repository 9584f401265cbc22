"""Shared by the backend tests: every backend of this repository, loaded as users do, and quick sessions on it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from helora_core.backend.checked_backend import checked
from helora_core.backend.ledger import Ledger
from helora_core.backend.protocol import Backend, Decryptor, Evaluator
from helora_core.backend.session import ClientSession, InsecureParametersWarning, ServerSession, open_sessions
from helora_core.params.ckks import CKKSParams
from tests.backend.bench import Bench, N, open_bench

# Far too small to be secure, and quick for it; the three data primes differ, so that none can stand for another.
QUICK = CKKSParams(ring_degree=1024, data_bits=(48, 30, 34), special_bits=(48,), scale_bits=30)
SLOTS = QUICK.slots

# 3 and 6 have no key although they are sums and differences of steps that do: 1 + 2, 4 - 1, 2 + 4, 7 - 1.
STEPS = (1, 2, 4, 5, 7, SLOTS // 2, SLOTS - 2, SLOTS - 1)


class Sessions(NamedTuple):
    """Both ends of one key pair, and the ledger they share."""

    client: ClientSession
    server: ServerSession
    ledger: Ledger


class Roles(NamedTuple):
    """Both roles as the backend makes them, below the sessions, with the parameters it resolved and their steps."""

    params: CKKSParams
    steps: tuple[int, ...]
    decryptor: Decryptor
    evaluator: Evaluator

    def uploaded(self, values: NDArray[np.float64], scale: float = 2.0**QUICK.scale_bits) -> object:
        """A fresh ciphertext as the server sees it."""
        return self.evaluator.deserialize(self.decryptor.serialize(self.decryptor.encrypt(values, scale=scale)))

    def decrypted(self, ciphertext: object) -> NDArray[np.float64]:
        """What the client makes of a result."""
        return self.decryptor.decrypt(self.decryptor.deserialize(self.evaluator.serialize(ciphertext)))


def open_quick(backend: Backend) -> Sessions:
    ledger = Ledger()
    with pytest.warns(InsecureParametersWarning):
        client, server = open_sessions(backend, QUICK, STEPS, ledger=ledger, insecure=True)
    return Sessions(client, server, ledger)


def make_roles(backend: Backend) -> Roles:
    params = backend.resolve(QUICK)
    return Roles(params, STEPS, *checked(backend).generate_keys(params, STEPS))


@pytest.fixture(scope="session")
def quick() -> CKKSParams:
    return QUICK


@pytest.fixture(scope="session")
def sessions(backend: Backend) -> Sessions:
    """Sessions with keys for STEPS. Nothing in them changes but the ledger."""
    return open_quick(backend)


@pytest.fixture(scope="session")
def other_sessions(backend: Backend) -> Sessions:
    """The same parameters and steps, and other keys."""
    return open_quick(backend)


@pytest.fixture(scope="session")
def roles(backend: Backend) -> Roles:
    return make_roles(backend)


@pytest.fixture(scope="session")
def other_roles(backend: Backend) -> Roles:
    """The same parameters and steps, and other keys."""
    return make_roles(backend)


@pytest.fixture(scope="session")
def bench(backend: Backend) -> Bench:
    return open_bench(backend)


@pytest.fixture(scope="session")
def x() -> NDArray[np.float64]:
    return np.random.default_rng(1).uniform(-1, 1, size=N)


@pytest.fixture(scope="session")
def slots() -> NDArray[np.float64]:
    return np.random.default_rng(2).uniform(-1, 1, size=SLOTS)
