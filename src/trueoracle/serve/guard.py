"""What every request passes before any page: it is short, only reads, names this server, and knows the token.

A page of a stranger, open in the same browser, can send requests here. It cannot read the answers; by making its own
name point to this machine it could (DNS rebinding), but then the `Host` header bears that name, and is refused.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LONGEST = 4096  # bytes of a path and of a query
_LONGEST_HEAD = 16_384
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may read: those who ask for one of `hosts` (names without a port), and give the `token` where there is one."""

    hosts: frozenset[str]
    token: str | None = None


class Guard:
    """Lets pass what `access` allows, and says of every answer what a browser may do with it."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = _too_much(scope) or self._stranger(scope)
        await (answer or self._app)(scope, receive, guarded)

    def _stranger(self, scope: Scope) -> Response | None:
        """The refusal, or None for one who may read."""
        headers, token = Headers(scope=scope), self._access.token
        host = headers.get("host", "")
        if _without_port(host) not in self._access.hosts:
            return _refusal(421, f"this server is not called `{host[:100]}`: name it with --name where it is")
        if token is None:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        cookie = f"trueoracle-{(scope.get('server') or ('', 0))[1]}"
        for name, given in query:
            if name == "token" and _same(given, token):
                return _without_token(scope, query, cookie, token)
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if _same(_cookie(headers, cookie), token) or (scheme.lower() == "bearer" and _same(bearer, token)):
            return None
        return _refusal(401, "a token is needed: open the address that `trueoracle serve` printed")


def _too_much(scope: Scope) -> Response | None:
    headers = Headers(scope=scope)
    if scope["method"] not in ("GET", "HEAD"):
        return _refusal(405, "this server only reads: GET or HEAD", {"Allow": "GET, HEAD"})
    if max(len(scope["query_string"]), len(scope.get("raw_path") or b"")) > _LONGEST:
        return _refusal(414, f"an address may have {_LONGEST} bytes")
    if sum(len(name) + len(value) for name, value in headers.raw) > _LONGEST_HEAD:
        return _refusal(431, f"the head of a request may have {_LONGEST_HEAD:,} bytes")
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        return _refusal(413, "a request has no body here")
    return None


def _refusal(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(sentence + "\n", status, {**(headers or {}), "Connection": "close"})


def _without_port(host: str) -> str:
    """The name or number of a `Host` header: `[::1]:8000` is `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().removesuffix(".")


def _cookie(headers: Headers, name: str) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""


def _same(given: str, token: str) -> bool:
    """In a time that tells nothing of where they differ."""
    return hmac.compare_digest(given.encode(), token.encode())


def _without_token(scope: Scope, query: list[tuple[str, str]], cookie: str, token: str) -> Response:
    """The same address without the token, which goes into a cookie: it shall not stand in histories."""
    rest = urlencode([(name, value) for name, value in query if name != "token"])
    path = "/" + scope["path"].lstrip("/")  # two slashes would begin the address of another server
    answer = RedirectResponse(path + ("?" + rest if rest else ""), 303)
    answer.set_cookie(cookie, token, httponly=True, samesite="strict")
    return answer
