"""The public table of measured truth: looked up, verified, restored into a store, and used to score predictors."""

from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.truth.building import build
    from trueoracle.truth.columns import FILES
    from trueoracle.truth.reading import TruthTable, table
    from trueoracle.truth.restoring import restore
    from trueoracle.truth.scoring import score
    from trueoracle.truth.verifying import Remade, verify

__all__ = ["FILES", "Remade", "TruthTable", "build", "restore", "score", "table", "verify"]

on_demand(__name__)
