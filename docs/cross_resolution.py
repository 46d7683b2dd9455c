"""CR-Diff's question at small scale: does a UNet tell noise better at sizes it was not trained at without some weights?

    python docs/cross_resolution.py FOLDER [--data mnist --bases 3 ...]

UNets are trained at 16x16. For every base network and size, ratios are searched on train images; the loss of noise is
then taken on test images, which have noise of their own, and pictures are drawn and compared with test images by KID.
What is done is kept in FOLDER, and a second call goes on from there. Told in docs/cross-resolution.md.

Letters: N images or pictures, C channels, H x W pixels, D features.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from kid import kid
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from trueoracle import api
from trueoracle.data import Dataset, Noised, Split, load_dataset, noised, subset
from trueoracle.fleet import train_alone
from trueoracle.nets import (
    Amplified,
    build,
    channels_last,
    copied,
    evaluate,
    load_weights,
    mask_weights,
    sample,
    shuffled,
    state_bytes,
    weight_groups,
)
from trueoracle.search import Budget, Hunt
from trueoracle.study.ratios import RatioJudge, search_ratios
from trueoracle.words.mask import WeightMask
from trueoracle.words.progress import bars
from trueoracle.words.shape import InputShape, NoiseShape
from trueoracle.words.spec import Recipe

MODEL, TRAINED, SIZES, KS = "unet2d-condition-mini", 16, (8, 12, 16, 24, 32), (1.0, 1.25, 1.5, 2.0)
LIGHTLY = 0.01  # of a weight's magnitude: noise on all weights that may go, for amplification without pruning
TEST_IMAGES = 1_000  # real images that pictures are compared with
SUBSETS = 50  # halves that the spread of a KID is taken over
DRAWN = (("dense", 1.0), ("cr-diff", 1.0), ("cr-diff", 1.5), ("random 0", 1.0), ("retrained", 1.0), ("dense, on", 1.0))


class Recorded(nn.Module):
    """Asks its network and keeps what it says."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.said = net, torch.empty(0)

    def forward(self, images_BCHW: Tensor, level_B: Tensor) -> Tensor:
        self.said = self.net(images_BCHW, level_B)
        return self.said


class Says(nn.Module):
    """Says what was said."""

    def __init__(self, said: Tensor) -> None:
        super().__init__()
        self.said = nn.Parameter(said)

    def forward(self, _images_BCHW: Tensor, _level_B: Tensor) -> Tensor:
        return self.said


