"""A client's keys, exported under a passphrase and restored in another process."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core import restore_client
from helora_core.backend import key_export
from helora_core.backend.capabilities import Capabilities
from helora_core.backend.checked import CheckedDecryptor
from helora_core.backend.envelope import PayloadKind, opened, wrap
from helora_core.backend.ledger import Ledger, MeteredDecryptor
from helora_core.backend.origin import Origin, origin_of
from helora_core.backend.session import ClientSession, InsecureParametersWarning, ServerSession, open_sessions
from helora_core.errors import (
    CapabilityMissing,
    CorruptPayload,
    ForeignCiphertext,
    HeloraError,
    InsecureParameters,
    InvalidInput,
    VersionMismatch,
)
from helora_core.params.ckks import CKKSParams
from helora_core.params.presets import FAST
from tests.conftest import examples

pytest.importorskip("cryptography")

V = np.linspace(-4, 4, 512)
CLOSE = 1e-3
PASSPHRASE = "correct horse battery staple"


@pytest.fixture(autouse=True, scope="module")
def quick_scrypt() -> Any:
    """The least cost that is read, so that tests take milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_export, "SCRYPT_LOG_N", 14)
        yield


@pytest.fixture(scope="module")
def exported(sessions: Any, quick_scrypt: None) -> bytes:
    keys: bytes = sessions.client.export_keys(PASSPHRASE)
    return keys


@pytest.fixture(scope="module")
def emulated(numpy_backend: Any, quick: CKKSParams, quick_scrypt: None) -> bytes:
    """An export that is quickly read."""
    with pytest.warns(InsecureParametersWarning):
        client, _ = open_sessions(numpy_backend, quick, (), insecure=True)
    keys: bytes = client.export_keys(PASSPHRASE)
    return keys


def restored(backend: Any, keys: bytes, passphrase: str = PASSPHRASE) -> ClientSession:
    with pytest.warns(InsecureParametersWarning):
        return restore_client(backend, keys, passphrase, insecure=True)


def resealed(keys: bytes, origin: Origin, **changes: Any) -> bytes:
    """An export with other fields in its header, in a sound envelope."""
    found = opened(PayloadKind.SECRET_KEYS, None, keys)
    length = int.from_bytes(found.payload[:4], "big")
    header = {**msgspec.json.decode(found.payload[4 : 4 + length]), **changes}
    encoded = msgspec.json.encode(header)
    payload = len(encoded).to_bytes(4, "big") + encoded + found.payload[4 + length :]
    return wrap(PayloadKind.SECRET_KEYS, found.key_id, payload, origin)


