"""Who may talk to the service: clients with the token; without one, programs of this machine."""

import hmac
import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

_bearer = HTTPBearer(auto_error=False, description="The service's token, if it has one.")


def authorised(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """Raises 401 unless the request has the service's token, if the service has one."""
    token: str | None = request.app.state.token
    if token is None:
        return
    if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
        raise HTTPException(
            401,
            "the header Authorization: Bearer TOKEN is missing or has another token",
            {"WWW-Authenticate": "Bearer"},
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host name or address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class LocalOnly:
    """Refuses what a page of another site makes a browser on this machine send: for services without a token.

    Such requests have the page's `Origin`; if its name was made to point to 127.0.0.1 (DNS rebinding), they
    have its `Host`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on requests that come from and go to loopback names."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if not is_loopback(_name("//" + headers.get("host", ""))):
                refused = "Host: not of this machine; use localhost, or give the service a token"
            elif origin is not None and not is_loopback(_name(origin)):
                refused = "Origin: not of this machine; give the service a token"
            else:
                refused = None
            if refused is not None:
                await JSONResponse({"detail": refused}, 403)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _name(url: str) -> str:
    """The host in a URL, without its port; empty if there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
