"""Sites of transformers by the names of their layers: attention heads, and neurons where nothing can be traced."""

import numpy as np
from torch import nn

from trueoracle.nets.attention import heads
from trueoracle.nets.experts import expert_sites
from trueoracle.nets.linear import inputs, is_linear, outputs
from trueoracle.nets.sites import Cut, Kind, Role, Site, Sites

# The layers that make the neurons, and the one that sums over them.
_MLPS = (
    (("gate_proj", "up_proj"), "down_proj"),  # Llama, Mistral, Qwen, Gemma
    (("gate_up_proj",), "down_proj"),  # Phi-3: gates, then what they open
    (("fc1",), "fc2"),  # OPT, Phi
    (("c_fc",), "c_proj"),  # GPT-2
    (("dense_h_to_4h",), "dense_4h_to_h"),  # GPT-NeoX, BLOOM, Falcon
    (("lin1",), "lin2"),  # DistilBERT
    (("intermediate.dense",), "output.dense"),  # BERT
)


def head_sites(net: nn.Module) -> Sites:
    """A site of heads for every attention module that is known; of other attention, why it is no site.

    Raises `ModelError` where the number of query heads is no multiple of the number of key/value heads.
    """
    found: dict[str, Site] = {}
    refused: dict[str, str] = {}
    for name, _ in net.named_modules():
        made = heads(net, name)
        if isinstance(made, Site):
            found[name] = made
        elif made is not None:
            refused[name] = made
    return Sites(found, refused)


def neuron_sites(net: nn.Module) -> Sites:
    """The hidden neurons of every MLP that is known by the names of its layers; of mixtures, whole experts too."""
    modules = dict(net.named_modules())
    found: dict[str, Site] = {}
    for name in modules:
        inside = f"{name}." if name else ""
        for makers, sums in _MLPS:
            layers = [modules.get(f"{inside}{layer}") for layer in (*makers, sums)]
            if all(map(is_linear, layers)):
                site = _neurons(modules, [f"{inside}{maker}" for maker in makers], f"{inside}{sums}")
                if site is not None:
                    found[site.name] = site
    found |= {site.name: site for site in expert_sites(net)}
    return Sites(found)


def _neurons(modules: dict[str, nn.Module], makers: list[str], sums: str) -> Site | None:
    """Neuron u is row u of each maker; of a packed one also row u of its second half."""
    units = inputs(modules[sums])
    cuts = []
    for maker in makers:
        if outputs(modules[maker]) % units:
            return None
        channels_UC = np.arange(outputs(modules[maker]), dtype=np.int64).reshape(-1, units).T
        cuts.append(Cut(layer=maker, role=Role.PRODUCER, channels_UC=channels_UC))
    cuts.append(Cut(layer=sums, role=Role.CONSUMER, channels_UC=np.arange(units, dtype=np.int64)[:, None]))
    return Site(name=makers[0], kind=Kind.NEURON, units=units, cuts=tuple(cuts))
