"""News of the store, sent to pages that are open: server-sent events, each no more than that something is new.

A page then asks for itself again. So nothing can be missed: after a lost connection the first event says what is true now.
"""

from collections.abc import AsyncIterator, Callable
from time import monotonic

import anyio
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

_EVERY = 1.0  # seconds between two looks at the store
_SILENCE = 15.0  # seconds after which a line is sent although nothing is new: else nobody notices a lost connection
_MOST_LISTENERS = 64


class Watch:
    """Looks at what has a stamp once a second at most, however many want to know."""

    def __init__(self, stamp: Callable[[str], str]) -> None:
        self.over = anyio.Event()  # set when the server ends: streams would keep it waiting
        self._stamp = stamp
        self._seen: dict[str, tuple[float, str]] = {}
        self._locks: dict[str, anyio.Lock] = {}
        self.listeners = 0

    async def stamp(self, of: str) -> str:
        """The stamp of a study, or of all where `of` is empty, no older than a second."""
        async with self._locks.setdefault(of, anyio.Lock()):
            at, found = self._seen.get(of, (-_EVERY, ""))
            if monotonic() - at >= _EVERY:
                found = await anyio.to_thread.run_sync(self._stamp, of)
                self._seen[of] = (monotonic(), found)
            return found


async def events(watch: Watch, of: str) -> Response:
    """The stream of a study's news, or of the whole store's where `of` is empty."""
    if watch.listeners >= _MOST_LISTENERS:
        raise HTTPException(503, f"{_MOST_LISTENERS} pages are open already: close some")
    await watch.stamp(of)  # what cannot be watched is said now

    async def stream() -> AsyncIterator[str]:
        watch.listeners += 1
        try:
            yield "retry: 2000\n\n"
            last, spoken = None, monotonic()
            while not watch.over.is_set():
                now = await watch.stamp(of)
                if now != last:
                    yield f"data: {now}\n\n"
                    last, spoken = now, monotonic()
                elif monotonic() - spoken > _SILENCE:
                    yield ": nothing new\n\n"
                    spoken = monotonic()
                with anyio.move_on_after(_EVERY):
                    await watch.over.wait()
        finally:
            watch.listeners -= 1

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
