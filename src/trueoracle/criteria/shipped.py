"""What Torch-Pruning's own importance says, as shipped: to hold beside what the criteria's sources say.

Every number is what the library's class, as it is made without arguments (`tp:l1`: of p = 1), says of its own dependency group,
on a copy of the network; where a class looks at data it is given them as its documentation does. A site is judged where the
library's group takes of every layer what goes with the site's units, and refused with the first layer where it does not. In every
table these rows begin with `tp:`. What they differ in from the criteria of the same name: docs/criteria.md.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion
from trueoracle.criteria.refusal import CannotJudge
from trueoracle.criteria.whole import Whole
from trueoracle.nets import Role, Site
from trueoracle.nets.copying import twin
from trueoracle.words.errors import ModelError
from trueoracle.words.scores import SHIPPED, SHIPPED_CRITERIA

BATCH = 32
"""So many examples are in a minibatch of those that it looks at one after another."""

Taken = set[tuple[str, str, int]]
"""What goes of a network: channels of the outputs or the inputs of a layer."""


def shipped_criteria(names: Sequence[str] | None) -> dict[str, UnitCriterion]:
    """All of them where one of `names` is one, else none: they are never asked for by asking for all.

    `ModelError` where Torch-Pruning is not installed.
    """
    if not any(name.startswith(SHIPPED) for name in names or ()):
        return {}
    try:
        _library()
    except ImportError:
        raise ModelError(
            f"`{SHIPPED}` criteria are Torch-Pruning's own, which is not installed: pip install torch-pruning"
        ) from None
    return {
        name: UnitCriterion(importance=partial(_importance, name), needs=Needs.EXAMPLES) for name in SHIPPED_CRITERIA
    }


@dataclass(frozen=True, kw_only=True)
class _Traced:
    """A copy of the network with the library's dependency graph of it; `names` of its modules and parameters by identity."""

    net: nn.Module
    graph: Any
    names: Mapping[int, str]


@dataclass(frozen=True, kw_only=True)
class _Scorer:
    """One of the library's importances, with the copy whose groups it is to be given."""

    traced: _Traced
    score: Callable[[Any], Tensor | None]


def _importance(name: str, of: Collected) -> Tensor:
    """In the library's unit, as a rule relative to the site's mean."""
    scorer = of.whole.once(_SCORERS[name])
    group, channels_UC = _group(scorer.traced, of.site)
    with _theirs("cannot score"):
        said = scorer.score(group)
    if said is None:
        raise CannotJudge(f"Torch-Pruning's class finds nothing to look at in its group of `{of.site.name}`")
    if len(said) != channels_UC.numel():
        raise CannotJudge(
            f"Torch-Pruning's class is confused: it says {len(said)} numbers of the {channels_UC.numel()} channels of `{of.site.name}`"
        )
    return said.detach().double().cpu()[channels_UC].sum(1)


def _group(traced: _Traced, site: Site) -> tuple[Any, Tensor]:
    """The library's group of all units of a site, and which of its channels are each unit's."""
    root = next((cut for cut in site.cuts if cut.layer == site.name and cut.role is Role.PRODUCER), None)
    layer = dict(traced.net.named_modules()).get(site.name)
    if root is None or layer not in traced.graph.module2node:
        raise CannotJudge(f"Torch-Pruning has no group of `{site.name}`, whose units are no layer's outputs to it")
    with _theirs("has no group"):
        pruner = traced.graph.get_pruner_of_module(layer)
        channels = int(pruner.get_out_channels(layer))
        group = traced.graph.get_pruning_group(layer, pruner.prune_out_channels, list(range(channels)))
        taken = _taken(traced, group)
    for unit, channels_C in enumerate(root.channels_UC):
        ours = {
            (cut.layer, "inputs" if cut.role is Role.CONSUMER else "outputs", int(channel))
            for cut in site.cuts
            for channel in cut.channels_UC[unit]
        }
        theirs: Taken = set().union(*(taken.get(int(channel), set()) for channel in channels_C))
        if ours != theirs:
            cut_by, side, channel = min(ours ^ theirs)
            does = "does not take" if (cut_by, side, channel) in ours else "takes"
            raise CannotJudge(
                f"Torch-Pruning's group is another: with unit {unit} of `{site.name}` it {does} channel {channel} of "
                f"the {side} of `{cut_by}`"
            )
    return group, torch.from_numpy(root.channels_UC)


