"""The order of work: which operation depends on the masks of which sites, and which one sums over a site's units.

Sites are numbered in the order in which the forward pass comes to them. An operation's `bound` are the sites whose
masks its result depends on; it has a row for each of *their* masks, not for each mask of the space. Operations with
the same bound form a level. The empty level is the network before its first changed operation.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from trueoracle.nets import Kind, Removal, Role, Site, Sites, l1_kept
from trueoracle.nets.weight_norm import parts_of
from trueoracle.oracle.batched.graph import Traced, name_of
from trueoracle.oracle.batched.refusal import CannotBatch
from trueoracle.oracle.batched.rules import is_depthwise, keeps_apart, may_overwrite
from trueoracle.space import MaskSpace
from trueoracle.words.errors import ModelError

Bound = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """A site's units, the layers whose outputs they are, and the layers that sum over them.

    `l1_kept` is None where removal is aligned. Released, it has the units of the L1 mask: whatever follows a producer
    takes the p-th unit that a mask keeps for the p-th of these.
    """

    name: str
    units: int
    producers: frozenset[str]
    consumers: frozenset[str]
    l1_kept: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """An operation; `apart`: the site whose units its result still holds apart; `sums`: the one that it sums over.

    `moves`: the site whose kept units its result has in the places of the L1 mask's, where removal is released.
    `into` is an input that nothing else reads, over which the result may be written.
    """

    node: fx.Node
    bound: Bound
    apart: int | None = None
    sums: int | None = None
    moves: int | None = None
    into: fx.Node | None = None


@dataclass(frozen=True, kw_only=True)
class Level:
    """Operations with the same bound, in forward order.

    `done_with[i]` are results of this level that nothing reads after its operation i. `floats` is the most that
    is held at a time for one image and one row; `part_floats` what a row's unit contributions take on top.
    """

    bound: Bound
    steps: tuple[Step, ...]
    done_with: tuple[tuple[fx.Node, ...], ...]
    floats: int
    part_floats: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Levels such that each needs only those before it; `order[i]` is the place in the space of site number i."""

    levels: tuple[Level, ...]
    steps: dict[fx.Node, Step]
    order: tuple[int, ...]
    output: fx.Node


def couplings(known: Sites, space: MaskSpace, net: nn.Module, removal: Removal) -> tuple[Coupling, ...]:
    """What hangs together at each site of the space; `ModelError` for a site that is none or of other size.

    `CannotBatch` for heads, experts and blocks: they lie in no dimension by themselves.
    """
    found = []
    modules = dict(net.named_modules())
    for choice in space.sites:
        site = known.named(choice.site)
        if site.units != choice.units:
            raise ModelError(f"`{choice.site}` has {site.units} units, but its masks {choice.units}")
        if site.kind not in (Kind.FILTER, Kind.NEURON):
            raise CannotBatch(f"the units of `{site.name}` are no filters or neurons, but {site.kind}s")
        made_by = modules.get(site.name)
        if not isinstance(made_by, _ConvNd | nn.Linear):
            what = "a parameter" if made_by is None else f"a {type(made_by).__name__}"
            raise CannotBatch(f"the units of `{site.name}` are made by {what}, not by a convolution or linear layer")
        kept = l1_kept(net, site, choice.units - choice.pruned) if removal == "released" else None
        found.append(_coupling(site, kept))
    return tuple(found)


def make_plan(traced: Traced, sites: tuple[Coupling, ...]) -> Plan:
    """The plan of a traced network; `CannotBatch` names the operation that stands in the way."""
    *nodes, out = (node for node in traced.module.graph.nodes if node.op != "placeholder")
    inputs = traced.module.graph.find_nodes(op="placeholder")
    output = out.args[0]
    if len(inputs) != 1 or not isinstance(output, fx.Node):
        raise CannotBatch("the network does not map one tensor to one tensor")
    order = _forward_order(nodes, sites)
    numbered = tuple(sites[place] for place in order)
    steps = {inputs[0]: Step(node=inputs[0], bound=())}
    for node in nodes:
        steps[node] = _step(traced, node, numbered, steps)
    if (apart := steps[output].apart) is not None:
        raise CannotBatch(f"the units of `{numbered[apart].name}` are outputs of the network")
    if missing := set(range(len(order))) - set(steps[output].bound):
        raise CannotBatch(f"the output does not depend on `{numbered[min(missing)].name}`")
    return Plan(levels=_levels(traced, numbered, steps, output), steps=steps, order=order, output=output)


def _coupling(site: Site, l1_kept: tuple[int, ...] | None) -> Coupling:
    consumers = frozenset(cut.layer for cut in site.cuts if cut.role is Role.CONSUMER)
    producers = frozenset(cut.layer for cut in site.cuts if cut.role is not Role.CONSUMER)
    return Coupling(name=site.name, units=site.units, producers=producers, consumers=consumers, l1_kept=l1_kept)


def _forward_order(nodes: list[fx.Node], sites: tuple[Coupling, ...]) -> tuple[int, ...]:
    called = [str(node.target) for node in nodes if node.op == "call_module"]
    for site in sites:
        if site.name not in called:
            raise CannotBatch(f"the traced network does not call `{site.name}`")
        for other in sites:
            if other is not site and other.producers & site.producers:
                raise CannotBatch(f"`{site.name}` and `{other.name}` are pruned together")
    return tuple(sorted(range(len(sites)), key=lambda place: called.index(sites[place].name)))


