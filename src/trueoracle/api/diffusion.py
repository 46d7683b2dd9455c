"""Networks that tell noise, from Python: ratios by CR-Diff's recipe, and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trueoracle.api.environment import default_data_dir, find_device
from trueoracle.words.errors import DataError, ModelError, ReportError, SpecError
from trueoracle.words.files import check_folder, write_whole
from trueoracle.words.known import check_dataset, check_device, check_model
from trueoracle.words.progress import Progress, bars

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image
    from torch import Tensor, nn

    from trueoracle.search import Found
    from trueoracle.words.shape import NoiseShape

_GAP = 1  # pixels between pictures, before they are enlarged


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """What a search of ratios found: `found` as any search's, `dense_loss` of the whole network on the same images."""

    found: "Found"
    dense_loss: float

    @property
    def best(self) -> dict[str, float]:
        """The ratio of each group, of the lowest loss."""
        return self._of(self.found.best)

    def table(self) -> "pd.DataFrame":
        """A row for each ratios tried, in that order: columns `down, mid, up` and `loss`."""
        import pandas as pd

        rows = zip(self.found.ranks, self.found.loss_M, strict=True)
        return pd.DataFrame([{**self._of(rank), "loss": float(loss)} for rank, loss in rows])

    def _of(self, rank: int) -> dict[str, float]:
        from trueoracle.search import ratios_of

        return ratios_of(self.found.space, rank)


