"""Who is served: tokens, pages, and addresses that other machines reach."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click.testing
import pytest

from helora_core.cli.main import main
from helora_core.errors import AccessRefused, InvalidInput
from helora_serve.auth import Access, Tokens, is_loopback, new_token
from helora_serve.refusals import Refusing

LOCAL = {"host": "127.0.0.1:7460"}


def test_a_token_names_its_owner_and_any_other_nobody(alice: Any) -> None:
    tokens, token = alice
    access = Access(tokens, any_host=True)
    for headers, subprotocols in (
        ({"authorization": f"Bearer {token}"}, []),
        ({"authorization": f"bearer {token} "}, []),
        ({}, ["helora.delta.v1", f"helora.bearer.{token}"]),
    ):
        assert access.identity({**LOCAL, **headers}, subprotocols).name == "alice"
    for headers, subprotocols in (
        ({}, []),
        ({"authorization": token}, []),
        ({"authorization": "Bearer "}, []),
        ({"authorization": f"Basic {token}"}, []),
        ({"authorization": f"Bearer {token}x"}, []),
        ({"authorization": "Bearer \udcff"}, []),
        ({}, ["helora.bearer."]),
    ):
        with pytest.raises(Refusing) as caught:
            access.identity({**LOCAL, **headers}, subprotocols)
        assert (caught.value.status, caught.value.error.code) == (401, "access-refused")


@pytest.mark.parametrize(
    ("headers", "served"),
    [
        (LOCAL, True),
        ({"host": "localhost:1"}, True),
        ({"host": "[::1]:1"}, True),
        ({"host": "evil.example:7460"}, False),  # a name that was made to point here
        ({"host": ""}, False),
        ({"host": "["}, False),
        ({**LOCAL, "origin": "http://127.0.0.1:7460"}, True),  # the server's own page
        ({**LOCAL, "origin": "http://127.0.0.1:7461"}, False),
        ({**LOCAL, "origin": "https://evil.example"}, False),
        ({**LOCAL, "origin": "null"}, False),
        ({**LOCAL, "origin": "http://["}, False),
        ({**LOCAL, "sec-fetch-site": "cross-site"}, False),  # an image of a foreign page, which has no origin
        ({**LOCAL, "sec-fetch-site": "same-site"}, False),
        ({**LOCAL, "sec-fetch-site": "same-origin"}, True),
        ({**LOCAL, "sec-fetch-site": "none"}, True),  # typed into the browser
        ({**LOCAL, "origin": "https://app.example"}, True),  # allowed by name
    ],
)
def test_pages_elsewhere_do_not_get_at_an_open_server(headers: dict[str, str], served: bool) -> None:
    access = Access(None, origins=["https://app.example"])
    if served:
        assert access.identity(headers).name == ""
    else:
        with pytest.raises(Refusing) as caught:
            access.identity(headers)
        assert caught.value.status == 403


def test_a_page_elsewhere_gets_nothing_over_http_or_sockets(serving: Any, refused: Any) -> None:
    served = serving()
    remote = served.connect()
    remote._connector.http.headers["origin"] = "https://evil.example"
    with refused(AccessRefused, "another origin"):
        remote.offer()
    with refused(AccessRefused, "another origin"):
        remote._connector.dial(5)


def test_loopback_is_what_the_standards_call_so() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "localhost.evil.example", "10.0.0.1", "", "127.0.0.1.nip.io")))


def test_the_file_has_no_token_and_each_name_one(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    run = click.testing.CliRunner().invoke
    made = json.loads(run(main, ["token", "alice", "--tokens", str(file), "--json"]).stdout)
    run(main, ["token", "bob", "--tokens", str(file)])
    assert made["token"] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    tokens = Tokens.read(file)
    assert tokens.owner(made["token"]) == "alice"
    again = run(main, ["token", "alice", "--tokens", str(file), "--json"])
    assert json.loads(again.stdout)["error"]["code"] == "invalid-input"
    assert Tokens.read(file).owner(made["token"]) == "alice"


@pytest.mark.parametrize(
    "text", ["", "# none\n", "alice\n", "alice:12\n", "a b:" + "0" * 64, ("a:" + "0" * 64 + "\n") * 2]
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, refused: Any) -> None:
    (tmp_path / "tokens").write_text(text)
    with refused(InvalidInput, "Tokens"):
        Tokens.read(tmp_path / "tokens")
    with refused(InvalidInput, "cannot name"):
        new_token("a:b")


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_it_does_not_listen_beyond_this_machine_unasked(serving: Any, alice: Any, address: str, refused: Any) -> None:
    with refused(InvalidInput, "anybody is served"):
        serving(host={"host": address})
    with refused(InvalidInput, "no TLS"):
        serving(tokens=alice[0], host={"host": address})
    served = serving(host={"host": address, "insecure": True})
    assert served.host.insecure
    remote = served.connect(f"http://127.0.0.1:{served.host.port}")
    assert remote.document.mode == "client-key"
