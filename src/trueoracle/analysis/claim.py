"""What a study may be planned to show; apart from the planning, so that a command line can name it at once."""

from enum import Enum


class Claim(Enum):
    """What the study is to show."""

    RELATION = "relation"
    EQUIVALENCE = "equivalence"
