"""What the backend refuses, by which name; and what never leaves the client."""

from __future__ import annotations

import gc
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from helora_core.backend.base import EvaluationKeys
from helora_core.backend.checked_backend import checked
from helora_core.errors import (
    CapabilityMissing,
    CorruptPayload,
    ForeignCiphertext,
    HeloraError,
    InvalidInput,
    InvalidParameters,
    LevelExhausted,
    LevelMismatch,
    PrecisionLost,
    ScaleMismatch,
    SlotOverflow,
)
from helora_core.params.ckks import CKKSParams

pytest.importorskip("Pyfhel")

from Pyfhel import Pyfhel

from helora_pyfhel.backend import PyfhelBackend

QUICK = CKKSParams(ring_degree=1024, data_bits=(48, 30, 34), special_bits=(48,), scale_bits=30)
SLOTS = QUICK.slots
TOP = QUICK.max_level
SCALE = 2.0**30


def ones(size: int = SLOTS) -> Any:
    return np.ones(size)


class TestOperands:
    def test_levels_that_differ(self, roles: Any) -> None:
        high, low = roles.encrypted(ones()), roles.lowered(roles.encrypted(ones()), 1)
        plain = roles.encoded(ones(), 1)
        for operation in (roles.server.add, roles.server.sub):
            with pytest.raises(LevelMismatch, match="2 and 1"):
                operation(high, low)
        for operation in (roles.server.add_plain, roles.server.multiply_plain):
            with pytest.raises(LevelMismatch, match="2 and 1"):
                operation(high, plain)

    @pytest.mark.parametrize("scale", [2.0**31, SCALE * (1 + 2**-40)])
    def test_scales_that_differ_in_the_least(self, roles: Any, scale: float) -> None:
        one, other = roles.encrypted(ones()), roles.encrypted(ones(), scale)
        for operation, right in (
            (roles.server.add, other),
            (roles.server.sub, other),
            (roles.server.add_plain, roles.encoded(ones(), scale=scale)),
        ):
            with pytest.raises(ScaleMismatch):
                operation(one, right)

    def test_levels_that_do_not_exist(self, roles: Any) -> None:
        with pytest.raises(LevelExhausted):
            roles.server.rescale(roles.lowered(roles.encrypted(ones()), 0))
        for level in (-1, TOP + 1):
            with pytest.raises(LevelExhausted, match=str(level)):
                roles.encoded(ones(), level)

    def test_a_product_whose_scale_outgrows_the_modulus(self, roles: Any) -> None:
        low = roles.lowered(roles.encrypted(ones()), 0)
        with pytest.raises(PrecisionLost):
            roles.server.multiply_plain(low, roles.encoded(ones(), 0, 2.0**20))

    def test_what_is_not_of_these_keys_or_parameters(self, roles: Any, strangers: Any) -> None:
        own, theirs, plain = roles.encrypted(ones()), strangers.encrypted(ones()), roles.encoded(ones())
        server, client = roles.server, roles.client
        other = checked(PyfhelBackend()).resolve(msgspec.structs.replace(QUICK, ring_degree=2048))
        _, wider = checked(PyfhelBackend()).generate_keys(other, ())
        uses: tuple[Callable[[], object], ...] = (
            lambda: server.add(own, theirs),
            lambda: server.sub(theirs, own),
            lambda: server.negate(theirs),
            lambda: server.add_plain(theirs, plain),
            lambda: server.multiply_plain(theirs, plain),
            lambda: server.multiply_plain(own, wider.encoder.encode(ones(), level=TOP, scale=SCALE)),
            lambda: server.multiply_plain(own, own),
            lambda: server.rotate(theirs, 0),
            lambda: server.rescale(theirs),
            lambda: server.serialize(theirs),
            lambda: server.level(theirs),
            lambda: client.decrypt(theirs),
            lambda: client.decrypt(None),
        )
        for use in uses:
            with pytest.raises(ForeignCiphertext):
                use()