def ratios(
    model: "str | nn.Module",
    weights: str | Path | None,
    data: str,
    *,
    search: str = "cr-diff",
    evaluations: int = 120,
    images: int = 100,
    seed: int = 0,
    select: Sequence[str] = (),
    amplify: float = 1.0,
    trained_on: str | None = None,
    keep: Path | None = None,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Ratios:
    """How much of the down, mid and up blocks may go, by magnitude and without retraining, so that `data`'s noise is told best.

    CR-Diff's recipe (arXiv 2604.05524) on the loss instead of on an image reward. `data` is such as `denoise:mnist@24`,
    of which `images` train images are drawn by `seed`; `trained_on` names the data that the network was made for, where
    that is another size. `search` is `cr-diff` or any search of masks that begins with whole ones (docs/searches.md),
    `select` as in `weight_groups`, `amplify` the k of the output amplification. In the file `keep` losses are kept, from
    which the same call goes on after a kill.
    """
    check_device(device)
    from trueoracle.data import load_dataset
    from trueoracle.nets import evaluate, weight_groups
    from trueoracle.search import Budget, Hunt, find_search
    from trueoracle.study.ratios import RatioJudge, search_ratios
    from trueoracle.study.survey import part_of

    find_search(search)
    shape = _noise_shape(data)
    net = denoising_network(model, weights, trained_on or data)
    _check(net, shape, model)
    place = find_device(device)
    folder = Path(data_dir) if data_dir is not None else default_data_dir()
    progress = progress or bars()
    chosen = part_of(load_dataset(data, folder, place, progress).train, images, seed)
    judge = RatioJudge(net=net.to(place), images=chosen, groups=weight_groups(net, select), k=amplify)
    judge.pruned({})  # says what is wrong with `amplify` before the work
    hunt = Hunt(method=search, budget=Budget(evaluations=evaluations), seed=seed)
    found = search_ratios(judge, hunt, progress, keep)
    return Ratios(found=found, dense_loss=evaluate(judge.net, chosen).loss)


def pictures(
    model: "str | nn.Module",
    weights: str | Path | None = None,
    *,
    size: str | None = None,
    data: str | None = None,
    count: int = 16,
    steps: int = 50,
    seed: int = 0,
    prune: Mapping[str, float] | None = None,
    pruned: str | Path | None = None,
    select: Sequence[str] = (),
    amplify: float = 1.0,
    device: str = "cpu",
) -> "Tensor":
    """`count` pictures, a tensor (N, C, H, W) of pixels in [-1, 1], drawn by a network that tells noise.

    `data` is what it was trained on, such as `denoise:mnist@16`; a model of `hf:` says itself which images it takes.
    `size` is such as `24` or `16x24`, the network's own without it. `prune` has ratios of the groups down, mid and up,
    whose smallest weights go first; or `pruned` is a safetensors file with all weights of such a network. With
    `amplify` k above 1 what is drawn by is k x pruned + (1 - k) x dense.
    """
    check_device(device)
    from trueoracle.nets import Amplified, mask_weights, sample, smallest, weight_groups

    if prune and pruned is not None:
        raise SpecError("`prune` and `pruned` are two ways to prune: give one")
    net = denoising_network(model, weights, data)
    shape = _own_shape(net, data) if size is None else _resized(_own_shape(net, data), size)
    _check(net, shape, model)
    if pruned is not None:
        asked = denoising_network(model, pruned, data)
    elif prune:
        asked = mask_weights(net, smallest(net, prune, weight_groups(net, select)))
    elif amplify != 1:
        raise SpecError(f"`amplify` {amplify:g} needs a pruned network: give `prune` or `pruned`")
    else:
        asked = net
    return sample(Amplified(net, asked, amplify).to(find_device(device)), shape, count, steps=steps, seed=seed).cpu()


def denoising_network(model: "str | nn.Module", weights: str | Path | None, data: str | None) -> "nn.Module":
    """The network on the CPU in eval mode, with its weights; `ModelError` where it does not tell the noise in `data`."""
    from trueoracle.nets import build, check_forward, copied, denoiser, load_weights
    from trueoracle.words.shape import NoiseShape

    if not isinstance(model, str):
        net = copied(model)
        if data is not None:
            check_forward(net, _noise_shape(data), type(model).__name__)
    elif data is not None:
        check_model(model)
        net = build(model, _noise_shape(data), trained=weights is None)
    elif model.startswith("hf:"):
        net = denoiser(model, NoiseShape(channels=1, height=1, width=1)).eval()
    else:
        raise SpecError(f"which images `{model}` takes is not known: name the data, such as denoise:mnist@16")
    if weights is not None:
        load_weights(net, Path(weights))
    return net


def draw_grid(pictures_NCHW: "Tensor", *, columns: int = 8, enlarge: int = 4) -> "Image":
    """Pictures of pixels in [-1, 1], `columns` a row, each pixel `enlarge` pixels wide: grey or in colours.

    `DataError` for pictures of other than 1 or 3 channels.
    """
    import numpy as np
    from PIL import Image as Images

    count, channels, height, width = pictures_NCHW.shape
    if channels not in (1, 3):
        raise DataError(f"a picture has 1 or 3 channels, but these have {channels}: they are no pixels yet")
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, channels), 255, dtype=np.uint8)
    levels_NHWC = ((pictures_NCHW.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    for number, picture_HWC in enumerate(levels_NHWC):
        top, left = (
            place * (side + _GAP) for place, side in zip(divmod(number, columns), (height, width), strict=True)
        )
        sheet[top : top + height, left : left + width] = picture_HWC
    whole = sheet.repeat(enlarge, 0).repeat(enlarge, 1)
    return Images.fromarray(whole[..., 0] if channels == 1 else whole)


def write_grid(grid: "Image", path: Path) -> None:
    """Write a PNG, whole or not at all."""
    write_whole(path, lambda partial: grid.save(partial, format="PNG"), ReportError)


def check_picture_path(path: Path) -> None:
    """`ReportError` for a path that no PNG can be written to: better said before the work."""
    if path.suffix != ".png":
        raise ReportError(f"pictures are written as .png, but got `{path}`")
    check_folder(path.parent)


def _noise_shape(data: str) -> "NoiseShape":
    from trueoracle.data import dataset_shape
    from trueoracle.words.shape import NoiseShape

    check_dataset(data)
    shape = dataset_shape(data)
    if not isinstance(shape, NoiseShape):
        raise SpecError(f"`{data}` has no noise to be told: name it as denoise:{data}@SIZE, such as denoise:mnist@16")
    return shape


def _own_shape(net: "nn.Module", data: str | None) -> "NoiseShape":
    from trueoracle.words.shape import NoiseShape

    if data is not None:
        return _noise_shape(data)
    config: Any = getattr(getattr(net, "model", net), "config", None)
    channels, side = getattr(config, "in_channels", None), getattr(config, "sample_size", None)
    if channels is None or side is None:
        raise ModelError("which images the network takes is not known: name the data, such as denoise:mnist@16")
    height, width = (side, side) if isinstance(side, int) else side
    return NoiseShape(channels=channels, height=height, width=width)


def _resized(shape: "NoiseShape", size: str) -> "NoiseShape":
    from dataclasses import replace

    height, by, width = size.partition("x")
    sides = (height, width if by else height)
    if not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise SpecError(f"`size` must be such as 24 or 16x24, but got `{size}`")
    return replace(shape, height=int(sides[0]), width=int(sides[1]))


def _check(net: "nn.Module", shape: "NoiseShape", model: "str | nn.Module") -> None:
    from trueoracle.nets import check_size

    check_size(net, shape.height, shape.width, model if isinstance(model, str) else type(model).__name__)