def _step(traced: Traced, node: fx.Node, sites: tuple[Coupling, ...], steps: dict[fx.Node, Step]) -> Step:
    inputs = [steps[part] for part in node.all_input_nodes]
    bound = tuple(sorted({site for part in inputs for site in part.bound}))
    if node not in traced.row_shapes:  # a size, a constant
        apart = next((part.apart for part in inputs if part.apart is not None), None)
        if apart is not None and traced.called(node) is not None:
            raise CannotBatch(f"`{name_of(node)}` makes of the units of `{sites[apart].name}` more than one tensor")
        return Step(node=node, bound=bound)
    for part in inputs:
        if part.bound != bound and part.bound and part.node not in traced.row_shapes:
            raise CannotBatch(f"`{name_of(node)}` uses a size taken elsewhere in the network")
    apart, sums = _at_units(traced, node, sites, [part for part in inputs if part.apart is not None])
    if sums is not None:
        bound = tuple(sorted({*bound, sums}))
    made = [
        number for number, site in enumerate(sites) if name_of(node) in site.producers and _makes_units(traced, node)
    ]
    if made:
        apart = made[0]
        if traced.row_shapes[node][0] > sites[apart].units:
            raise CannotBatch(f"a unit of `{sites[apart].name}` is several outputs of `{name_of(node)}`")
        if traced.row_shapes[node][0] != sites[apart].units or len(traced.row_shapes[node]) == 2:
            raise CannotBatch(f"the units of `{sites[apart].name}` do not lie on dimension 1 behind `{name_of(node)}`")
    moves = apart if made and apart is not None and sites[apart].l1_kept is not None else None
    if moves is not None:
        bound = tuple(sorted({*bound, moves}))
    into = next((part.node for part in inputs if part.bound == bound and may_overwrite(traced, node, part.node)), None)
    return Step(node=node, bound=bound, apart=apart, sums=sums, moves=moves, into=into)


def _at_units(
    traced: Traced, node: fx.Node, sites: tuple[Coupling, ...], inputs: list[Step]
) -> tuple[int | None, int | None]:
    """The site that is apart behind an operation, and the one that it sums over."""
    apart = {part.apart for part in inputs if part.apart is not None}
    if not apart:
        return None, None
    if len(apart) > 1:
        names = " and ".join(f"`{sites[number].name}`" for number in sorted(apart))
        raise CannotBatch(f"`{name_of(node)}` joins the units of {names}")
    number = apart.pop()
    layer = traced.called(node)
    if keeps_apart(traced, node, [part.node for part in inputs]):
        return number, None
    given = layer is not None and type(layer) in (nn.Conv2d, nn.Linear) and parts_of(layer) is None
    if given and name_of(node) in sites[number].consumers:
        _check_consumer(traced, node, layer, sites[number])
        return None, number
    what = type(layer).__name__ if layer is not None else str(getattr(node.target, "__name__", node.target))
    raise CannotBatch(f"`{name_of(node)}` ({what}) mixes the units of `{sites[number].name}` in a way that is no sum")


def _check_consumer(traced: Traced, node: fx.Node, layer: nn.Module | None, site: Coupling) -> None:
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        raise CannotBatch(f"`{name_of(node)}` sums in groups")
    name, row = name_of(node), traced.row_shapes[node.all_input_nodes[0]]
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        raise CannotBatch(f"`{name}` pads with more than zeros")
    if row[0] % site.units or (isinstance(layer, nn.Linear) and len(row) != 1):
        raise CannotBatch(f"the units of `{site.name}` do not lie on dimension 1 before `{name}`")


def _makes_units(traced: Traced, node: fx.Node) -> bool:
    layer = traced.called(node)
    return isinstance(layer, nn.Conv2d | nn.Linear) and not is_depthwise(layer)


def _levels(
    traced: Traced, sites: tuple[Coupling, ...], steps: dict[fx.Node, Step], output: fx.Node
) -> tuple[Level, ...]:
    bounds = sorted({step.bound for step in steps.values()}, key=lambda bound: (len(bound), bound))
    return tuple(_level(traced, sites, steps, bound, output) for bound in bounds)


def _level(
    traced: Traced, sites: tuple[Coupling, ...], steps: dict[fx.Node, Step], bound: Bound, output: fx.Node
) -> Level:
    own = tuple(step for step in steps.values() if step.bound == bound)
    place = {step.node: index for index, step in enumerate(own)}
    done_with: list[tuple[fx.Node, ...]] = [()] * len(own)
    for step in own:
        if step.node is not output and all(user in place for user in step.node.users):
            last = max((place[user] for user in step.node.users), default=place[step.node])
            done_with[last] += (step.node,)
    readers = {user for step in own for user in step.node.users if user in steps and steps[user].bound != bound}
    return Level(
        bound=bound,
        steps=own,
        done_with=tuple(done_with),
        floats=_most_floats(traced, own, done_with),
        part_floats=sum(
            2 * (sites[number].units + 1) * prod(traced.row_shapes[user])
            for user in readers
            if (number := steps[user].sums) is not None
        ),
    )


def _most_floats(traced: Traced, steps: Iterable[Step], done_with: list[tuple[fx.Node, ...]]) -> int:
    """The most numbers held at a time, the copies that a masked layer makes of its input and a move of its result."""
    held = most = 0
    for step, done in zip(steps, done_with, strict=True):
        own = prod(traced.row_shapes.get(step.node, (0,)))
        held += own
        copied = sum(prod(traced.row_shapes.get(part, (0,))) for part in step.node.all_input_nodes)
        most = max(most, held + copied * (step.sums is not None) + own * (step.moves is not None))
        held -= sum(prod(traced.row_shapes.get(node, (0,))) for node in done)
    return most
