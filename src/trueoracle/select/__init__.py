"""Choosing a mask and taking its network home: exports that load anywhere, checked by their outputs."""

from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.select.bundle import Figure, Origin, Pruning
    from trueoracle.select.export import Check, Exported, Subject, export
    from trueoracle.select.formats import FORMATS
    from trueoracle.select.latency import Latency
    from trueoracle.select.loading import load
    from trueoracle.select.stored import best_mask, stored_subject

__all__ = [
    "FORMATS",
    "Check",
    "Exported",
    "Figure",
    "Latency",
    "Origin",
    "Pruning",
    "Subject",
    "best_mask",
    "export",
    "load",
    "stored_subject",
]

on_demand(__name__)
