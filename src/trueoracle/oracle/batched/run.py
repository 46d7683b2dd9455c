"""One image block on its way through the plan: values of operations, recomputed where their rows have changed.

Letters: M masks, B images, R rows, K classes.
"""

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from trueoracle.oracle.batched.graph import Traced
from trueoracle.oracle.batched.layers import Summing
from trueoracle.oracle.batched.plan import Bound, Coupling, Level, Plan, Step
from trueoracle.oracle.batched.rows import Chunk, KeptUnits, Rows
from trueoracle.oracle.batched.rules import BINARY


class Run:
    """Call it with chunk after chunk. A level whose rows are those of the chunk before is not computed again."""

    def __init__(
        self,
        traced: Traced,
        plan: Plan,
        sites: tuple[Coupling, ...],
        kept_units: tuple[KeptUnits, ...],
        worthwhile: int,
        images_BCHW: Tensor,
    ) -> None:
        self._traced, self._plan, self._sites = traced, plan, sites
        self._kept_units, self._worthwhile = kept_units, worthwhile
        self._input = images_BCHW.contiguous(memory_format=torch.channels_last)
        self._images = len(images_BCHW)
        self._values: dict[fx.Node, Any] = {}
        self._parts: dict[fx.Node, Tensor] = {}
        self._codes: dict[Bound, np.ndarray] = {}
        self._rows: dict[Bound, Rows] = {}
        self._chunk: Chunk

    def __call__(self, chunk: Chunk) -> Tensor:
        """(M, B, K): the logits of the chunk's masks."""
        self._chunk = chunk
        self._rows = {level.bound: chunk.rows(level.bound) for level in self._plan.levels}
        for level in self._plan.levels:
            codes = self._rows[level.bound].codes_R
            if not np.array_equal(codes, self._codes.get(level.bound, np.empty(0))):
                self._run(level)
                self._codes[level.bound] = codes
        logits: Tensor = self._by_row(self._values[self._plan.output])
        rows = self._rows[self._plan.steps[self._plan.output].bound]
        return logits if _is_identity(rows.row_M) else logits[self._indices(rows.row_M)]

    def _run(self, level: Level) -> None:
        for step in level.steps:
            self._values.pop(step.node, None)
            for user in step.node.users:
                self._parts.pop(user, None)
        for step, done_with in zip(level.steps, level.done_with, strict=True):
            self._values[step.node] = self._result(step)
            for node in done_with:
                del self._values[node]

    def _result(self, step: Step) -> Any:
        node = step.node
        if node.op == "placeholder":
            return self._input
        if step.moves is not None:
            return self._moved(step, step.moves)
        if step.sums is not None:
            return self._summed(step, step.sums)
        if step.into is not None:
            return self._written_over(step, step.into)
        if node.target in BINARY and any(self._is_foreign(part, step.bound) for part in node.all_input_nodes):
            return node.target(*(self._unfolded(arg, step.bound) for arg in node.args)).flatten(0, 1)
        args = map_arg(node.args, lambda part: self._value(part, step.bound))
        kwargs = map_arg(node.kwargs, lambda part: self._value(part, step.bound))
        return self._call(node, args, kwargs)

    def _written_over(self, step: Step, into: fx.Node) -> Tensor:
        value: Tensor = self._values[into]
        if step.node.target is not operator.add:
            return value.relu_()
        other = next((arg for arg in step.node.args if arg is not into), into)
        self._by_row(value).add_(self._unfolded(other, step.bound))
        return value

    def _call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        if node.op == "call_module":
            return self._traced.module.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "get_attr":
            owner, _, name = str(node.target).rpartition(".")
            return getattr(self._traced.module.get_submodule(owner), name)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def _moved(self, step: Step, site: int) -> Tensor:
        """A producer's result with a mask's units in the places of the L1 mask's; other places hold nothing of use."""
        rows, l1 = self._rows[step.bound], self._sites[site].l1_kept
        assert l1 is not None
        if step.sums is not None:
            result, prefix_R = self._summed(step, step.sums), np.arange(len(rows))
        else:
            (source,) = step.node.all_input_nodes
            result = self._call(step.node, (self._values[source],), {})
            prefix_R = self._rows[self._plan.steps[source].bound].row_M[rows.first_R]
        kept_RU = self._kept_units[site](self._chunk.digits[site][rows.first_R])
        from_RU = np.zeros(kept_RU.shape, dtype=np.int64)
        from_RU[:, l1] = kept_RU.nonzero()[1].reshape(len(rows), -1)
        moved_RUB = self._by_row(result).transpose(1, 2)[self._indices(prefix_R)[:, None], self._indices(from_RU)]
        return moved_RUB.transpose(1, 2).flatten(0, 1)

    def _summed(self, step: Step, site: int) -> Tensor:
        node = step.node
        source = node.all_input_nodes[0]
        layer = self._traced.called(node)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        summing = Summing(layer=layer, units=self._sites[site].units)
        rows, before = self._rows[step.bound], self._plan.steps[source].bound
        prefix_R = self._rows[before].row_M[rows.first_R]
        x = self._values[source]
        kept_RU = self._summed_units(site, rows).to(x)
        pays = len(rows) >= self._worthwhile * len(self._rows[before]) and site not in before
        if not pays or np.any(np.diff(prefix_R) < 0):
            return summing.masked(x, self._indices(prefix_R), kept_RU, self._images)
        if node not in self._parts:
            self._parts[node] = summing.parts(x, self._images)
        starts = np.searchsorted(prefix_R, np.arange(len(self._rows[before]) + 1))
        return summing.summed(self._parts[node], starts.tolist(), kept_RU)

    def _summed_units(self, site: int, rows: Rows) -> Tensor:
        """(R, U): one where a row's mask has the layer sum over that place, else zero."""
        l1 = self._sites[site].l1_kept
        if l1 is None:
            return torch.from_numpy(self._kept_units[site](self._chunk.digits[site][rows.first_R]))
        places = torch.zeros(len(rows), self._sites[site].units)
        places[:, list(l1)] = 1
        return places

    def _is_foreign(self, node: fx.Node, bound: Bound) -> bool:
        return node in self._traced.row_shapes and self._plan.steps[node].bound != bound

    def _value(self, node: fx.Node, bound: Bound) -> Any:
        """A value with a row for each mask of `bound`, folded into the batch."""
        if not self._is_foreign(node, bound):
            return self._values[node]
        value = self._unfolded(node, bound)
        return value.expand(len(self._rows[bound]), *value.shape[1:]).flatten(0, 1)

    def _unfolded(self, node: Any, bound: Bound) -> Any:
        """A value as (R or 1, B, ...), the rows those of `bound`; what is no tensor of images, as it is."""
        if not isinstance(node, fx.Node) or node not in self._traced.row_shapes:
            return self._values[node] if isinstance(node, fx.Node) else node
        value = self._by_row(self._values[node])
        own = self._plan.steps[node].bound
        if own == bound or len(value) == 1:
            return value
        return value[self._indices(self._rows[own].row_M[self._rows[bound].first_R])]

    def _by_row(self, value: Tensor) -> Tensor:
        return value.view(-1, self._images, *value.shape[1:])

    def _indices(self, places: np.ndarray) -> Tensor:
        return torch.from_numpy(places).to(self._input.device)


def _is_identity(row_M: np.ndarray) -> bool:
    return bool(np.array_equal(row_M, np.arange(len(row_M))))
