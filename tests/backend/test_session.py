"""Client and server as types: what passes between them, and which parameters, keys and messages are refused.

What each holds, and that they compute the same, are laws of the conformance kit (``conformance/suites/sessions.py``).
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.backend.envelope import PayloadKind, unwrap, wrap
from helora_core.backend.ledger import Ledger
from helora_core.backend.limits import MessageLimits
from helora_core.backend.origin import Origin, origin_of
from helora_core.backend.session import InsecureParametersWarning, ServerSession, open_sessions
from helora_core.errors import (
    CorruptPayload,
    ForeignCiphertext,
    HeloraError,
    InsecureParameters,
    InvalidInput,
    InvalidParameters,
    SlotOverflow,
    VersionMismatch,
)
from helora_core.params.ckks import CKKSParams
from helora_core.params.presets import FAST, SAFE

V = np.linspace(-4, 4, 512)
CLOSE = 1e-3


class TestSecurity:
    @pytest.mark.parametrize(("preset", "security_bits"), [(FAST, 128), (SAFE, 256)])
    def test_secure_parameters_are_let_in_without_a_warning(
        self, numpy_backend: Any, preset: CKKSParams, security_bits: int
    ) -> None:
        client, server = open_sessions(numpy_backend, preset, (), security_bits=security_bits)
        assert client.params == server.params == numpy_backend.resolve(preset)

    def test_insecure_parameters_are_refused_with_the_ring_that_would_do(self, backend: Any, quick: CKKSParams) -> None:
        with pytest.raises(InsecureParameters, match="160 bits") as caught:
            open_sessions(backend, quick, ())
        assert "8192" in caught.value.hint

    @pytest.mark.parametrize(("security_bits", "table"), [(192, "guidelines-2024"), (256, "he-standard-2018")])
    def test_the_level_and_the_table_asked_for_are_what_is_held_against(
        self, backend: Any, security_bits: int, table: str
    ) -> None:
        with pytest.raises(InsecureParameters, match=f"{table} .* {security_bits}-bit"):
            open_sessions(backend, FAST, (), security_bits=security_bits, table=table)

    def test_what_the_backend_resolves_to_is_judged_rather_than_what_was_asked_for(self, numpy_backend: Any) -> None:
        class Wider(type(numpy_backend)):  # type: ignore[misc]
            """Takes one prime more than it was asked for, as libraries do that round up."""

            made_keys = False

            def resolve(self, params: CKKSParams) -> CKKSParams:
                return super().resolve(msgspec.structs.replace(params, data_bits=(*params.data_bits, 40)))  # type: ignore[no-any-return]

            def generate_keys(self, *args: Any, **kwargs: Any) -> Any:
                Wider.made_keys = True
                return super().generate_keys(*args, **kwargs)

        with pytest.raises(InsecureParameters, match="230 bits"):
            open_sessions(Wider(), FAST, ())
        assert not Wider.made_keys

    def test_insecure_keys_are_made_on_request_with_a_warning_that_says_so(self, backend: Any, quick: Any) -> None:
        with pytest.warns(InsecureParametersWarning, match=r"INSECURE.*ring degree 1024.*160 bits") as caught:
            client, _ = open_sessions(backend, quick, (), insecure=True)
        assert caught[0].filename == __file__
        np.testing.assert_allclose(client.decrypt(client.encrypt(V, scale_bits=30)), V, rtol=0, atol=CLOSE)

    def test_parameters_beyond_the_library_are_refused_before_security_is_judged(self, backend: Any) -> None:
        impossible = CKKSParams(ring_degree=32768, data_bits=(17, 17), special_bits=(17,), scale_bits=16)
        with pytest.raises(InvalidParameters):
            open_sessions(backend, impossible, ())

    @pytest.mark.parametrize("step", [0, -1, 512, 10**6])
    def test_rotation_steps_out_of_range_are_refused(self, backend: Any, quick: CKKSParams, step: int) -> None:
        with pytest.raises(InvalidInput, match=str(step)):
            open_sessions(backend, quick, (1, step), insecure=True)


class TestTransport:
    def test_all_that_passes_is_bytes(self, sessions: Any) -> None:
        client, server = sessions.client, sessions.server
        message = client.send(client.encrypt(V, scale_bits=30))
        assert type(message) is type(client.evaluation_keys()) is type(server.send(server.receive(message))) is bytes

    def test_both_sessions_have_the_resolved_parameters(self, sessions: Any, backend: Any, quick: CKKSParams) -> None:
        assert sessions.client.params == sessions.server.params == backend.resolve(quick)
        assert len(sessions.client.params.data_primes) == 3


class TestServerFromKeys:
    def make(self, backend: Any, sessions: Any, params: CKKSParams | None = None) -> ServerSession:
        keys = sessions.client.evaluation_keys()
        return ServerSession.from_keys(backend, params or sessions.client.params, keys, ledger=Ledger())

    def test_the_nominal_parameters_of_a_plan_will_do(self, sessions: Any, backend: Any, quick: CKKSParams) -> None:
        client, server = sessions.client, self.make(backend, sessions, quick)
        assert server.params == client.params
        received = server.receive(client.send(client.encrypt(V, scale_bits=60)))
        rescaled = client.receive(server.send(server.evaluator.rescale(received)))
        np.testing.assert_allclose(client.decrypt(rescaled), V, rtol=0, atol=CLOSE)

    def test_keys_of_other_parameters_are_refused(self, sessions: Any, backend: Any, quick: CKKSParams) -> None:
        with pytest.raises(CorruptPayload):
            self.make(backend, sessions, backend.resolve(msgspec.structs.replace(quick, ring_degree=2048)))

    def test_intact_envelopes_of_bytes_that_are_no_keys_are_refused(self, sessions: Any, backend: Any) -> None:
        keys = unwrap(PayloadKind.EVALUATION_KEYS, None, sessions.client.evaluation_keys())
        origin = origin_of(backend)
        message = sessions.client._transport.codec.serialize(sessions.client.encrypt(V, scale_bits=30))
        for payload in (b"", b"\x00", keys[:10], keys[:40], keys[:-1], keys[1:], b"\0" + keys, message):
            envelope = wrap(PayloadKind.EVALUATION_KEYS, bytes(16), payload, origin)
            with pytest.raises(CorruptPayload):
                ServerSession.from_keys(backend, sessions.client.params, envelope, ledger=Ledger())

    def test_keys_of_another_version_or_backend_are_refused_and_both_are_named(
        self, sessions: Any, backend: Any
    ) -> None:
        keys = unwrap(PayloadKind.EVALUATION_KEYS, None, sessions.client.evaluation_keys())
        own, key_id = origin_of(backend), sessions.client._decryptor.key_id
        for other, error in (
            (Origin(own.backend, "libfoo 0.1"), VersionMismatch),
            (Origin("acme", ""), ForeignCiphertext),
        ):
            envelope = wrap(PayloadKind.EVALUATION_KEYS, key_id, keys, other)
            with pytest.raises(error) as caught:
                ServerSession.from_keys(backend, sessions.client.params, envelope, ledger=Ledger())
            named = (other.library, own.library) if error is VersionMismatch else (other.backend, own.backend)
            assert all(name in caught.value.message for name in named)

    def test_keys_under_another_name_than_their_own_are_refused(self, sessions: Any, backend: Any) -> None:
        keys = unwrap(PayloadKind.EVALUATION_KEYS, None, sessions.client.evaluation_keys())
        envelope = wrap(PayloadKind.EVALUATION_KEYS, bytes(16), keys, origin_of(backend))
        with pytest.raises(CorruptPayload, match="another key pair"):
            ServerSession.from_keys(backend, sessions.client.params, envelope, ledger=Ledger())

    def test_more_keys_than_a_plan_needs_are_refused_where_the_plan_is_known(self, sessions: Any, backend: Any) -> None:
        keys, params = sessions.client.evaluation_keys(), sessions.client.params
        own = MessageLimits.of(params, rotations=8)
        ServerSession.from_keys(backend, params, keys, ledger=Ledger(), limits=own)
        with pytest.raises(CorruptPayload, match="at most 42"):
            ServerSession.from_keys(backend, params, keys, ledger=Ledger(), limits=MessageLimits(10, 10))


class TestLimits:
    def test_messages_longer_than_any_ciphertext_never_reach_the_library(self, sessions: Any, backend: Any) -> None:
        client, server = sessions.client, sessions.server
        longest = MessageLimits.of(client.params).ciphertext_bytes
        assert len(client.send(client.encrypt(V, scale_bits=30))) < longest
        message = wrap(PayloadKind.CIPHERTEXT, client._decryptor.key_id, bytes(longest + 1), origin_of(backend))
        for receive in (client.receive, server.receive):
            with pytest.raises(CorruptPayload, match="these parameters make at most"):
                receive(message)

    def test_whatever_a_library_raises_of_bytes_is_a_refusal(
        self, sessions: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(payload: bytes) -> object:
            raise RuntimeError("secret 3.14")

        message = sessions.client.send(sessions.client.encrypt(V, scale_bits=30))
        monkeypatch.setattr(sessions.server.evaluator._evaluator._codec, "deserialize", fails)
        with pytest.raises(CorruptPayload) as caught:
            sessions.server.receive(message)
        assert "3.14" not in str(caught.value)

    @given(data=st.data())
    def test_changed_messages_raise_nothing_but_refusals(
        self, sessions: Any, backend: Any, data: st.DataObject
    ) -> None:
        """With true checksums, so that the library sees them."""
        client, server = sessions.client, sessions.server
        kind = data.draw(st.sampled_from([PayloadKind.CIPHERTEXT, PayloadKind.EVALUATION_KEYS]))
        of_keys = kind is PayloadKind.EVALUATION_KEYS
        message = client.evaluation_keys() if of_keys else client.send(client.encrypt(V, scale_bits=30))
        payload = bytearray(unwrap(kind, None, message))
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, 200) | st.integers(0, 1 << 30)) % (len(payload) + 1)
            payload[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        changed = wrap(kind, client._decryptor.key_id, bytes(payload), origin_of(backend))
        with suppress(HeloraError):
            if of_keys:
                ServerSession.from_keys(backend, client.params, changed, ledger=Ledger())
            else:
                server.receive(changed)

    def test_limits_grow_with_ring_chain_and_rotations(self, quick: CKKSParams) -> None:
        small, large = MessageLimits.of(quick, rotations=1), MessageLimits.of(SAFE, rotations=1)
        assert small.ciphertext_bytes < large.ciphertext_bytes
        assert small.key_bytes < MessageLimits.of(quick, rotations=2).key_bytes < MessageLimits.of(quick).key_bytes


class TestPickling:
    @pytest.mark.parametrize("use", [pickle.dumps, copy.copy, copy.deepcopy])
    def test_sessions_are_not_pickled_and_say_what_to_do(self, sessions: Any, use: Callable[[object], object]) -> None:
        with pytest.raises(InvalidInput, match="secret key") as caught:
            use(sessions.client)
        assert "export_keys" in caught.value.hint
        with pytest.raises(InvalidInput) as caught:
            use(sessions.server)
        assert "from_keys" in caught.value.hint


class TestOtherClients:
    """Ciphertexts of one key pair in the sessions of another, in the same process and as bytes."""

    USES: dict[str, Callable[[Any, Any], object]] = {  # noqa: RUF012
        "decrypt": lambda sessions, ct: sessions.client.decrypt(ct),
        "client's send": lambda sessions, ct: sessions.client.send(ct),
        "server's send": lambda sessions, ct: sessions.server.send(ct),
        "rotate": lambda sessions, ct: sessions.server.evaluator.rotate(ct, 1),
    }

    @pytest.mark.parametrize("use", USES)
    @pytest.mark.parametrize("form", ["fresh", "uploaded"])
    def test_objects_of_another_client_are_foreign(
        self, sessions: Any, other_sessions: Any, use: str, form: str
    ) -> None:
        """Sending one on under this client's name would be worst: the receiver could not tell."""
        foreign = other_sessions.client.encrypt(V, scale_bits=30)
        if form == "uploaded":
            foreign = other_sessions.server.receive(other_sessions.client.send(foreign))
        with pytest.raises(ForeignCiphertext):
            self.USES[use](sessions, foreign)