class TestValues:
    @pytest.mark.parametrize(
        ("values", "error"),
        [
            (np.array([1.0, np.nan]), InvalidInput),
            (np.ones(2, dtype=np.complex128), InvalidInput),
            ([1.0], InvalidInput),
            (np.zeros(0), InvalidInput),
            (np.ones(SLOTS + 1), SlotOverflow),
            (np.full(SLOTS, 2.0**83), PrecisionLost),
            # SEAL alone encodes these as zeros: float64 overflows in its transform.
            (np.full(SLOTS, 1e300), PrecisionLost),
            (np.array([1e308, -1e308]), PrecisionLost),
        ],
    )
    def test_values_that_ckks_cannot_hold(self, roles: Any, values: Any, error: type[HeloraError]) -> None:
        for use in (
            lambda: roles.client.encrypt(values, scale=SCALE),
            lambda: roles.encoded(values),
            lambda: roles.server.encrypt_public(values, scale=SCALE),
        ):
            with pytest.raises(error):
                use()

    def test_values_that_fit_the_top_and_not_the_bottom(self, roles: Any) -> None:
        large = np.full(SLOTS, 2.0**20)
        roles.encoded(large)
        with pytest.raises(PrecisionLost):
            roles.encoded(large, 0)

    @pytest.mark.parametrize("scale", [0.0, -SCALE, float("nan"), float("inf"), 2.0**120])
    def test_scales_that_cannot_be(self, roles: Any, scale: float) -> None:
        """Pyfhel alone takes its default for the first three, and infinity as it is."""
        with pytest.raises(PrecisionLost if scale == 2.0**120 else InvalidInput):
            roles.client.encrypt(ones(), scale=scale)
        with pytest.raises(PrecisionLost if scale == 2.0**120 else InvalidInput):
            roles.encoded(ones(), scale=scale)


class TestParameters:
    @pytest.mark.parametrize(
        "changes",
        [
            {"special_bits": ()},
            {"special_bits": (48, 48)},
            {"ring_degree": 2048, "data_bits": (13,) * 10, "special_bits": (13,), "scale_bits": 13},
        ],
    )
    def test_what_seal_cannot_realise(self, changes: dict[str, Any]) -> None:
        with pytest.raises(InvalidParameters):
            checked(PyfhelBackend()).resolve(msgspec.structs.replace(QUICK, **changes))

    def test_primes_that_seal_does_not_take(self, roles: Any) -> None:
        not_prime = roles.params.data_primes[0] - 2
        params = msgspec.structs.replace(roles.params, data_primes=(not_prime, *roles.params.data_primes[1:]))
        with pytest.raises(ValueError, match="cannot realise"):
            checked(PyfhelBackend()).generate_keys(params, ())

    def test_resolve_states_the_primes_of_the_keys(self, roles: Any) -> None:
        primes = roles.params.data_primes + roles.params.special_primes
        assert tuple(roles.client._library._keyed.qi) == tuple(roles.server.library._context.pyfhel.qi) == primes
        assert checked(PyfhelBackend()).resolve(roles.params) == roles.params

    def test_a_seed(self, roles: Any) -> None:
        with pytest.raises(CapabilityMissing):
            checked(PyfhelBackend()).generate_keys(roles.params, (), seed=1)


