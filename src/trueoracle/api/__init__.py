"""trueoracle from Python: the words of the command line, as functions and one class."""

from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.api.claims import machines, plan_claim
    from trueoracle.api.criteria import criteria_agreement, unit_scores
    from trueoracle.api.diffusion import Ratios, check_picture_path, draw_grid, pictures, ratios, write_grid
    from trueoracle.api.environment import default_data_dir, doctor, find_device, threads_or_all
    from trueoracle.api.networks import ask_oracle, pruned_losses, search_masks, sites
    from trueoracle.api.relabelled import RelabelledLosses
    from trueoracle.api.selection import Selection, check_new_folder, select
    from trueoracle.api.study import Study, leaderboard, studies
    from trueoracle.api.tables import (
        ANALYSIS_ENDINGS,
        BOARD_ENDINGS,
        check_table_path,
        write_analyses,
        write_board,
        write_parts,
        write_table,
    )
    from trueoracle.api.truth import open_table, restore_study, score_file, verify_study, write_truth
    from trueoracle.api.workers import end_with_parent, work

__all__ = [
    "ANALYSIS_ENDINGS",
    "BOARD_ENDINGS",
    "Ratios",
    "RelabelledLosses",
    "Selection",
    "Study",
    "ask_oracle",
    "check_new_folder",
    "check_picture_path",
    "check_table_path",
    "criteria_agreement",
    "default_data_dir",
    "doctor",
    "draw_grid",
    "end_with_parent",
    "find_device",
    "leaderboard",
    "machines",
    "open_table",
    "pictures",
    "plan_claim",
    "pruned_losses",
    "ratios",
    "restore_study",
    "score_file",
    "search_masks",
    "select",
    "sites",
    "studies",
    "threads_or_all",
    "unit_scores",
    "verify_study",
    "work",
    "write_analyses",
    "write_board",
    "write_grid",
    "write_parts",
    "write_table",
    "write_truth",
]

on_demand(__name__)