class TestDoor:
    BAD: dict[str, tuple[Any, type[HeloraError]]] = {  # noqa: RUF012
        "nan": (np.array([np.nan]), InvalidInput),
        "two dimensions": (np.ones((2, 2)), InvalidInput),
        "ints": (np.ones(2, dtype=int), InvalidInput),
        "empty": (np.zeros(0), InvalidInput),
        "too many": (np.ones(513), SlotOverflow),
    }

    @pytest.mark.parametrize("bad", BAD)
    def test_the_session_names_itself_when_it_refuses_values(self, sessions: Any, bad: str) -> None:
        """Before any library sees them."""
        values, error = self.BAD[bad]
        with pytest.raises(error, match=r"ClientSession\.encrypt"):
            sessions.client.encrypt(values, scale_bits=30)
        with pytest.raises(error, match=r"PlaintextEncoder\.encode"):
            sessions.server.encoder.encode(values, level=2, scale_bits=30)

    @pytest.mark.parametrize("scale_bits", [-2000, 120, 2000])
    def test_scales_that_cannot_be_are_refused(self, sessions: Any, scale_bits: int) -> None:
        with pytest.raises(HeloraError):
            sessions.client.encrypt(V, scale_bits=scale_bits)
        with pytest.raises(HeloraError):
            sessions.server.encoder.encode(V, level=2, scale_bits=scale_bits)
