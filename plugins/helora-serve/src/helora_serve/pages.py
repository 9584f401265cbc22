"""The private page: files of this package, and a base model that browsers load from here.

The page gets everything from this server and nothing from elsewhere, and a Content-Security-Policy that holds it to
that. Whoever serves the page decides what it does with what is typed: ``docs/private-page.md`` says so.
"""

from __future__ import annotations

import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from helora_serve.base.convert import MANIFEST

WEB = Path(__file__).parent / "web"
PAGE = WEB / "private.html"

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
    "style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""``wasm-unsafe-eval`` allows WebAssembly to be compiled, and no script to be made of text."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FOR_EVER = "public, max-age=31536000, immutable"
_HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}


class _Files(StaticFiles):
    """Files of the package, with the policy, which workers are held to by their own file's."""

    def file_response(self, *args: object, **options: object) -> Response:
        response = super().file_response(*args, **options)  # type: ignore[arg-type]
        response.headers.update(_HEADERS)
        return response


def page_routes(base: Path) -> list[BaseRoute]:
    """What serves the page at ``/``.

    Args:
        base: A base model, as ``helora_serve.base.convert`` writes it.
    """

    async def page(request: Request) -> Response:
        return FileResponse(PAGE, media_type="text/html", headers=_HEADERS)

    async def manifest(request: Request) -> Response:
        return FileResponse(base / MANIFEST, media_type="application/json", headers=_HEADERS)

    async def piece(request: Request) -> Response:
        name = request.path_params["name"]
        if not _DIGEST.fullmatch(name) or not (base / name).is_file():
            return Response("no such piece\n", 404, media_type="text/plain")
        return FileResponse(
            base / name, media_type="application/octet-stream", headers={**_HEADERS, "cache-control": _FOR_EVER}
        )

    return [
        Route("/", page, methods=["GET"]),
        Route(f"/base/{MANIFEST}", manifest, methods=["GET"]),
        Route("/base/{name}", piece, methods=["GET"]),
        Mount("/web", _Files(directory=WEB)),
    ]
