"""Networks that tell the noise in images: the loss, the networks, what can be pruned of them, whole studies, pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from trueoracle import Study, api
from trueoracle.cli.app import main
from trueoracle.data import Dataset, Noised, dataset_shape, load_dataset
from trueoracle.nets import build, copied, evaluate, find_sites, remove, sample, state_bytes
from trueoracle.nets.diffusion import LEVELS, Denoiser, linear_schedule
from trueoracle.selection.export import check_export
from trueoracle.words.errors import DataError, ModelError, TrueOracleError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import NoiseShape
from trueoracle.words.spec import parse_spec

CPU = torch.device("cpu")
SMALL = NoiseShape(channels=1, height=8, width=8)
NAMES = ("unet2d-mini", "unet2d-condition-mini", "dit-mini")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("denoise:digits@8:100,900", None, CPU, Quiet())


class Knows(nn.Module):
    """Knows the image, one for all, and so tells the noise exactly; `share` of it."""

    def __init__(self, image_CHW: Tensor, share: float) -> None:
        super().__init__()
        self.image_CHW = nn.Parameter(image_CHW.double())
        self.share = share

    def forward(self, images_BCHW: Tensor, level_B: Tensor) -> Tensor:
        a_B111 = linear_schedule().double()[level_B][:, None, None, None]
        return self.share * (images_BCHW - a_B111.sqrt() * self.image_CHW) / (1 - a_B111).sqrt()


def noised(images: int = 3, levels: tuple[int, ...] = (0, 500, 999)) -> Noised:
    chance = np.random.default_rng(0)
    return Noised(
        images_NCHW=torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4).expand(images, -1, -1, -1),
        noise_NCHW=torch.from_numpy(chance.standard_normal((images, 1, 4, 4), dtype=np.float32)),
        level_NL=torch.tensor(levels).expand(images, -1),
    )


def test_loss_is_the_squared_error_of_the_noise_that_is_told() -> None:
    examples = noised()
    told = {share: Knows(examples.images_NCHW[0], share) for share in (1.0, 0.0, 0.5)}
    whole_N = examples.noise_NCHW.double().square().mean((1, 2, 3))
    for share, net in told.items():
        judged = examples.judge(net)
        torch.testing.assert_close(judged.loss_B, (1 - share) ** 2 * whole_N, rtol=1e-4, atol=1e-9)
        assert bool((judged.right_B == (share > 0)).all())
        assert float(examples.train_loss(net).detach()) == pytest.approx(
            float(judged.loss_B.mean().detach()), rel=1e-6, abs=1e-9
        )


def test_image_has_its_noise_whichever_others_are_taken(digits: Dataset) -> None:
    net = build("unet2d-mini", SMALL).double()
    part = digits.test.take(slice(0, 5))
    one = digits.test.take(torch.tensor([3]))
    torch.testing.assert_close(one.judge(net).loss_B, part.judge(net).loss_B[3:4], rtol=1e-9, atol=0)
    again = load_dataset("denoise:digits@8:100,900", None, CPU, Quiet())
    assert evaluate(net, again.test.take(slice(0, 5))).loss == evaluate(net, part).loss
    assert again.fingerprint == digits.fingerprint
    assert load_dataset("denoise:digits@8:100", None, CPU, Quiet()).fingerprint != digits.fingerprint


def test_loss_of_an_image_is_the_mean_over_its_levels() -> None:
    net = build("unet2d-mini", SMALL).double()
    both, *single = (
        load_dataset(f"denoise:digits@8:{levels}", None, CPU, Quiet()).test.take(slice(0, 4)).judge(net).loss_B
        for levels in ("100,900", "100", "900")
    )
    torch.testing.assert_close(both, (single[0] + single[1]) / 2, rtol=1e-9, atol=0)


def test_training_draws_noise_and_levels_from_the_step_alone(digits: Dataset) -> None:
    assert isinstance(digits.train, Noised)
    few = digits.train.take(slice(0, 64))
    one, same, other = (few.anew(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.noise_NCHW, same.noise_NCHW)
    assert torch.equal(one.level_NL, same.level_NL)
    assert not torch.equal(one.noise_NCHW, other.noise_NCHW)
    assert one.level_NL.shape == (64, 1)
    assert 0 <= int(one.level_NL.min()) < LEVELS / 4
    assert 3 * LEVELS / 4 < int(one.level_NL.max()) < LEVELS


def test_pixels_at_another_size_keep_their_mean(digits: Dataset) -> None:
    assert isinstance(digits.train, Noised)
    whole = load_dataset("denoise:digits@32", None, CPU, Quiet()).train
    assert isinstance(whole, Noised)
    assert whole.images_NCHW.shape[2:] == (32, 32)
    assert float(whole.images_NCHW.min()) == pytest.approx(-1, abs=1e-5)
    torch.testing.assert_close(digits.train.images_NCHW.mean(), whole.images_NCHW.mean(), rtol=0, atol=0.01)
    assert dataset_shape("denoise:digits@8x12") == NoiseShape(channels=1, height=8, width=12)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("denoise:digits", "must say a size"),
        ("denoise:digits@0", "must lie in [1, 32]"),
        ("denoise:digits@8x64", "must lie in [1, 32]"),
        ("denoise:digits@-8", "whole numbers, but got `-8`"),
        ("denoise:digits@8:1000", "levels must lie in [0, 1000)"),
        ("denoise:digits@8:5,5", "each once"),
        ("denoise:digits@8:low", "whole numbers, but got `low`"),
        ("denoise:dogits@8", "unknown dataset"),
    ],
)
def test_names_that_say_nothing(name: str, rule: str) -> None:
    with pytest.raises(DataError) as error:
        dataset_shape(name)
    assert rule in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_built_network_takes_other_sizes_and_is_the_same_for_the_same_seed(name: str) -> None:
    net = build(name, SMALL, seed=3)
    assert state_bytes(net) == state_bytes(build(name, SMALL, seed=3)) != state_bytes(build(name, SMALL, seed=4))
    with torch.inference_mode():
        assert net(torch.zeros(2, 1, 12, 12), torch.tensor([0, 999])).shape == (2, 1, 12, 12)


@pytest.mark.parametrize(("name", "height", "width"), [("unet2d-mini", 9, 8), ("dit-mini", 8, 12), ("dit-mini", 7, 7)])
def test_sizes_that_a_network_cannot_take(name: str, height: int, width: int) -> None:
    with pytest.raises(ModelError, match=f"but got {height}x{width}"):
        build(name, NoiseShape(channels=1, height=height, width=width))


def test_unknown_network_and_networks_for_other_things() -> None:
    with pytest.raises(ModelError, match="did you mean `unet2d-mini`"):
        build("unet2d-mimi", SMALL)
    with pytest.raises(ModelError, match="unknown network for noise `resnet20`"):
        build("resnet20", SMALL)
    with pytest.raises(ModelError, match="unknown model `unet2d-mini`"):
        api.sites("unet2d-mini", "digits")


def pipeline(folder: Path, **schedule: object) -> Path:
    """A folder as a pipeline of `diffusers` has it; of its schedule, this is otherwise than usual."""
    net = build("unet2d-mini", SMALL, seed=1)
    net.model.save_pretrained(folder / "unet")
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]})
    )
    (folder / "scheduler").mkdir()
    facts = {"_class_name": "DDPMScheduler", "num_train_timesteps": 1000, "beta_schedule": "linear", **schedule}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(facts))
    return folder


def test_network_from_a_folder_a_pipeline_and_a_configuration(tmp_path: Path) -> None:
    net = build("unet2d-mini", SMALL, seed=1)
    net.model.save_pretrained(tmp_path / "alone")
    again = build(f"hf:{tmp_path / 'alone'}", SMALL)
    assert state_bytes(again) == state_bytes(net)
    other = build(f"hf:{pipeline(tmp_path / 'pipeline', beta_schedule='squaredcos_cap_v2')}", SMALL)
    assert state_bytes(other) == state_bytes(net)
    assert isinstance(other, Denoiser)
    assert not torch.equal(other.image_share_T, linear_schedule())
    made = build(f"diffusers:{tmp_path / 'alone' / 'config.json'}", SMALL, seed=1)
    assert state_bytes(made) == state_bytes(net)


def test_networks_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="tells `v_prediction`, not the noise"):
        build(f"hf:{pipeline(tmp_path / 'v', prediction_type='v_prediction')}", SMALL)
    with pytest.raises(ModelError, match="knows 50 noise levels"):
        build(f"hf:{pipeline(tmp_path / 'short', num_train_timesteps=50)}", SMALL)
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        build(f"diffusers:{tmp_path / 'none.json'}", SMALL)
    (tmp_path / "other.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    with pytest.raises(ModelError, match="must be one of UNet2DModel, .* but is a AutoencoderKL"):
        build(f"diffusers:{tmp_path / 'other.json'}", SMALL)
    with pytest.raises(ModelError, match="cannot take 3x8x8 images with noise"):
        build(f"hf:{pipeline(tmp_path / 'grey')}", NoiseShape(channels=3, height=8, width=8))


def test_units_of_a_unet_are_removed_as_if_they_were_silent() -> None:
    """That silence and removal agree is what `find_sites` proves of every site; here that the smaller network works."""
    net = copied(build("unet2d-mini", SMALL))
    sites = find_sites(net, SMALL)
    site = sites["model.mid_block.resnets.0.conv1"]
    assert site.units == 8, "the channels that a group normalisation takes together are one unit"
    part = SiteMask(site=site.name, units=site.units, kept=(0, 2, 5))
    pruned = remove(net, Mask(rank=0, sites=(part,)), sites)
    assert pruned.get_submodule(site.name).out_channels == 12
    with torch.inference_mode():
        assert pruned(torch.zeros(1, 1, 16, 16), torch.tensor([5])).shape == (1, 1, 16, 16)


STUDY = {
    "schema": 1, "name": "noise", "model": "unet2d-mini", "data": "denoise:digits@8:500", "train_images": 64,
    "test_images": 32, "validation_images": 16, "repeats": 2, "final": "last",
    "train": {"optimiser": "adamw", "lr": 0.002, "epochs": 1, "batch_size": 16},
    "retrain": {"optimiser": "adamw", "lr": 0.002, "epochs": 1, "batch_size": 16},
    "cells": [{"prune": {"model.mid_block.resnets.0.conv1": 0.5}, "draw": 3}],
}  # fmt: skip


def test_whole_study_of_noise(tmp_path: Path) -> None:
    study = Study(parse_spec(STUDY, "test"), store=f"sqlite:///{tmp_path}/noise.db", threads=1, progress=Quiet())
    study.run()
    trials = study.trials()
    assert len(trials) == 6
    assert trials["final_test_loss"].between(0, 1.5).all()
    assert trials["pruned_train_loss"].nunique() == 3
    (cell,) = study.analyze(y="final_test_loss")
    assert "no loss is that of guessing" in str(cell.regime.chance_loss)


LATENTS = """
import torch
from trueoracle.data import RawData, RawSplit, Source
from trueoracle.words.shape import InputShape