def _taken(traced: _Traced, group: Any) -> dict[int, Taken]:
    """What goes with each of the group's channels."""
    import torch_pruning as tp

    inputs = (tp.prune_conv_in_channels, tp.prune_linear_in_channels)
    taken: dict[int, Taken] = {}
    for item in group:
        dep, channels = item.dep, item.idxs
        name = traced.names.get(id(dep.target.module))
        if name is not None:  # else an operation, which has no channels of its own
            side = "inputs" if dep.handler in inputs else "outputs"
            for channel, root in zip(channels, item.root_idxs, strict=True):
                taken.setdefault(root, set()).add((name, side, int(channel)))
    return taken


@contextmanager
def _theirs(what: str) -> Iterator[None]:
    """Whatever the library raises there is a refusal that says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever it raises
            said = str(error).splitlines() or [""]
            raise CannotJudge(f"Torch-Pruning {what} here: {type(error).__name__}: {said[0]}") from None


def _library() -> Any:
    import torch_pruning

    return torch_pruning


def _traced(whole: Whole) -> _Traced:
    """See there; a copy of its own, for gradients and what the library notes are left in it."""
    net = twin(whole.net)
    for parameter in net.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    image = whole.images(1).to(next(net.parameters()).dtype)
    with torch.enable_grad(), _theirs("cannot trace the network"):
        graph = _library().DependencyGraph().build_dependency(net, example_inputs=image, verbose=False)
    parts = [*net.named_modules(), *net.named_parameters()]
    return _Traced(net=net, graph=graph, names={id(part): name for name, part in parts})


def _of_weights(class_name: str, **words: Any) -> Callable[[Whole], _Scorer]:
    def made(whole: Whole) -> _Scorer:
        return _Scorer(traced=whole.once(_traced), score=getattr(_library().importance, class_name)(**words))

    return made


def _taylor(whole: Whole) -> _Scorer:
    """Given the gradient of the mean loss, as after one `backward` on all examples."""
    traced = _traced(whole)
    traced.net.zero_grad()
    examples = whole.examples
    with torch.enable_grad(), _theirs("gets no gradients"):
        for start in range(0, len(examples), BATCH):
            batch = examples.take(slice(start, start + BATCH))
            (len(batch) / len(examples) * batch.train_loss(traced.net)).backward()  # type: ignore[no-untyped-call]
    return _Scorer(traced=traced, score=_library().importance.GroupTaylorImportance())


def _hessian(whole: Whole) -> _Scorer:
    """Given the gradient of one example's loss after another."""
    traced, score = _traced(whole), _library().importance.GroupHessianImportance()
    with torch.enable_grad(), _theirs("gets no gradients"):
        for number in range(len(whole.examples)):
            traced.net.zero_grad()
            whole.examples.take(slice(number, number + 1)).train_loss(traced.net).backward()  # type: ignore[no-untyped-call]
            score.accumulate_grad(traced.net)
    return _Scorer(traced=traced, score=score)


def _activation(whole: Whole) -> _Scorer:
    """Given one minibatch after another."""
    traced, score = _traced(whole), _library().importance.ActivationImportance()
    with torch.no_grad(), score.compute_importance(traced.net):
        for start in range(0, len(whole.examples), BATCH):
            whole.examples.take(slice(start, start + BATCH)).judge(traced.net)
    return _Scorer(traced=traced, score=score)


_SCORERS: dict[str, Callable[[Whole], _Scorer]] = {
    "tp:activation": _activation,
    "tp:bn_scale": _of_weights("BNScaleImportance"),
    "tp:fpgm": _of_weights("FPGMImportance"),
    "tp:group_norm": _of_weights("GroupMagnitudeImportance"),
    "tp:hessian": _hessian,
    "tp:l1": _of_weights("GroupMagnitudeImportance", p=1),
    "tp:lamp": _of_weights("LAMPImportance"),
    "tp:taylor": _taylor,
}
