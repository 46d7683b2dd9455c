"""What a criterion or predictor says where it has nothing to say."""

from trueoracle.words.errors import ModelError


class CannotJudge(ModelError):
    """A predictor or criterion has nothing to say of this network, site or task; the message says why."""