class Classifier(nn.Module):
    """Two convolutions and two linear layers, whose 64 features pictures are compared by."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(32 * (TRAINED // 4) ** 2, 64), nn.Linear(64, 10)

    def features(self, images_NCHW: Tensor) -> Tensor:
        """(N, 64), before their ReLU."""
        x = F.max_pool2d(F.relu(self.conv1(images_NCHW)), 2)
        features_ND: Tensor = self.fc1(F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1))
        return features_ND

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """(N, 10), logits."""
        logits_NK: Tensor = self.fc2(F.relu(self.features(images_NCHW)))
        return logits_NK


@dataclass
class Experiment:
    """What was asked for on the command line, the images, and everything that is made of them."""

    asked: argparse.Namespace

    @property
    def folder(self) -> Path:
        """Where all is kept."""
        path: Path = self.asked.folder
        return path

    @cached_property
    def images(self) -> Dataset:
        """The dataset without noise."""
        self.folder.mkdir(exist_ok=True, parents=True)
        whole = load_dataset(self.asked.data, api.default_data_dir(), torch.device("cpu"), bars())
        return subset(whole, self.asked.train_images, TEST_IMAGES, 0)

    def at(self, size: int, levels: str = "") -> Dataset:
        """It at this size with noise."""
        return noised(f"denoise:{self.asked.data}@{size}{levels}", self.images)

    def split(self, size: int, *, test: bool) -> Noised:
        """The images at this size that are reported on, or the train images that ratios are chosen on."""
        data = self.at(size)
        images, count = (data.test, self.asked.test_images) if test else (data.train, self.asked.images)
        assert isinstance(images, Noised)
        return images.take(slice(0, count))

    def base(self, number: int) -> nn.Module:
        """A trained UNet."""
        shape = NoiseShape(channels=self.images.shape.channels, height=TRAINED, width=TRAINED)
        net = build(MODEL, shape, seed=number)
        data = self.trained_on(self.asked.train_images, 0)
        return self.trained(f"base-{number}", net, data, recipe(0.002, self.asked.epochs), number)

    def trained_on(self, images: int, seed: int) -> Dataset:
        """So many train images at the size of training, and as few evaluations as may be."""
        return subset(self.at(TRAINED, ":500"), images, self.asked.test_images, seed)

    def trained(self, name: str, net: nn.Module, data: Dataset, how: Recipe, seed: int) -> nn.Module:
        """`net` trained so, once: a mask stays what it is."""
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            with bars().task(f"training {name}", how.epochs, "epochs") as advance:
                trained = train_alone(
                    net, data, how, seed, backend="loop", on_epoch=advance, checkpoints=self.folder
                ).net
            path.write_bytes(state_bytes(trained))
        load_weights(net, path)
        return channels_last(net).eval()

    def on(self, name: str, net: nn.Module, number: int) -> nn.Module:
        """`net` trained on at the size of training, for one short epoch at half the rate."""
        data = self.trained_on(self.asked.retrain_images, number)
        return self.trained(name, copied(net), data, recipe(0.001, 1), 100 + number)

    def mask(self, net: nn.Module, number: int, size: int, method: str = "cr-diff") -> WeightMask:
        """The best that a search of ratios finds for this size."""
        judge = RatioJudge(net=net, images=self.split(size, test=False), groups=weight_groups(net))
        hunt = Hunt(method=method, budget=Budget(evaluations=self.asked.evaluations), seed=number)
        found = search_ratios(judge, hunt, bars(), self.folder / f"{method}-{number}-{size}.jsonl")
        return judge.mask(found.best)

    def nets(self, number: int, size: int) -> Iterator[tuple[str, nn.Module, dict[str, float]]]:
        """What is compared: its name, the network, and the ratios that went, by group."""
        net = self.base(number)
        mask = self.mask(net, number, size)
        yield "dense", net, {}
        yield "cr-diff", mask_weights(net, mask), ratios(mask)
        for method in self.asked.searches:
            other = self.mask(net, number, size, method)
            yield method, mask_weights(net, other), ratios(other)
        yield "chosen at 16", mask_weights(net, self.mask(net, number, TRAINED)), {}
        for draw in range(self.asked.draws):
            yield f"random {draw}", mask_weights(net, shuffled(mask, 1000 * number + draw)), {}
        yield "perturbed", perturbed(net, number), {}
        yield "retrained", self.on(f"retrained-{number}-{size}", mask_weights(net, mask), number), {}
        yield "dense, on", self.on(f"on-{number}", net, number), {}

    def losses(self, number: int) -> Iterator[dict[str, object]]:
        """Losses on test images of everything that is compared, for one base network."""
        for size in SIZES:
            test = self.split(size, test=True)
            dense, dense_N = torch.empty(0), torch.empty(0)
            for what, net, gone in self.nets(number, size):
                said, loss_N = judged(net, test)
                if what == "dense":
                    dense, dense_N = said, loss_N
                for k in KS if what != "dense" else KS[:1]:
                    own_N = test.judge(Says(k * said + (1 - k) * dense)).loss_B.detach()
                    less_N = own_N - dense_N
                    yield {
                        "base": number, "size": size, "what": what, "k": k, "loss": float(own_N.mean()),
                        "less_dense": float(less_N.mean()), "error": float(less_N.std() / len(less_N) ** 0.5), **gone,
                    }  # fmt: skip

    def distances(self, number: int) -> Iterator[dict[str, object]]:
        """KID of pictures at every size, all drawn from the same noise."""
        classifier = self.classifier
        for size in SIZES:
            test = self.at(size).test
            assert isinstance(test, Noised)
            real_MD = features(classifier, test.images_NCHW)
            nets = {what: net for what, net, _ in self.nets(number, size)}
            shape = NoiseShape(channels=test.images_NCHW.shape[1], height=size, width=size)
            for what, k in DRAWN:
                net = Amplified(nets["dense"], nets[what], k)
                drawn = sample(net, shape, self.asked.pictures, steps=self.asked.steps, seed=number)
                value, spread = kid(features(classifier, drawn), real_MD, SUBSETS, seed=0)
                yield {"base": number, "size": size, "what": what, "k": k, "kid": value, "spread": spread}

    @cached_property
    def classifier(self) -> Classifier:
        """Trained on the same train images at 16x16."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = Classifier(self.images.shape.channels)
        data = self.classified
        trained = self.trained("classifier", net, data, recipe(0.002, 8, batch_size=32), 0)
        assert isinstance(trained, Classifier)
        print(f"classifier: {evaluate(trained, data.test).accuracy:.1%} of {len(data.test)} test images right")
        return trained

    @property
    def classified(self) -> Dataset:
        """The images with their classes, at 16x16 and with pixels in [-1, 1], as pictures have them."""
        small = self.at(TRAINED)
        splits = []
        for images, whole in ((small.train, self.images.train), (small.test, self.images.test)):
            assert isinstance(images, Noised)
            assert isinstance(whole, Split)
            splits.append(Split(images_NCHW=images.images_NCHW, labels_N=whole.labels_N))
        shape = InputShape(channels=self.images.shape.channels, height=TRAINED, width=TRAINED, classes=10)
        return Dataset(name="small", shape=shape, train=splits[0], test=splits[1], fingerprint=small.fingerprint)


def recipe(lr: float, epochs: int, batch_size: int = 16) -> Recipe:
    """How all networks here are trained."""
    return Recipe(
        optimiser="adamw", lr=lr, epochs=epochs, batch_size=batch_size, schedule="cosine", weight_decay=0.01,
        gradient_clipping=1.0, evaluate_every=epochs,
    )  # fmt: skip


