"""What a room exports, imported when it is first asked for: a command starts at once, and needs no more than it uses."""

import ast
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


def on_demand(room: str) -> None:
    """Let the package `room` import each name of its `__all__` on first use, from where `if TYPE_CHECKING` says it is.

    The imports stand there once, for readers, type checkers and this alike.
    """
    sys.modules[room].__class__ = _Room


class _Room(ModuleType):
    """A package whose exported names are imported when first used."""

    __all__: list[str]

    def __getattr__(self, name: str) -> Any:
        home = _homes(self.__file__ or "").get(name)
        if home is None:
            raise AttributeError(f"module `{self.__name__}` has no attribute `{name}`")
        found = getattr(import_module(home), name)
        vars(self)[name] = found
        return found

    def __setattr__(self, name: str, value: object) -> None:
        """Set it, but for a module that is called as what it exports: `study.plan` is the function, not its module."""
        if not (isinstance(value, ModuleType) and name in self.__all__):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__all__})


@cache
def _homes(file: str) -> dict[str, str]:
    """Name -> module, of the imports that stand in the file under `if TYPE_CHECKING`."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: node.module for node in imports if node.module for alias in node.names}
