"""The private page and the split page: files of this package, and base models that browsers load from here.

A page gets everything from this server and nothing from elsewhere, and a Content-Security-Policy that holds it to that.
Whoever serves a page decides what it does with what is typed: ``docs/private-page.md`` says so.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from helora_serve.base.convert import MANIFEST

WEB = Path(__file__).parent / "web"
PRIVATE, SPLIT = "private.html", "split.html"

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


def page_routes(whole: Path | None = None, ends: Path | None = None) -> list[BaseRoute]:
    """What serves the private page at ``/`` and the split page at ``/split``. Each says so if it has no model here.

    Args:
        whole: A base model, as ``helora_serve.base.convert`` writes it, for the private page.
        ends: The embedding and the head of one, for the split page.
    """

    async def start(request: Request) -> Response:
        return RedirectResponse("split", headers=_HEADERS)

    return [
        Route("/", start if ends and not whole else _file(WEB / PRIVATE, "text/html"), methods=["GET"]),
        Route("/private", _file(WEB / PRIVATE, "text/html"), methods=["GET"]),
        Route("/split", _file(WEB / SPLIT, "text/html"), methods=["GET"]),
        *(_base("/base", whole) if whole else ()),
        *(_base("/ends", ends) if ends else ()),
        Mount("/web", _Files(directory=WEB)),
    ]


def _base(at: str, folder: Path) -> list[BaseRoute]:
    """The files of a base model. Any other name is one that is not there."""

    async def piece(request: Request) -> Response:
        name = request.path_params["name"]
        if not _DIGEST.fullmatch(name) or not (folder / name).is_file():
            return Response("no such piece\n", 404, media_type="text/plain")
        return FileResponse(
            folder / name, media_type="application/octet-stream", headers={**_HEADERS, "cache-control": _FOR_EVER}
        )

    manifest = _file(folder / MANIFEST, "application/json")
    return [Route(f"{at}/{MANIFEST}", manifest, methods=["GET"]), Route(f"{at}/{{name}}", piece, methods=["GET"])]


def _file(path: Path, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    """Answers with a file, and the policy."""

    async def answer(request: Request) -> Response:
        return FileResponse(path, media_type=media_type, headers=_HEADERS)

    return answer
