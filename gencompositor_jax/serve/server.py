"""Running the application by uvicorn: one process, HTTP/1.1, with timeouts for clients that don't go on."""

import asyncio
import signal
import socket
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from gencompositor_jax.errors import InputError
from gencompositor_jax.jobs.service import Service

HEADERS_S = 20.0  # for the headers of a request
CONNECTIONS = 500  # below the usual limit of 1024 open files
GRACE_S = 5  # for responses when the process ends


class TimedProtocol(H11Protocol):
    """Closes a connection on which no request has become complete in time."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Starts the time for the first request's headers."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Stops the time while a request is answered; its body has a time of its own."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the time."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEADERS_S, self.transport.close)


class _Server(uvicorn.Server):
    """Ends the event streams, which would keep the server from ending."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.events.close()
        await super().shutdown(sockets)


def server(app: FastAPI, service: Service, requests: bool = True) -> uvicorn.Server:
    """A server for the application; run it with the socket of `listen`. requests: whether each is logged."""
    return _Server(
        uvicorn.Config(
            app,
            http=TimedProtocol,
            ws="none",
            lifespan="on",
            log_level="info",
            access_log=requests,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GRACE_S,
        ),
        service,
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises InputError where the address can't be used."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--host {host} --port {port}: {reason}; pass another address") from error


def run(app: FastAPI, service: Service, listening: socket.socket, requests: bool = True) -> None:
    """Serves until SIGTERM or SIGINT; then lets responses and steps end, and returns.

    requests: whether each is logged.
    """
    # uvicorn raises the signal again once it has ended; for SIGTERM that would end the process unasked.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server(app, service, requests).run(sockets=[listening])