class TestRestoring:
    def test_what_was_sent_before_can_be_decrypted_after(self, sessions: Any, backend: Any, exported: bytes) -> None:
        message = sessions.client.send(sessions.client.encrypt(V, scale_bits=30))
        result = sessions.server.send(sessions.server.evaluator.rotate(sessions.server.receive(message), 5))
        client = restored(backend, exported)
        np.testing.assert_allclose(client.decrypt(client.receive(result)), np.roll(V, -5), rtol=0, atol=CLOSE)

    def test_the_server_of_before_serves_the_client_of_after(
        self, sessions: Any, backend: Any, exported: bytes
    ) -> None:
        client = restored(backend, exported)
        received = sessions.server.receive(client.send(client.encrypt(V, scale_bits=30)))
        found = client.decrypt(client.receive(sessions.server.send(sessions.server.evaluator.rotate(received, 7))))
        np.testing.assert_allclose(found, np.roll(V, -7), rtol=0, atol=CLOSE)

    def test_it_makes_evaluation_keys_for_the_same_steps(self, sessions: Any, backend: Any, exported: bytes) -> None:
        client = restored(backend, exported)
        server = ServerSession.from_keys(backend, client.params, client.evaluation_keys(), ledger=Ledger())
        for each in (client, sessions.client):
            received = server.receive(each.send(each.encrypt(V, scale_bits=30)))
            for step in (1, 511):
                found = each.decrypt(each.receive(server.send(server.evaluator.rotate(received, step))))
                np.testing.assert_allclose(found, np.roll(V, -step), rtol=0, atol=CLOSE)
        with pytest.raises(HeloraError, match="no key"):
            server.evaluator.rotate(received, 3)

    def test_a_public_key_comes_back_too(self, backend: Any, quick: CKKSParams) -> None:
        with pytest.warns(InsecureParametersWarning):
            client, server = open_sessions(backend, quick, (), insecure=True, public_key=True)
        message = server.send(server.encrypt_public(V, scale_bits=30))
        again = restored(backend, client.export_keys(PASSPHRASE))
        np.testing.assert_allclose(again.decrypt(again.receive(message)), V, rtol=0, atol=CLOSE)
        server = ServerSession.from_keys(backend, quick, again.evaluation_keys(), ledger=Ledger())
        message = server.send(server.encrypt_public(V, scale_bits=30))
        np.testing.assert_allclose(client.decrypt(client.receive(message)), V, rtol=0, atol=CLOSE)

    def test_it_can_be_put_away_again(self, backend: Any, exported: bytes) -> None:
        again = restored(backend, exported).export_keys("another")
        assert restored(backend, again, "another").params == restored(backend, exported).params

    def test_another_process_takes_it_up(self, sessions: Any, backend: Any, exported: bytes, tmp_path: Path) -> None:
        result = sessions.server.send(
            sessions.server.receive(sessions.client.send(sessions.client.encrypt(V, scale_bits=30)))
        )
        (tmp_path / "keys").write_bytes(exported)
        (tmp_path / "result").write_bytes(result)
        code = (
            "import pathlib, warnings; warnings.simplefilter('ignore')\n"
            "from helora_core import get_manager, restore_client\n"
            f"folder = pathlib.Path({str(tmp_path)!r})\n"
            f"backend = get_manager().load_backend({backend.name!r})\n"
            f"client = restore_client(backend, (folder / 'keys').read_bytes(), {PASSPHRASE!r}, insecure=True)\n"
            "print(*client.decrypt(client.receive((folder / 'result').read_bytes())))\n"
        )
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
        np.testing.assert_allclose(np.array(shown.stdout.split(), dtype=float), V, rtol=0, atol=CLOSE)

    def test_how_a_keyboard_composes_accents_does_not_matter(self, sessions: Any, backend: Any) -> None:
        keys = sessions.client.export_keys(unicodedata.normalize("NFD", "clé"))
        restored(backend, keys, unicodedata.normalize("NFC", "clé"))

    def test_parameters_are_judged_again(self, backend: Any, exported: bytes) -> None:
        with pytest.raises(InsecureParameters):
            restore_client(backend, exported, PASSPHRASE)

    def test_sound_parameters_need_no_word(self, numpy_backend: Any) -> None:
        client, _ = open_sessions(numpy_backend, FAST, ())
        assert restore_client(numpy_backend, client.export_keys(PASSPHRASE), PASSPHRASE).params == client.params


class TestAtRest:
    def test_two_exports_share_nothing_but_what_is_public(self, sessions: Any, exported: bytes) -> None:
        other = opened(PayloadKind.SECRET_KEYS, None, sessions.client.export_keys(PASSPHRASE)).payload
        own = opened(PayloadKind.SECRET_KEYS, None, exported).payload
        assert own[-64:] != other[-64:]

    def test_the_keys_are_not_in_it(self, sessions: Any, exported: bytes) -> None:
        clear = sessions.client._decryptor.export_keys()
        runs = {clear[place : place + 24] for place in range(0, len(clear) - 24, 24)}
        public = sessions.client._decryptor.key_id
        assert not [run for run in runs if run in exported and public[:8] not in run]

    def test_a_server_does_not_take_it(self, sessions: Any, backend: Any, exported: bytes) -> None:
        with pytest.raises(CorruptPayload, match="secret_keys"):
            ServerSession.from_keys(backend, sessions.client.params, exported, ledger=Ledger())
        with pytest.raises(CorruptPayload):
            sessions.server.receive(exported)

    def test_the_cost_is_what_is_documented(self, monkeypatch: pytest.MonkeyPatch, sessions: Any) -> None:
        monkeypatch.undo()
        header = opened(PayloadKind.SECRET_KEYS, None, sessions.client.export_keys(PASSPHRASE)).payload
        assert b'"kdf":"scrypt"' in header
        assert b'"cipher":"chacha20-poly1305"' in header


