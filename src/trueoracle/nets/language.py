"""Language models of `transformers`: with eyes, as the LLaVA family (TinyLLaVA among it), or without, as Llama, Qwen,
Phi and GPT-2. What is pruned are the neurons and heads of the language model, and of one without eyes its width too; eyes
and the projection behind them stay.
"""

from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trueoracle.nets.even import even_config
from trueoracle.nets.finding import language_sites
from trueoracle.nets.hub import check_weights, read, read_weights
from trueoracle.nets.llava_mini import llava_mini_config
from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.removal import remove
from trueoracle.nets.weights import state_bytes, weights_from_bytes
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import TextShape

_SEES = "llava"
# Where a configuration has no word for layers of several sizes, it says under this key how many units each site has.
_UNITS = "trueoracle_units"
_SAME = 1e-3  # of the largest logit, in half precision too


def pretrained_language_model(source: str) -> nn.Module:
    """The model with its weights from the hub, `OWNER/NAME` or `OWNER/NAME@REVISION`, or from a local folder.

    Only safetensors are read and no code that comes with a model is run. Folders of `save_language_model` are read
    too. `ModelError` for a model that cannot be had, or is neither of the LLaVA family nor a causal language model.
    """
    import transformers

    config = read(transformers.AutoConfig, source)
    if hasattr(config, "vision_config") and config.model_type != _SEES:
        raise ModelError(
            f"`hf:{source}` is of the kind `{config.model_type}`: of the models that see, the LLaVA family's alone are "
            "known (kind `llava`)"
        )
    kind: Any = (
        transformers.LlavaForConditionalGeneration if config.model_type == _SEES else transformers.AutoModelForCausalLM
    )
    if hasattr(config, _UNITS):
        return _resized((kind._from_config if config.model_type == _SEES else kind.from_config)(config), source)
    model, report = read_weights(kind, source)
    check_weights(f"hf:{source}", report["missing_keys"], (), report["mismatched_keys"])
    return model.eval()  # type: ignore[no-any-return]


def llava_mini(_shape: object) -> nn.Module:
    """LLaVA-Mini (see `trueoracle.nets.llava_mini`), randomly initialised."""
    from transformers import LlavaForConditionalGeneration

    return LlavaForConditionalGeneration(llava_mini_config())


def save_language_model(net: nn.Module, folder: Path) -> None:
    """Write configuration and weights, which `pretrained_language_model` reads back.

    Where all layers are left with as many neurons and heads, the configuration says so, and its width, and `transformers` reads the
    folder too. Otherwise it has no words for it, and the folder is for trueoracle alone.
    """
    sites = language_sites(net)
    config = even_config(net, net, sites)
    if not isinstance(config, str) and not _answers_otherwise(net, config):
        saved = copy(net)
        saved.config = config
        saved.save_pretrained(folder)  # type: ignore[operator]
        return
    config = deepcopy(net.config)
    setattr(config, _UNITS, {name: site.units for name, site in sites.items()})
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)  # type: ignore[operator,union-attr]
    (folder / "model.safetensors").write_bytes(state_bytes(net))


@torch.no_grad()
def _answers_otherwise(net: nn.Module, config: Any) -> bool:
    """Whether the same weights answer otherwise in a network made from `config`: some scale what they make by its width."""
    if config.get_text_config().hidden_size == net.config.get_text_config().hidden_size:  # type: ignore[union-attr,operator]
        return False
    made = type(net)._from_config(config).to(next(net.parameters())).eval()  # type: ignore[attr-defined]
    made.load_state_dict(net.state_dict())
    found, wanted = (logits_of_noise(one, TextShape(), 1) for one in (made, net.eval()))
    return not torch.allclose(found, wanted, rtol=0, atol=_SAME * float(wanted.abs().max()))


def _resized(net: nn.Module, source: str) -> nn.Module:
    """`net`, made from a configuration that says how many units each site has, in those sizes and with its weights."""
    sites = language_sites(net)
    units: dict[str, int] = getattr(net.config, _UNITS)
    parts = tuple(
        SiteMask(site=name, units=sites.named(name).units, kept=tuple(range(kept))) for name, kept in units.items()
    )
    resized = remove(net, Mask(rank=0, sites=tuple(part for part in parts if part.pruned)), sites)
    delattr(resized.config, _UNITS)
    path = Path(source) / "model.safetensors"
    try:
        weights_from_bytes(resized, path.read_bytes(), str(path))
    except OSError as error:
        raise ModelError(f"the weights `{path}` cannot be read: {error.strerror}") from None
    return resized.eval()
