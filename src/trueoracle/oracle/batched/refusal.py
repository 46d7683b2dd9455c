"""Why a network's masks cannot be evaluated many at a time."""

from trueoracle.words.errors import ModelError


class CannotBatch(ModelError):
    """The network, or where its sites lie, does not allow it; the message is the reason, as part of a sentence."""