def ratios(mask: WeightMask) -> dict[str, float]:
    """Which share of every group goes."""
    return {group.site: round(group.pruned / group.units, 3) for group in mask.groups}


@torch.no_grad()
def judged(net: nn.Module, examples: Noised) -> tuple[Tensor, Tensor]:
    """What the network says of all images, and the loss of each."""
    recorded = Recorded(channels_last(net))
    loss_N = examples.judge(recorded).loss_B
    return recorded.said, loss_N


def perturbed(net: nn.Module, seed: int) -> nn.Module:
    """Every weight that may go changed by about a hundredth, none pruned."""
    changed = copied(net)
    chance = torch.Generator().manual_seed(seed)
    for layers in weight_groups(net).values():
        for name in layers:
            weight = changed.get_submodule(name).get_parameter("weight").data
            weight.mul_(1 + LIGHTLY * torch.randn(weight.shape, generator=chance))
    return changed


@torch.no_grad()
def features(classifier: Classifier, images_NCHW: Tensor) -> NDArray[np.float64]:
    """(N, D), of the images brought to the classifier's size."""
    small = F.interpolate(images_NCHW, (TRAINED, TRAINED), mode="bilinear", antialias=True)
    return classifier.features(small).double().numpy()


def over_bases(rows: pd.DataFrame, figure: str, digits: int) -> pd.DataFrame:
    """The mean over the base networks, draws of one base averaged, with its 95% t interval; of one network no interval."""
    rows = rows.assign(
        what=rows["what"].str.replace(r" \d+$", "", regex=True).where(rows["what"] != "chosen at 16", rows["what"])
    )
    of_base = rows.groupby(["what", "k", "size", "base"])[figure].mean().groupby(["what", "k", "size"])
    mean, count = of_base.mean(), of_base.count()
    half = of_base.sem() * stats.t.ppf(0.975, (count - 1).clip(lower=1))
    told = mean.map(f"{{:+.{digits}f}}".format) + half.map(f" ± {{:.{digits}f}}".format).where(count > 1, "")
    return told.unstack("size")


def draw(run: Experiment) -> None:
    """Pictures of the first base network: dense, CR-Diff's ratios, these amplified, and these retrained."""
    for size in SIZES:
        nets = {what: net for what, net, _ in run.nets(0, size)}
        shape = NoiseShape(channels=run.images.shape.channels, height=size, width=size)
        rows = (nets["dense"], nets["cr-diff"], Amplified(nets["dense"], nets["cr-diff"], 1.5), nets["retrained"])
        drawn = torch.cat([sample(each, shape, 8, steps=25, seed=0) for each in rows])
        api.write_grid(api.draw_grid(drawn, columns=8, enlarge=96 // size), run.folder / f"pictures-{size}.png")


def kept(path: Path, rows: Iterator[dict[str, object]]) -> pd.DataFrame:
    """The table at `path`, made where it is not there."""
    if not path.exists():
        pd.DataFrame(rows).to_csv(path, index=False)
    return pd.read_csv(path)


def tell(losses: pd.DataFrame) -> None:
    """What was measured of the networks so far."""
    pd.set_option("display.width", 200)
    dense = losses[losses["what"] == "dense"].groupby("size")["loss"]
    print(dense.agg(["count", "mean", "min", "max"]).to_string(float_format="{:.4f}".format))
    print(over_bases(losses[losses["what"] != "dense"], "less_dense", 4).to_string())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--bases", type=int, default=3)
    parser.add_argument("--train-images", type=int, default=4_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=8, help="train images that ratios are chosen on")
    parser.add_argument("--evaluations", type=int, default=40, help="ratios tried for each size")
    parser.add_argument("--searches", nargs="*", default=[], help="others beside CR-Diff's, such as swaps")
    parser.add_argument("--draws", type=int, default=3, help="random masks of the same ratios")
    parser.add_argument("--retrain-images", type=int, default=800)
    parser.add_argument("--test-images", type=int, default=40, help="that losses are reported on")
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--steps", type=int, default=10, help="from noise to picture")
    torch.set_num_threads(1)
    run = Experiment(parser.parse_args(arguments))
    numbers = range(run.asked.bases)
    losses = pd.concat(kept(run.folder / f"losses-{number}.csv", run.losses(number)) for number in numbers)
    tell(losses)
    print(
        losses.dropna(subset=["mid"])
        .query("k == 1")
        .groupby(["what", "size"])[["down", "mid", "up"]]
        .mean()
        .to_string()
    )
    distances = pd.concat(kept(run.folder / f"kid-{number}.csv", run.distances(number)) for number in numbers)
    print(over_bases(distances, "kid", 2).to_string())
    dense = distances[distances["what"] == "dense"].set_index(["base", "size"])["kid"]
    less = distances.assign(
        less=distances["kid"] - dense.reindex(pd.MultiIndex.from_frame(distances[["base", "size"]])).to_numpy()
    )
    print(over_bases(less[less["what"] != "dense"], "less", 2).to_string())
    draw(run)


if __name__ == "__main__":
    main()
