"""TLS with an authority of one's own, and clients that show certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helora_core.errors import AccessRefused, ConnectionLost, InvalidInput, LimitExceeded
from helora_serve.client import connect
from helora_serve.host import TLS

pytest.importorskip("cryptography")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, certificates: Any) -> Path:
    made: Path = certificates.make(tmp_path_factory.mktemp("certificates"))
    return made


def tls(folder: Path, **options: Any) -> dict[str, Any]:
    return {"tls": TLS(certificate=folder / "server.pem", key=folder / "server.key", **options)}


def test_tls_carries_a_session_and_a_reconnect(serving: Any, world: Any, folder: Path) -> None:
    served = serving(host=tls(folder))
    assert served.host.url.startswith("https://")
    for address in (served.host.url, f"wss://localhost:{served.host.port}"):
        client, session = served.session(address, ca=folder / "ca.pem")
        assert world.right(client.run("q", world.x(2), session), world.x(2))
        session._wire.close()
        assert world.right(client.run("v", world.x(2), session), world.x(2), "v")


def test_a_server_whose_certificate_is_unknown_is_not_talked_to(serving: Any, folder: Path, refused: Any) -> None:
    served = serving(host=tls(folder))
    for ca in (None, folder / "other.pem"):
        with refused(ConnectionLost, "certificate"):
            connect(served.host.url, ca=ca)
    with refused(InvalidInput, "certificate"):
        connect(served.host.url, ca=folder / "nothing.pem")


def test_clients_show_certificates_if_asked(serving: Any, world: Any, folder: Path) -> None:
    served = serving(host=tls(folder, client_ca=folder / "ca.pem"))
    assert served.host.asks_for == "certificates"
    own = {"certificate": folder / "client.pem", "key": folder / "client.key"}
    client, session = served.session(ca=folder / "ca.pem", **own)
    assert world.right(client.run("q", world.x(1), session), world.x(1))
    for other in ({}, {"certificate": folder / "other.pem", "key": folder / "other.key"}):
        with pytest.raises(ConnectionLost):
            connect(served.host.url, ca=folder / "ca.pem", **other)


def test_clients_are_told_apart_by_their_certificates(serving: Any, world: Any, folder: Path, refused: Any) -> None:
    served = serving(host=tls(folder, client_ca=folder / "ca.pem"), queries=5)

    def session_of(name: str) -> Any:
        own = {"certificate": folder / f"{name}.pem", "key": folder / f"{name}.key"}
        return served.session(ca=folder / "ca.pem", **own)

    client, session = session_of("client")
    assert world.right(client.run("q", world.x(4), session), world.x(4))
    again, another = session_of("client")  # other keys, and the same certificate
    with refused(LimitExceeded, "4 queries"):
        again.run("q", world.x(2), another)
    other, theirs = session_of("second")
    assert world.right(other.run("q", world.x(5), theirs), world.x(5))
    assert len({each.identity for each in served.service.sessions.all}) == 2


def test_with_tls_and_tokens_it_may_listen_anywhere(serving: Any, alice: Any, folder: Path, refused: Any) -> None:
    tokens, token = alice
    served = serving(tokens=tokens, host={"host": "0.0.0.0", **tls(folder)})
    assert not served.host.insecure
    address = f"https://127.0.0.1:{served.host.port}"
    assert served.connect(address, ca=folder / "ca.pem", token=token).document.mode == "client-key"
    with refused(AccessRefused):
        served.connect(address, ca=folder / "ca.pem")
