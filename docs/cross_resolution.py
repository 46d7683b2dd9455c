"""CR-Diff's question at small scale: does a UNet tell noise better at sizes it was not trained at without some weights?

    python docs/cross_resolution.py FOLDER [--bases 3 ...]

UNets are trained on MNIST at 16x16. For every base network and size, ratios are searched on train images; the loss of
noise is then taken on test images, which have noise of their own. What is done is kept in FOLDER, and a second call
goes on from there. Told in docs/cross-resolution.md.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from trueoracle import api
from trueoracle.data import Dataset, Noised, load_dataset, noised, subset
from trueoracle.fleet import train_alone
from trueoracle.nets import Amplified, build, load_weights, sample, shuffled, smallest, state_bytes, without
from trueoracle.search import Budget, Hunt, ratios_of
from trueoracle.study.ratios import SPACE, RatioJudge, search_ratios
from trueoracle.words.progress import Bars
from trueoracle.words.shape import NoiseShape
from trueoracle.words.spec import Recipe

MODEL, TRAINED, SIZES, KS = "unet2d-condition-mini", 16, (8, 12, 16, 24, 32), (1.0, 1.25, 1.5, 2.0)
LIGHTLY = 0.01  # of a weight's magnitude: noise on all weights that may go, for amplification without pruning


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


class Experiment:
    """What was asked for on the command line, and the images."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked, self.folder, self.bars = asked, asked.folder, Bars()
        self.folder.mkdir(exist_ok=True, parents=True)
        whole = load_dataset("mnist", api.default_data_dir(), torch.device("cpu"), self.bars)
        self.mnist = subset(whole, asked.train_images, asked.test_images, 0)

    def at(self, size: int, levels: str = "") -> Dataset:
        """MNIST at this size with noise."""
        return noised(f"denoise:mnist@{size}{levels}", self.mnist)

    def chosen_on(self, size: int) -> Noised:
        """The train images that ratios are chosen on."""
        train = self.at(size).train
        assert isinstance(train, Noised)
        return train.take(slice(0, self.asked.images))

    def base(self, number: int) -> nn.Module:
        """A trained UNet."""
        path = self.folder / f"base-{number}.safetensors"
        shape = NoiseShape(channels=1, height=TRAINED, width=TRAINED)
        net = build(MODEL, shape, seed=number)
        if not path.exists():
            recipe = Recipe(
                optimiser="adamw", lr=0.002, epochs=self.asked.epochs, batch_size=32, schedule="cosine",
                weight_decay=0.01, gradient_clipping=1.0,
            )  # fmt: skip
            with self.bars.task(f"training base network {number}", recipe.epochs, "epochs") as advance:
                trained = train_alone(
                    net, self.at(TRAINED, ":500"), recipe, number, on_epoch=advance, checkpoints=self.folder
                )
            path.write_bytes(state_bytes(trained.net))
        load_weights(net, path)
        return net

    def ratios(self, net: nn.Module, number: int, size: int, method: str) -> dict[str, float]:
        """The best ratios that a search finds for this size."""
        judge = RatioJudge(net=net, images=self.chosen_on(size))
        hunt = Hunt(method=method, budget=Budget(evaluations=self.asked.evaluations), seed=number)
        found = search_ratios(judge, hunt, self.bars, self.folder / f"{method}-{number}-{size}.jsonl")
        return ratios_of(SPACE, found.best)

    def rows(self, number: int) -> Iterator[dict[str, object]]:
        """Losses on test images of everything that is compared, for one base network."""
        net = self.base(number)
        found = {
            (method, size): self.ratios(net, number, size, method) for method in self.asked.methods for size in SIZES
        }
        for size in SIZES:
            test = self.at(size).test
            dense, loss_N = self.judged(net, test)
            yield {"base": number, "size": size, "what": "dense", "k": 1.0, "loss": float(loss_N.mean())}
            for what, make in self.others(net, number, size, found):
                other, _ = self.judged(make(), test)
                for k in KS:
                    own_N = test.judge(Says(k * other + (1 - k) * dense)).loss_B.detach()
                    less_N = own_N - loss_N
                    yield {
                        "base": number, "size": size, "what": what, "k": k, "loss": float(own_N.mean()),
                        "less_dense": float(less_N.mean()), "error": float(less_N.std() / len(less_N) ** 0.5),
                        **found.get((what, size), {}),
                    }  # fmt: skip

    def others(
        self, net: nn.Module, number: int, size: int, found: dict[tuple[str, int], dict[str, float]]
    ) -> Iterator[tuple[str, Callable[[], nn.Module]]]:
        """What is compared with the dense network."""
        for method in self.asked.methods:
            mask = smallest(net, found[method, size])
            yield method, lambda mask=mask: without(net, mask)
        mask = smallest(net, found["cr-diff", size])
        yield "random", lambda: without(net, shuffled(mask, number))
        yield "chosen at 16", lambda: without(net, smallest(net, found["cr-diff", TRAINED]))
        yield "perturbed", lambda: perturbed(net, number)

    @staticmethod
    def judged(net: nn.Module, examples: Noised) -> tuple[Tensor, Tensor]:
        """What the network says of all images, and the loss of each."""
        recorded = Recorded(net)
        with torch.no_grad():
            loss_N = examples.judge(recorded).loss_B
        return recorded.said, loss_N


