"""Programs of this machine come in; pages do not, by whatever name they found the port, and no long or odd bodies."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

ASK = {"model": "words", "messages": [{"role": "user", "content": "a"}]}
CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]:8080", "127.0.0.1:1"])
def test_loopbacks_own_names_come_in(proxy: Any, host: str) -> None:
    assert proxy.request("GET", "/v1/models", host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "localhost.", "",
        "127.0.0.1@evil.example", "evil.example#127.0.0.1", "127.1", "0.0.0.0", "2130706433", "[::ffff:127.0.0.1]",
        "localhost:8080:80", "evil.example, localhost", "::1",
    ],
)  # fmt: skip
def test_a_name_that_was_rebound_does_not(proxy: Any, words: Any, host: str) -> None:
    status, document, _ = proxy.request("POST", CHAT, ASK, host=host)
    assert (status, document["error"]["code"]) == (421, "host-refused")
    assert words.asked == []


def test_hosts_are_told_once(proxy: Any) -> None:
    for hosts in ("", "Host: localhost\r\nHost: evil.example\r\n"):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=120) as peer:
            peer.sendall(f"GET /v1/models HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())
            status = peer.makefile("rb").readline().split()[1]
        assert status in (b"400", b"421")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:8080", "http://127.0.0.1", ""])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_no_page_comes_in_by_default(proxy: Any, words: Any, origin: str, method: str) -> None:
    body = ASK if method == "POST" else None
    status, document, headers = proxy.request(method, CHAT, body, origin=origin)
    assert (status, document["error"]["code"]) == (403, "origin-refused")
    assert not [name for name in headers if name.startswith("access-control")]
    assert words.asked == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_no_picture_of_a_page_either(proxy: Any, site: str) -> None:
    assert proxy.request("GET", "/v1/models", sec_fetch_site=site)[0] == 403
    assert proxy.request("GET", "/v1/models", sec_fetch_site="none")[0] == 200


def test_a_page_that_was_allowed_comes_in_and_no_other(serving: Callable[..., Any], words: Any) -> None:
    proxy = serving(words, origins=("http://localhost:3000",), hosts=("Proxy",))
    status, _, headers = proxy.request(
        "OPTIONS", CHAT, origin="http://localhost:3000", access_control_request_method="POST",
        access_control_request_headers="content-type,authorization",
    )  # fmt: skip
    assert (status, headers["access-control-allow-origin"]) == (204, "http://localhost:3000")
    assert headers["access-control-allow-headers"] == "content-type,authorization"
    status, _, headers = proxy.request("POST", CHAT, ASK, origin="http://localhost:3000", sec_fetch_site="same-site")
    assert (status, headers["access-control-allow-origin"]) == (200, "http://localhost:3000")
    assert "x-helora-mode" in headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in headers
    assert "Origin" in headers["vary"]
    for other in ("http://localhost:3001", "https://localhost:3000", "http://localhost:3000.evil.example"):
        assert proxy.request("POST", CHAT, ASK, origin=other)[0] == 403
    assert proxy.request("GET", "/v1/models", host="proxy:8080")[0] == 200


def test_a_body_that_is_too_long_is_refused_before_it_is_read(serving: Callable[..., Any], words: Any) -> None:
    proxy = serving(words, most_body_bytes=1000)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=120) as peer:
        peer.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000000000000\r\n\r\n{"
        )
        assert peer.makefile("rb").readline().split()[1] == b"413"  # though nothing of the rest was sent
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=120) as peer:  # one that does not say how long
        peer.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + 3 * (b"190\r\n" + 400 * b" " + b"\r\n")
        )
        assert peer.makefile("rb").readline().split()[1] == b"413"
    status, document, _ = proxy.ask("x" * 1000)
    assert (status, document["error"]["code"]) == (413, "body-too-large")
    assert proxy.ask("x" * 100)[0] == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_can_send_is_not_read(proxy: Any, words: Any, kind: str) -> None:
    assert proxy.request("POST", CHAT, ASK, content_type=kind)[0] == 415
    assert words.asked == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", CHAT, 405), ("POST", "/v1/models", 405), ("POST", "/v1/embeddings", 404)],
)
def test_other_paths_are_refused_as_openai_does(proxy: Any, method: str, path: str, status: int) -> None:
    found, document, _ = proxy.request(method, path, {} if method == "POST" else None)
    assert (found, set(document["error"])) == (status, {"message", "type", "param", "code"})
