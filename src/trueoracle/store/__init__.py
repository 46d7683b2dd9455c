"""The store: studies, their base networks, cells, masks, trials and curves, in one database. No torch."""

from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.store.claims import LEASE_SECONDS, Claim, InFlight, Piece
    from trueoracle.store.export import write_answers
    from trueoracle.store.opening import store_exists
    from trueoracle.store.records import (
        Answers,
        BaseRecord,
        CellRecord,
        MaskRecord,
        RunRecord,
        Status,
        StudyRecord,
        Tally,
    )
    from trueoracle.store.sql import Store
    from trueoracle.store.tables import SEARCHED, TRIAL_COLUMNS, WEIGHT
    from trueoracle.store.url import DEFAULT_URL, shown_url

__all__ = [
    "DEFAULT_URL",
    "LEASE_SECONDS",
    "SEARCHED",
    "TRIAL_COLUMNS",
    "WEIGHT",
    "Answers",
    "BaseRecord",
    "CellRecord",
    "Claim",
    "InFlight",
    "MaskRecord",
    "Piece",
    "RunRecord",
    "Status",
    "Store",
    "StudyRecord",
    "Tally",
    "shown_url",
    "store_exists",
    "write_answers",
]

on_demand(__name__)
