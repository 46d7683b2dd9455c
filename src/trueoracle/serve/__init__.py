"""A store in a browser, while a study runs and after: pages made here, live, for reading alone. No torch."""

from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.serve.application import application
    from trueoracle.serve.server import Listening, listen

__all__ = ["Listening", "application", "listen"]

on_demand(__name__)
