"""What the command line prints."""

from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.cli.show.analyses import analyses, needs, pooled
    from trueoracle.cli.show.boards import leaderboard
    from trueoracle.cli.show.exports import exported
    from trueoracle.cli.show.lines import facts, problem, say
    from trueoracle.cli.show.networks import judged_units, landscape, sites
    from trueoracle.cli.show.selections import selected
    from trueoracle.cli.show.studies import status, studies, study, workers
    from trueoracle.cli.show.truth import table_list, table_study, verified

__all__ = [
    "analyses",
    "exported",
    "facts",
    "judged_units",
    "landscape",
    "leaderboard",
    "needs",
    "pooled",
    "problem",
    "say",
    "selected",
    "sites",
    "status",
    "studies",
    "study",
    "table_list",
    "table_study",
    "verified",
    "workers",
]

on_demand(__name__)
