"""Networks that tell the noise in an image, by which pictures are drawn: those of `diffusers`, without prompt or class.

Letters: B images, C channels, H x W pixels, T noise levels.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trueoracle.nets.hub import check_weights
from trueoracle.words.errors import ModelError, unknown
from trueoracle.words.shape import NoiseShape

LEVELS = 1000
"""The noise levels that a network knows, from 0, almost none, to 999, almost nothing else."""

_PREFIX = "diffusers:"
_PARTS = ("unet", "transformer")
_MINI: dict[str, tuple[str, dict[str, Any]]] = {
    "unet2d-mini": (
        "UNet2DModel",
        {
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "block_out_channels": (16, 32),
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "attention_head_dim": 8,
        },
    ),
    "unet2d-condition-mini": (
        "UNet2DConditionModel",
        {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "block_out_channels": (16, 32),
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "attention_head_dim": 4,
            "cross_attention_dim": 8,
        },
    ),
    "dit-mini": (
        "DiTTransformer2DModel",
        {
            "num_attention_heads": 4,
            "attention_head_dim": 12,
            "num_layers": 4,
            "patch_size": 2,
            "norm_num_groups": 1,
            "num_embeds_ada_norm": 1,
        },
    ),
}
DENOISERS = tuple(_MINI)


def linear_schedule() -> Tensor:
    """What is left of an image's variance at each level (T,): the schedule of DDPM (Ho et al., arXiv 2006.11239)."""
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, LEVELS, dtype=torch.float64), 0).float()


def schedule_of(net: nn.Module) -> Tensor:
    """The schedule (T,) that `net` was trained on, on its device; DDPM's where it does not say."""
    known = getattr(net, "image_share_T", None)
    return known if isinstance(known, Tensor) else linear_schedule().to(next(net.parameters()).device)


class Denoiser(nn.Module):
    """A network of `diffusers` as `model`: what it says of the noise, asked without a prompt and without a class.

    A prompt is one token of zeros; the class is the one that DiT was trained with where none was given.
    `image_share_T` is the noise schedule it knows. State-dict keys: `model.` and the network's own.
    """

    image_share_T: Tensor

    def __init__(self, model: nn.Module, image_share_T: Tensor | None = None) -> None:
        super().__init__()
        self.model = model
        share_T = linear_schedule() if image_share_T is None else image_share_T
        self.register_buffer("image_share_T", share_T, persistent=False)

    def forward(self, images_BCHW: Tensor, level_B: Tensor) -> Tensor:
        """Images with noise and its levels (int64) -> the noise (B, C, H, W)."""
        given = _UNASKED[type(self.model).__name__](self.model, images_BCHW)
        told: Tensor = self.model(images_BCHW, timestep=level_B, **given).sample
        return told[:, : images_BCHW.shape[1]]  # DiT tells the variance too


def _without_class(model: Any, _images_BCHW: Tensor) -> dict[str, Tensor]:
    if model.config.num_class_embeds is not None or model.config.class_embed_type is not None:
        raise ModelError("it is asked for a class, which this task does not give")
    return {}


def _without_prompt(model: Any, images_BCHW: Tensor) -> dict[str, Tensor]:
    config = model.config
    if config.addition_embed_type is not None or config.encoder_hid_dim is not None or config.num_class_embeds:
        raise ModelError("it is asked for more than a prompt, which this task does not give")
    width = config.cross_attention_dim
    if not isinstance(width, int):
        raise ModelError(f"its prompts are {width} wide, another width a block, which this task does not give")
    return {"encoder_hidden_states": images_BCHW.new_zeros(len(images_BCHW), 1, width)}


def _no_class(model: Any, images_BCHW: Tensor) -> dict[str, Tensor]:
    none = model.config.num_embeds_ada_norm
    return {"class_labels": torch.full((len(images_BCHW),), none, device=images_BCHW.device)}


_UNASKED: dict[str, Callable[[Any, Tensor], dict[str, Tensor]]] = {
    "UNet2DModel": _without_class,
    "UNet2DConditionModel": _without_prompt,
    "DiTTransformer2DModel": _no_class,
}


def denoiser(name: str, shape: NoiseShape) -> Denoiser:
    """One of `DENOISERS`, or `diffusers:CONFIG.json`, freshly initialised; `hf:` with its weights; for these images.

    `ModelError` where there is no such network, and where `diffusers` is not installed.
    """
    if name.startswith("hf:"):
        return _pretrained(name.removeprefix("hf:"))
    if name.startswith(_PREFIX):
        kind, config = _read_config(Path(name.removeprefix(_PREFIX)))
    elif name in _MINI:
        kind, config = _MINI[name]
        side = max(shape.height, shape.width)
        config = {**config, "in_channels": shape.channels, "out_channels": shape.channels, "sample_size": side}
    else:
        raise ModelError(
            f"{unknown('network for noise', name, DENOISERS)}; besides hf:FOLDER and diffusers:CONFIG.json"
        )
    return Denoiser(_made(kind, config, name))


