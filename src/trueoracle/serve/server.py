"""The server: where it listens, whom it lets in, how long a connection may dawdle."""

import asyncio
import contextlib
import ipaddress
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from trueoracle.serve.application import application
from trueoracle.serve.guard import Access
from trueoracle.serve.live import Watch
from trueoracle.words.errors import StoreError

LOOPBACK = "127.0.0.1"
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_SHORTEST_TOKEN = 16
PATIENCE = 10.0  # seconds until a connection must have sent a whole request
_CONNECTIONS = 128


@dataclass(frozen=True, kw_only=True)
class Listening:
    """A server that has its place, not yet running; `address` is what to open."""

    server: uvicorn.Server
    place: socket.socket
    address: str

    def run(self) -> None:
        """Answer until interrupted."""
        self.server.run(sockets=[self.place])


def listen(
    url: str,
    *,
    host: str = LOOPBACK,
    port: int = 8765,
    token: str | None = None,
    names: Sequence[str] = (),
    landscapes: Sequence[Path] = (),
) -> Listening:
    """A server of the store at `url` and of files of `landscapes`; port 0 is any that is free.

    Beyond this machine (`host` is no loopback address) everyone who asks must give the `token`; one is made up where none is
    given. Requests must call the server by `host` or one of `names`. `StoreError` where it cannot listen or read.
    """
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    if token is not None and len(token) < _SHORTEST_TOKEN:
        raise StoreError(f"a token must have at least {_SHORTEST_TOKEN} characters, but got {len(token)}")
    hosts = frozenset({*_LOCAL_NAMES, host.lower(), *(name.lower() for name in names), *_own_names(host)})
    place = _bound(host, port)
    try:
        app = application(url, Access(hosts=hosts, token=token), landscapes)
    except BaseException:
        place.close()
        raise
    config = uvicorn.Config(
        app.answer, http=_Impatient, ws="none", log_level="warning", access_log=False, server_header=False,
        limit_concurrency=_CONNECTIONS, timeout_keep_alive=10, timeout_graceful_shutdown=3, h11_max_incomplete_event_size=16_384,
    )  # fmt: skip
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{place.getsockname()[1]}/" + (f"?token={quote(token)}" if token else "")
    return Listening(server=_Server(config, app.watch), place=place, address=address)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _own_names(host: str) -> set[str]:
    """What this machine is called, for one that listens at all its addresses."""
    if host not in ("0.0.0.0", "::"):
        return set()
    name = socket.gethostname().lower()
    found = {name, socket.getfqdn().lower()}
    with contextlib.suppress(OSError):
        found |= {str(entry[4][0]) for entry in socket.getaddrinfo(name, None)}
    return found


def _bound(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise StoreError(f"`port` must lie in [0, 65535], but got {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_CONNECTIONS)
    except OSError as error:
        raise StoreError(f"cannot listen at {host}, port {port}: {error.strerror or error}") from None


class _Server(uvicorn.Server):
    """Ends the streams of news before it waits for its connections to end."""

    def __init__(self, config: uvicorn.Config, watch: Watch) -> None:
        super().__init__(config)
        self._watch = watch

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._watch.over.set()
        await super().shutdown(sockets)


class _Impatient(H11Protocol):
    """Closes a connection that has not sent its first whole request in time: half a request costs a place."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._late = self.loop.call_later(PATIENCE, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._late.cancel()
        super().connection_lost(exc)

    def _close_if_idle(self) -> None:
        if self.cycle is None:
            self.transport.close()
