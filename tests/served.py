"""A server of a store for the time of a test, and requests to it byte by byte."""

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from trueoracle.serve import listen


@contextmanager
def serving(url: str, **options: Any) -> Iterator[str]:
    """The address of a running server of the store at `url`."""
    listening = listen(url, **{"port": 0, **options})
    thread = Thread(target=listening.run)
    thread.start()
    try:
        yield listening.address
    finally:
        listening.server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def ask(
    address: str,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
) -> tuple[int, Mapping[str, str], str]:
    """Status, headers and text of one answer; no redirect is followed."""
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()
