"""Many masks at a time, for any network that `torch.fx` can trace: what masks share is computed once."""

from trueoracle.oracle.batched.evaluator import Batched, batched
from trueoracle.oracle.batched.refusal import CannotBatch

__all__ = ["Batched", "CannotBatch", "batched"]
