"""Sessions: the server has no way to the secret key, in memory or in what it was sent."""

from __future__ import annotations

import gc
import types
from collections.abc import Iterator

import numpy as np

from helora_core.backend.session import ServerSession
from helora_core.conformance.bench import STEPS, Bench
from helora_core.conformance.values import random_slots

_LEAVES = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType, np.ndarray, np.generic)


def reachable(root: object) -> Iterator[object]:
    """Every object that can be reached from ``root`` by references, without going through modules and classes."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | types.ModuleType):
            continue
        seen.add(id(thing))
        yield thing
        if isinstance(thing, _LEAVES):
            continue
        if isinstance(thing, types.FunctionType):
            waiting.extend(cell.cell_contents for cell in thing.__closure__ or () if _filled(cell))
            waiting.extend(thing.__defaults__ or ())
            continue
        waiting.extend(vars(thing).values() if hasattr(thing, "__dict__") else ())
        waiting.extend(gc.get_referents(thing))


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


_SECRET_NAMES = ("secretkey", "secret_key", "decryptor", "keygenerator", "privatekey", "private_key", "keypair")


class Sessions:
    """Client and server are apart."""

    def test_nothing_that_the_server_holds_is_named_after_a_secret(self, bench: Bench) -> None:
        for thing in reachable(bench.server):
            name = type(thing).__name__.lower()
            assert not any(secret in name for secret in _SECRET_NAMES), f"the server reaches a {type(thing).__name__}"
            for attribute in getattr(thing, "__dict__", {}):
                bare = str(attribute).lower().lstrip("_")
                assert bare not in _SECRET_NAMES, f"the server reaches {type(thing).__name__}.{attribute}"

    def test_the_server_does_not_reach_the_client(self, bench: Bench) -> None:
        decryptor, evaluator = bench.backend.generate_keys(bench.params, STEPS[:1])
        clients = {id(decryptor), *(id(value) for value in vars(decryptor).values() if not isinstance(value, _LEAVES))}
        shared = {id(value) for value in _harmless(evaluator)}
        reached = {id(thing) for thing in reachable(evaluator)}
        assert not (clients - shared) & reached

    def test_nothing_that_the_server_holds_can_decrypt(self, bench: Bench) -> None:
        """Try: every reachable object that has a decrypt must refuse, or give something else than the values."""
        values = random_slots(1)
        ciphertext, _ = bench.encrypted(values)
        for thing in list(reachable(bench.server)):
            decrypt = getattr(thing, "decrypt", None)
            if callable(decrypt):
                raise AssertionError(f"the server reaches {type(thing).__name__}.decrypt for {ciphertext!r}")

    def test_a_server_made_of_the_bytes_it_was_sent_computes_the_same(self, bench: Bench) -> None:
        server = ServerSession.from_keys(
            bench.backend, bench.params, bench.client.evaluation_keys(), ledger=bench.ledger
        )
        values = random_slots(2)
        _, expected = bench.encrypted(values)
        received = server.receive(bench.client.send(bench.client.encrypt(values, scale_bits=bench.params.scale_bits)))
        rotated = server.evaluator.rotate(received, STEPS[0])
        returned = bench.client.receive(server.send(rotated))
        assert np.max(np.abs(bench.client.decrypt(returned) - np.roll(values, -STEPS[0]))) <= (
            expected.rotate(STEPS[0]).tolerance
        )

    def test_the_keys_that_are_sent_do_not_decrypt(self, bench: Bench) -> None:
        """A server made of these bytes must not be able to, whatever methods it has."""
        evaluator = bench.backend.load_evaluator(bench.params, _raw_keys(bench))
        assert not hasattr(evaluator, "decrypt")
        for thing in reachable(evaluator):
            assert not callable(getattr(thing, "decrypt", None)), f"{type(thing).__name__} can decrypt"


def _raw_keys(bench: Bench) -> bytes:
    decryptor, _ = bench.backend.generate_keys(bench.params, STEPS[:1])
    return decryptor.evaluation_keys()


def _harmless(role: object) -> Iterator[object]:
    """What both roles may share: parameters, and contexts without keys, which the name test looks into."""
    yield from vars(role).values()
