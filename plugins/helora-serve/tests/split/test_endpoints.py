"""docs/protocol.md names every endpoint that a server can have, and ``/v1/modes`` those of each mode."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.routing import Mount, WebSocketRoute

from helora_serve.app import app_of
from helora_serve.mode import modes_of, of_route
from helora_serve.pages import page_routes

PAGE = Path(__file__).parents[4] / "docs" / "protocol.md"
WHOLE = SimpleNamespace(name="base", adapters=("legal",), positions=8, ends=frozenset())


def unnamed(path: str) -> str:
    """A path whose parameters have no names."""
    return re.sub(r"\{[^}]*\}", "{}", path)


@pytest.fixture
def endpoints(serving: Any, layers: Any, tmp_path: Path) -> set[str]:
    """All of a server that has every mode and page."""
    service = serving(layers=layers, hosted=WHOLE).service
    found = set()
    for route in app_of(service, pages=page_routes(tmp_path, tmp_path)).routes:
        methods = {""} if isinstance(route, Mount) else getattr(route, "methods", None) or {"GET"}
        if isinstance(route, WebSocketRoute):
            methods = {"GET"}
        if "GET" in methods:
            methods = methods - {"HEAD"}  # which starlette adds
        found |= {f"{method} {unnamed(route.path)}".strip() for method in methods}
    return found


def test_the_page_names_every_endpoint_and_no_other(endpoints: set[str]) -> None:
    http = PAGE.read_text("utf-8").partition("## HTTP")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in http.splitlines() if re.match(r"\| `(GET|HEAD|PUT|POST) ", line)]
    named = {unnamed(each) for row in rows for each in re.findall(r"`([^`]+)`", row)}
    assert named == endpoints


def test_the_modes_have_all_routes_between_them_but_those_of_the_server_itself(endpoints: set[str]) -> None:
    paths = {each.partition(" ")[2] for each in endpoints if " /v1/" in each}
    shared = {"/v1/models", "/v1/modes"}
    modes = modes_of(("client-key", "split", "hosted")).modes
    of_modes = {route: each.mode for each in modes for route in each.routes}
    assert {path.removesuffix("/{}") for path in paths} - shared == set(of_modes)
    assert {route: of_route(route) for route in of_modes} == of_modes