class TestBytes:
    def test_ciphertexts_that_are_cut_lengthened_or_altered(self, roles: Any) -> None:
        payload = roles.client.serialize(roles.client.encrypt(ones(), scale=SCALE))
        altered = [payload[:keep] for keep in (0, 1, 40, len(payload) - 1)]
        altered += [payload + b"\0", b"\0" * len(payload), bytes(range(256)) * 8]
        # Header, parms_id, form, number of polynomials, ring, primes, correction factor.
        altered += [
            payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :] for at in (0, 5, 20, 48, 49, 58, 65, 89)
        ]
        # Scales.
        altered += [payload[:73] + struct.pack("<d", scale) + payload[81:] for scale in (0.0, -1.0, np.nan, np.inf)]
        for each in altered:
            with pytest.raises(CorruptPayload):
                roles.server.deserialize(each)

    def test_ciphertexts_of_other_parameters(self, roles: Any) -> None:
        other = checked(PyfhelBackend()).resolve(msgspec.structs.replace(QUICK, data_bits=(48, 30, 35)))
        client, _ = checked(PyfhelBackend()).generate_keys(other, ())
        with pytest.raises(CorruptPayload):
            roles.server.deserialize(client.serialize(client.encrypt(ones(), scale=SCALE)))

    def test_a_round_trip_keeps_level_scale_and_values(self, roles: Any) -> None:
        for level in (TOP, 1, 0):
            ciphertext = roles.lowered(roles.encrypted(ones()), level)
            read = roles.client.deserialize(roles.server.serialize(ciphertext))
            assert (roles.client.level(read), roles.client.scale(read)) == (level, roles.server.scale(ciphertext))
            assert np.array_equal(roles.client.decrypt(read), roles.client.decrypt(ciphertext))

    def test_evaluation_keys_that_are_none_or_not_as_said(self, roles: Any) -> None:
        backend, sent = checked(PyfhelBackend()), roles.client.evaluation_keys()
        keys = msgspec.msgpack.decode(sent, type=EvaluationKeys)
        altered = [b"", b"\xff", sent[:-1], sent[1:], sent + b"\0"]
        for changes in (
            {"steps": keys.steps[:-1]},
            {"steps": [*keys.steps, 3]},
            {"steps": []},
            {"rotation_keys": b""},
            {"rotation_keys": keys.rotation_keys[:-1]},
            {"rotation_keys": keys.rotation_keys + b"\0"},
            {"rotation_keys": keys.public_key},
            {"public_key": keys.rotation_keys},
            {"public_key": keys.public_key[:-1]},
            {"public_key": keys.public_key + b"\0"},
            {"key_id": b"short"},
        ):
            altered.append(msgspec.msgpack.encode(msgspec.structs.replace(keys, **changes)))
        for each in altered:
            with pytest.raises(CorruptPayload):
                backend.load_evaluator(roles.params, each)
        with pytest.raises(CorruptPayload):
            backend.load_evaluator(backend.resolve(msgspec.structs.replace(QUICK, ring_degree=2048)), sent)


def reachable(root: object) -> Iterator[object]:
    """Every object that references lead to, but for modules and types."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) not in seen and not isinstance(thing, type | type(sys)):
            seen.add(id(thing))
            yield thing
            waiting += gc.get_referents(thing)


class TestSecret:
    def test_no_pyfhel_object_that_the_server_reaches_has_a_secret_key(self, roles: Any) -> None:
        result = roles.server.multiply_plain(roles.encrypted(ones()), roles.encoded(ones(), TOP))
        roles.encoded(ones(), 0)  # by an object of its own
        held = [thing for thing in reachable((roles.server, result)) if isinstance(thing, Pyfhel)]
        assert len(held) >= 2
        assert all(each.is_secret_key_empty() for each in held)
        assert not roles.client._library._keyed.is_secret_key_empty()
        for each in held:
            with pytest.raises(RuntimeError):  # Pyfhel's own class ends the process here, for want of a null check
                each.decrypt(result.data)
            with pytest.raises(RuntimeError):
                each.to_bytes_secret_key("none")

    def test_a_fresh_ciphertext_does_not_lead_to_the_secret_key(self, roles: Any) -> None:
        """Pyfhel's ciphertexts refer to the object that made them."""
        fresh = roles.client.encrypt(ones(), scale=SCALE)
        assert any(thing is fresh.data for thing in reachable(fresh))
        assert not any(thing is roles.client._library._keyed for thing in reachable(fresh))

    def test_the_secret_key_is_in_nothing_that_is_sent(self, roles: Any) -> None:
        """SEAL's form of it is N words per prime; no stretch of 64 bytes of it is sent."""
        secret = roles.client._library._keyed.to_bytes_secret_key("none")
        sent = roles.client.evaluation_keys() + roles.client.serialize(roles.client.encrypt(ones(), scale=SCALE))
        assert not any(secret[start : start + 64] in sent for start in range(128, len(secret) - 64, 4096))