def perturbed(net: nn.Module, seed: int) -> nn.Module:
    """Every weight that may go changed by about a hundredth, none pruned."""
    everything = {"down": 0.0, "mid": 0.0, "up": 0.0}
    changed = without(net, {})
    chance = torch.Generator().manual_seed(seed)
    for name in smallest(net, everything):
        weight = changed.model.get_submodule(name).weight.data
        weight.mul_(1 + LIGHTLY * torch.randn(weight.shape, generator=chance))
    return changed


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Of every comparison the mean over the base networks of loss less the dense one's, with its 95% t interval.

    Of a single base network, the interval is that over images.
    """
    of_all = rows[rows["what"] != "dense"].groupby(["what", "k", "size"])
    compared = of_all["less_dense"]
    if rows["base"].nunique() > 1:
        half = compared.sem() * stats.t.ppf(0.975, compared.count() - 1)
    else:
        half = 1.96 * of_all["error"].first()
    mean = compared.mean()
    told = mean.map("{:+.4f}".format) + " ± " + half.map("{:.4f}".format)
    return told.unstack("size")


def draw(run: Experiment, rows: pd.DataFrame) -> None:
    """Pictures of the first base network: dense, CR-Diff's ratios, and these amplified."""
    net = run.base(0)
    for size in SIZES:
        own = rows[(rows["base"] == 0) & (rows["size"] == size) & (rows["what"] == "cr-diff")].iloc[0]
        pruned = without(net, smallest(net, {group: own[group] for group in ("down", "mid", "up")}))
        shape = NoiseShape(channels=1, height=size, width=size)
        nets = (net, pruned, Amplified(net, pruned, 1.5))
        drawn = torch.cat([sample(each, shape, 8, steps=25, seed=0) for each in nets])
        api.write_grid(api.draw_grid(drawn, columns=8, enlarge=96 // size), run.folder / f"pictures-{size}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bases", type=int, default=3)
    parser.add_argument("--train-images", type=int, default=60_000)
    parser.add_argument("--test-images", type=int, default=1_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=100, help="that ratios are chosen on")
    parser.add_argument("--evaluations", type=int, default=120)
    parser.add_argument("--methods", nargs="+", default=["cr-diff", "swaps"])
    torch.set_num_threads(1)
    run = Experiment(parser.parse_args())
    tables = []
    for number in range(run.asked.bases):
        path = run.folder / f"losses-{number}.csv"
        if not path.exists():
            pd.DataFrame(run.rows(number)).to_csv(path, index=False)
        tables.append(pd.read_csv(path))
    rows = pd.concat(tables)
    rows.to_csv(run.folder / "losses.csv", index=False)
    dense = rows[rows["what"] == "dense"].groupby("size")["loss"]
    print(dense.agg(["mean", "min", "max"]).to_string(float_format="{:.4f}".format))
    print(summary(rows).to_string())
    draw(run, rows)


if __name__ == "__main__":
    main()