def split(images, seed):
    pixels = torch.randint(0, 256, (images, 4, 16, 24), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return RawSplit(images_NCHW=pixels, labels_N=torch.zeros(images, dtype=torch.int64))


def made():
    shape = InputShape(channels=4, height=16, width=24, classes=2)
    return Source(shape=shape, read=lambda _folder, _progress: RawData(train=split(24, 0), test=split(8, 1)))
"""


def test_the_study_of_stable_diffusion_runs_on_a_small_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file, but for the network, a random one in the layout of Stable Diffusion 1.5, the latents, and how many there are."""
    from diffusers import PNDMScheduler, UNet2DConditionModel

    kinds = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, down_block_types=kinds[0], up_block_types=kinds[1],
        block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=16, attention_head_dim=2, norm_num_groups=8,
    ).save_pretrained(tmp_path / "sd" / "unet")  # fmt: skip
    PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    ).save_pretrained(tmp_path / "sd" / "scheduler")
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (tmp_path / "sd" / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "some_latents.py").write_text(LATENTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    facts = yaml.safe_load((Path(__file__).parents[1] / "docs" / "cr-diff-sd15.yaml").read_text())
    (cell,) = facts["cells"]
    small = {
        "model": f"hf:{tmp_path / 'sd'}", "data": "denoise:some_latents:made@16x24", "train_images": 16, "test_images": 4,
        "oracle_images": None, "cells": [{**cell, "draw": 2, "search": {**cell["search"], "evaluations": 6, "keep": 1}}],
    }  # fmt: skip
    store = f"sqlite:///{tmp_path / 'sd.db'}"
    study = Study(parse_spec({**facts, **small}, "small"), store=store, threads=1, progress=Quiet())
    assert study.run().finished == 4
    trials = study.trials()
    assert sorted(trials["searched"]) == [False, False, True, True], "two drawn, the smallest weights, the best found"
    assert np.isfinite(trials[["pruned_train_loss", "final_test_loss"]]).all(axis=None)


def test_pictures_by_hand() -> None:
    """Four steps of DDIM, written out, in float64; a picture does not depend on how many are drawn."""
    net = build("unet2d-mini", SMALL, seed=2).double()
    share_T = linear_schedule().double()
    picture = torch.from_numpy(np.random.default_rng(5).standard_normal((2, 1, 8, 8), dtype=np.float32)).double()
    one = torch.ones((), dtype=torch.float64)
    with torch.inference_mode():
        for level in (999, 749, 499, 249):
            told = net(picture, torch.tensor([level, level]))
            before, after = share_T[level], share_T[level - 250] if level > 250 else one
            clean = ((picture - (1 - before).sqrt() * told) / before.sqrt()).clamp(-1, 1)
            picture = after.sqrt() * clean + (1 - after).sqrt() * told
    drawn = sample(net, SMALL, 2, steps=4, seed=5)
    torch.testing.assert_close(drawn, picture.float().clamp(-1, 1), rtol=0, atol=1e-4)
    torch.testing.assert_close(sample(net, SMALL, 1, steps=4, seed=5), drawn[:1], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "unet.safetensors"
    path.write_bytes(state_bytes(build("unet2d-condition-mini", SMALL, seed=1)))
    return path


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["trueoracle", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_sample_writes_a_grid_of_any_size(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["sample", "unet2d-condition-mini", "--data", "denoise:digits@8", "--weights", weights, "--steps", 2]
    plain = tmp_path / "plain.png"
    assert (
        command(monkeypatch, *ask, "--size", "12x8", "--pictures", 3, "--columns", 2, "--enlarge", 2, "-o", plain) == 0
    )
    with Image.open(plain) as grid:
        assert grid.size == (2 * (8 + 1 + 8), 2 * (12 + 1 + 12))
    pruned = tmp_path / "pruned.png"
    assert command(monkeypatch, *ask, "--pictures", 3, "--prune", "mid=0.5", "--amplify", 1.5, "-o", pruned) == 0
    assert "3 pictures of 8x8 pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("--size", "9"), "multiples of 2, but got 9x9"),
        (("--size", "big"), "`size` must be such as 24 or 16x24, but got `big`"),
        (("--amplify", "0.5", "--prune", "up=0.5"), "must be at least 1, but got 0.5"),
        (("--amplify", "1.5"), "needs a pruned network"),
        (("--prune", "left=0.5"), "unknown group of blocks `left`"),
        (("--prune", "up=1"), "the ratio of `up` must lie in [0, 1), but got 1"),
        (("--prune", "up=0.5", "--select", "nothing*"), "`nothing*` selects no layer of the group `down`"),
        (("--steps", "1001"), "`steps` must lie in [1, 1000]"),
    ],
)
def test_what_sample_refuses(
    words: tuple[str, ...], rule: str, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    ask = ["sample", "unet2d-condition-mini", "--data", "denoise:digits@8", "--weights", weights]
    assert command(monkeypatch, *ask, "-o", tmp_path / "no.png", *words) == 2
    said = capsys.readouterr().err
    assert rule in said
    assert said.count("\n") == 1
    assert not (tmp_path / "no.png").exists()


def test_export_that_knows_no_such_task(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="1x8x8 images with noise are not exported"):
        check_export(tmp_path / "folder", (), SMALL)


def test_task_that_a_network_cannot_do() -> None:
    for model, data, rule in (
        ("unet2d-mini", "digits", "unknown model"),
        ("lenet5-mini", "denoise:digits@8", "unknown network for noise"),
    ):
        with pytest.raises(TrueOracleError, match=rule):
            Study(parse_spec({**STUDY, "model": model, "data": data}, "test"), store="sqlite://")