def stride_of(net: nn.Module) -> int:
    """Of what number the height and width of its images must be multiples; 1 where nothing is known."""
    model = net.model if isinstance(net, Denoiser) else net
    config: Any = getattr(model, "config", None)
    if hasattr(config, "patch_size") and isinstance(config.patch_size, int):
        return config.patch_size
    return 2 ** (len(config.block_out_channels) - 1) if hasattr(config, "block_out_channels") else 1


def check_size(net: nn.Module, height: int, width: int, name: str) -> None:
    """`ModelError` where `net` takes no images of this size."""
    stride = stride_of(net)
    if height % stride or width % stride:
        raise ModelError(
            f"`{name}` takes images whose height and width are multiples of {stride}, but got {height}x{width}"
        )
    if isinstance(net, Denoiser) and type(net.model).__name__ == "DiTTransformer2DModel" and height != width:
        raise ModelError(f"`{name}` takes square images, but got {height}x{width}")


def check_tells_noise(net: nn.Module, shape: NoiseShape, name: str) -> None:
    """`ModelError` where `net` does not map noisy images of this shape and levels to noise of the same shape."""
    check_size(net, shape.height, shape.width, name)
    images_BCHW = torch.zeros(2, shape.channels, shape.height, shape.width)
    try:
        with torch.inference_mode():
            told = net(images_BCHW, torch.tensor([0, LEVELS - 1]))
    except Exception as error:  # whatever a forward pass raises
        raise ModelError(f"`{name}` cannot take {shape}: {_line(error)}") from error
    if not isinstance(told, Tensor) or told.shape != images_BCHW.shape:
        found = tuple(told.shape) if isinstance(told, Tensor) else type(told).__name__
        raise ModelError(f"`{name}` must tell the noise in {shape}, of their own shape, but gives {found}")


def import_diffusers() -> Any:
    """`diffusers`, silent; `ModelError` where it is not installed."""
    try:
        import diffusers
    except ImportError:
        raise ModelError("networks for noise need diffusers: pip install 'trueoracle[diffusion]'") from None
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    return diffusers


def _class(kind: Any, source: str) -> Any:
    if kind not in _UNASKED:
        raise ModelError(f"`{source}` must be one of {', '.join(_UNASKED)}, but is a {kind}")
    return getattr(import_diffusers(), kind)


def _made(kind: str, config: Mapping[str, Any], source: str) -> nn.Module:
    try:
        made: nn.Module = _class(kind, source).from_config(dict(config))
    except ModelError:
        raise
    except Exception as error:  # whatever the library raises at a configuration
        raise ModelError(f"`{source}` cannot be made: {_line(error)}") from error
    return made


def _read_config(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"the configuration `{path}` cannot be read: {error.strerror}") from None
    except ValueError:
        raise ModelError(f"the configuration `{path}` is no JSON") from None
    kind = config.get("_class_name") if isinstance(config, dict) else None
    if kind is None:
        raise ModelError(f"the configuration `{path}` says no `_class_name`")
    return kind, {key: value for key, value in config.items() if not key.startswith("_")}


def _pretrained(source: str) -> Denoiser:
    """From the hub, `OWNER/NAME` or `OWNER/NAME@REVISION`, or a folder: a network, or a pipeline that has one.

    Only safetensors are read. A pipeline's network must tell the noise, and its schedule be of 1,000 levels.
    """
    library = import_diffusers()
    part = _part(library, source)
    where = {} if part is None else {"subfolder": part}
    kind = _class(_loaded(library.UNet2DModel.load_config, source, **where).get("_class_name"), f"hf:{source}")
    model, report = _loaded(
        kind.from_pretrained, source, use_safetensors=True, output_loading_info=True, low_cpu_mem_usage=False, **where
    )
    misshapen = [name for name, *_ in report["mismatched_keys"]]
    check_weights(f"hf:{source}", report["missing_keys"], report["unexpected_keys"], misshapen)
    return Denoiser(model.float(), None if part is None else _schedule(library, source))


def _loaded(load: Callable[..., Any], source: str, **how: Any) -> Any:
    """What `load` makes of it; `ModelError` if it cannot."""
    name, _, revision = source.partition("@")
    try:
        return load(name, revision=revision or None, **how)
    except Exception as error:  # whatever the hub, the files or the configuration raise
        raise ModelError(f"the model `hf:{source}` cannot be loaded: {_line(error)}") from error


def _part(library: Any, source: str) -> str | None:
    """The folder of the network within a pipeline; None where there is no pipeline."""
    try:
        index = _loaded(library.DiffusionPipeline.load_config, source)
    except ModelError:
        return None
    return next((part for part in _PARTS if index.get(part)), None)


def _schedule(library: Any, source: str) -> Tensor:
    config = _loaded(library.DDPMScheduler.load_config, source, subfolder="scheduler")
    if config.get("prediction_type", "epsilon") != "epsilon":
        raise ModelError(f"`hf:{source}` tells `{config['prediction_type']}`, not the noise (`epsilon`)")
    share_T: Tensor = library.DDPMScheduler.from_config(config).alphas_cumprod
    if len(share_T) != LEVELS:
        raise ModelError(f"`hf:{source}` knows {len(share_T)} noise levels, but {LEVELS} are needed")
    return share_T.float()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
