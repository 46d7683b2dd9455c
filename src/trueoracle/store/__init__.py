"""The store: studies, their base networks, cells, masks, trials and curves, in one database. No torch."""

from trueoracle.store.records import Answers, BaseRecord, CellRecord, MaskRecord, RunRecord, Status, StudyRecord
from trueoracle.store.sql import DEFAULT_URL, TRIAL_COLUMNS, Store, store_exists

__all__ = [
    "DEFAULT_URL",
    "TRIAL_COLUMNS",
    "Answers",
    "BaseRecord",
    "CellRecord",
    "MaskRecord",
    "RunRecord",
    "Status",
    "Store",
    "StudyRecord",
    "store_exists",
]
