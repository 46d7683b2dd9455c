"""Landscape files of the oracle that the server was told to show, read when they are first looked at, and when they change."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from markupsafe import Markup

from trueoracle.report.landscape_picture import landscape_pictures
from trueoracle.store.landscape import Landscape, check_landscape, read_landscape
from trueoracle.words.errors import TableError


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A landscape and its pictures."""

    name: str
    landscape: Landscape
    histogram: Markup
    joint: Markup


class Landscapes:
    """The files by number, in the order in which they were named: an address cannot name any other."""

    def __init__(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if not path.is_file():
                raise TableError(f"there is no landscape `{path}`: `trueoracle oracle -o` writes one")
            check_landscape(path)
        self.names = [path.name for path in paths]
        self._paths = list(paths)
        self._known: dict[int, tuple[tuple[int, int], Shown]] = {}
        self._lock = Lock()

    def shown(self, number: int) -> Shown:
        """One of them; who asks for it while it is read waits."""
        path = self._paths[number]
        with self._lock:
            try:
                facts = path.stat()
            except OSError as error:
                raise TableError(f"the landscape `{path.name}` cannot be read: {error.strerror}") from None
            now = (facts.st_mtime_ns, facts.st_size)
            if number not in self._known or self._known[number][0] != now:
                found = read_landscape(path)
                histogram, joint = landscape_pictures(path.name, found)
                self._known[number] = now, Shown(name=path.name, landscape=found, histogram=histogram, joint=joint)
            return self._known[number][1]