class TestRefusals:
    @pytest.mark.parametrize("passphrase", ["", None, b"bytes", 7])
    def test_no_passphrase(self, sessions: Any, backend: Any, exported: bytes, passphrase: Any) -> None:
        with pytest.raises(InvalidInput, match="passphrase"):
            sessions.client.export_keys(passphrase)
        with pytest.raises(InvalidInput, match="passphrase"):
            restore_client(backend, exported, passphrase)

    def test_another_passphrase(self, backend: Any, exported: bytes) -> None:
        with pytest.raises(InvalidInput, match="passphrase is wrong") as caught:
            restored(backend, exported, PASSPHRASE + " ")
        assert PASSPHRASE not in str(caught.value)

    @pytest.mark.parametrize("cut", [0, 10, 40, 200, -1])
    def test_bytes_cut_short(self, backend: Any, exported: bytes, cut: int) -> None:
        with pytest.raises(CorruptPayload):
            restore_client(backend, exported[:cut], PASSPHRASE)

    @pytest.mark.parametrize(
        "changes",
        [
            {"log_n": 40},
            {"log_n": 0},
            {"r": 1 << 30},
            {"p": 1 << 30},
            {"salt": "AA=="},
            {"nonce": ""},
            {"extra": 1},
            {"params": None},
        ],
    )
    def test_headers_that_cost_too_much_or_make_no_sense(
        self, backend: Any, exported: bytes, changes: dict[str, Any]
    ) -> None:
        with pytest.raises(CorruptPayload):
            restore_client(backend, resealed(exported, origin_of(backend), **changes), PASSPHRASE)

    def test_what_is_not_encrypted_is_authenticated(self, backend: Any, exported: bytes) -> None:
        salt = msgspec.json.decode(msgspec.json.encode(bytes(16)))
        with pytest.raises(InvalidInput, match="somebody changed them"):
            restored(backend, resealed(exported, origin_of(backend), nonce="A" * 16))
        with pytest.raises(InvalidInput, match="somebody changed them"):
            restored(backend, resealed(exported, origin_of(backend), salt=salt))
        found = opened(PayloadKind.SECRET_KEYS, None, exported)
        with pytest.raises(InvalidInput, match="somebody changed them"):
            restored(backend, wrap(PayloadKind.SECRET_KEYS, bytes(16), found.payload, origin_of(backend)))

    def test_other_parameters_are_not_slipped_in(self, backend: Any, exported: bytes, quick: CKKSParams) -> None:
        other = backend.resolve(msgspec.structs.replace(quick, scale_bits=31))
        with pytest.raises(InvalidInput, match="somebody changed them"):
            restored(backend, resealed(exported, origin_of(backend), params=msgspec.to_builtins(other)))

    def test_another_cipher_is_of_another_version(self, backend: Any, exported: bytes) -> None:
        with pytest.raises(VersionMismatch, match="aes"):
            restore_client(backend, resealed(exported, origin_of(backend), cipher="aes"), PASSPHRASE)

    def test_another_version_of_the_library_and_another_backend(self, backend: Any, exported: bytes) -> None:
        own = origin_of(backend)
        with pytest.raises(VersionMismatch) as caught:
            restore_client(backend, resealed(exported, Origin(own.backend, "libfoo 7")), PASSPHRASE)
        assert "libfoo 7" in caught.value.message
        assert own.library in caught.value.message
        with pytest.raises(ForeignCiphertext, match="acme"):
            restore_client(backend, resealed(exported, Origin("acme", own.library)), PASSPHRASE)

    def test_a_backend_that_cannot(self, sessions: Any, exported: bytes) -> None:
        class Plain:
            key_id = bytes(16)
            evaluation_keys = None

        class PlainBackend:
            name = "plain"
            capabilities = Capabilities(encodings=frozenset())

        client = ClientSession(
            MeteredDecryptor(CheckedDecryptor(Plain(), sessions.server.evaluator.encoder), Ledger()),  # type: ignore[arg-type]
            sessions.client.params,
            PlainBackend.capabilities,
        )
        with pytest.raises(CapabilityMissing, match="cannot export"):
            client.export_keys(PASSPHRASE)
        with pytest.raises(CapabilityMissing, match="plain cannot restore"):
            restore_client(PlainBackend(), exported, PASSPHRASE)  # type: ignore[arg-type]

    def test_a_missing_package(
        self, sessions: Any, backend: Any, exported: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
            monkeypatch.setitem(sys.modules, name, None)
        for use in (lambda: sessions.client.export_keys("x"), lambda: restore_client(backend, exported, "x")):
            with pytest.raises(CapabilityMissing, match="cryptography") as caught:
                use()
            assert "[keys]" in caught.value.hint

    @pytest.mark.filterwarnings("ignore::helora_core.backend.session.InsecureParametersWarning")  # before it is opened
    @examples(8)
    @given(st.data())
    def test_a_changed_export_is_refused(self, numpy_backend: Any, emulated: bytes, data: st.DataObject) -> None:
        found = opened(PayloadKind.SECRET_KEYS, None, emulated)
        payload = bytearray(found.payload)
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(payload)) | st.integers(0, 400))  # often in the header
            payload[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
        if payload == found.payload:
            return
        changed = wrap(PayloadKind.SECRET_KEYS, found.key_id, payload, origin_of(numpy_backend))
        with pytest.raises(HeloraError):
            restore_client(numpy_backend, changed, PASSPHRASE, insecure=True)
