"""Who may use the studio: pages that it served itself, and with a token those who have it."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "gencompositor_studio"
_FOREIGN = ("cross-site", "same-site")  # of the header Sec-Fetch-Site
# Only files of the studio run, are shown or asked for; pictures may come from the page itself.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class SameOrigin:
    """Refuses what pages of other sites, also of this machine, make a browser send to the studio's routes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on requests of the studio's own page, and of programs."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin, site = headers.get("origin"), headers.get("sec-fetch-site")
            foreign = origin is not None and _address(origin) != headers.get("host", "").lower()
            foreign |= site in _FOREIGN and scope["path"].startswith(("/app/", "/v1/"))
            if foreign:
                refused = {"detail": "Origin: another page's; open the studio itself"}
                await JSONResponse(refused, 403)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class TokenCookie:
    """Takes the token from a cookie where a browser can send no header: pictures, videos, event streams."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, with the header that the routes ask for."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            token = cookie_parser(headers.get("cookie", "")).get(COOKIE)
            if token is not None and token.isascii() and "authorization" not in headers:
                added = (b"authorization", f"Bearer {token}".encode())
                scope = {**scope, "headers": [*scope["headers"], added]}
        await self.app(scope, receive, send)


class SecurityHeaders:
    """Adds the headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, sent if scope["type"] == "http" else send)


def _address(origin: str) -> str:
    """Host and port of an origin; empty if it has none, as `null`."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
