"""The page at `/`: the files of `octavo/server/web`, and no others.

Covers: which paths there are, headers that keep the page to itself, caching by the browser. Does not cover: what the
page does.
"""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

WEB = Path(__file__).resolve().parent / "web"
INDEX = "index.html"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # asked again each time, answered 304 by the file's tag: never an old page
}
SANDBOX = "sandbox.html"
# Where programs that the model wrote run: an origin of its own, no network. The page's own <meta> policy narrows the
# inline script to one hash; `unsafe-eval` and blob: are what running a program in a Worker needs.
SANDBOX_HEADERS = HEADERS | {
    "content-security-policy": (
        "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; worker-src blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "x-frame-options": "SAMEORIGIN",
}
_SUFFIXES = {".html", ".css", ".js", ".mjs", ".svg", ".png", ".ico", ".woff2", ".json", ".webmanifest"}


def page_routes(folder: Path = WEB) -> list[Route]:
    """A route for each file of `folder`, found once: what comes later, links and other kinds of files are not served.
    index.html is `/` as well."""
    if not folder.is_dir():
        return []
    files = StaticFiles(directory=folder)
    routes = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.suffix in _SUFFIXES:
            name = path.relative_to(folder).as_posix()
            routes += [_route(files, name, address) for address in (["/"] if name == INDEX else []) + [f"/{name}"]]
    return routes


def _route(files: StaticFiles, name: str, address: str) -> Route:
    async def serve(request: Request) -> Response:
        response = await files.get_response(name, request.scope)
        response.headers.update(SANDBOX_HEADERS if name == SANDBOX else HEADERS)
        return response

    return Route(address, serve, methods=["GET"], include_in_schema=False)
