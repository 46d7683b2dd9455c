"""Choosing a mask and taking its network home: exports that load anywhere, checked by their outputs."""

from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.selection.bundle import Figure, Origin, Pruning
    from trueoracle.selection.export import Check, Exported, Subject, export
    from trueoracle.selection.formats import FORMATS
    from trueoracle.selection.latency import Latency
    from trueoracle.selection.loading import load
    from trueoracle.selection.stored import best_mask, stored_subject

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
