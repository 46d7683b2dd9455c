"""What a GPU does with fleets: is it right, how fast, and what of the machine is used. At most `--minutes`.

python benchmarks/gpu.py --output FOLDER [--minutes 8] [--device cpu] [--tiny] [SECTION ...]

Every section runs in a process of its own, for a failed capture or a full memory can spoil a process for all that comes
after; what a section found so far is in `FOLDER/gpu.json` whenever it ends, fails or runs out of time. Images are random
numbers of MNIST's and CIFAR-10's size, for speed does not depend on them; the `study` alone reads real ones, the 1,797
digits. Figures are medians; seconds of an epoch are those of 60,000 or 50,000 images, from as many steps as there is
time for. On a CPU the same code runs, which is how it is tested; its figures then say nothing.

Letters: N networks, B batch.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trueoracle import pruned_losses
from trueoracle.api import Study, find_device
from trueoracle.data import Dataset, Split, images_of
from trueoracle.fleet import train, train_fleet
from trueoracle.fleet.stacked import StackedFleet, bytes_a_network, fleet_size, tf32
from trueoracle.nets import build, channels_last, cost, evaluate
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import Recipe

Facts = dict[str, Any]
Found = Iterator[tuple[str, Facts]]

SGD = Recipe(optimiser="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4, batch_size=256, epochs=1)


@dataclass(frozen=True, kw_only=True)
class Work:
    """A network on images of some size, trained as studies train it; `images` are those of an epoch."""

    model: str
    shape: InputShape
    images: int
    recipe: Recipe
    fleets: tuple[int, ...]

    def nets(self, count: int, device: torch.device) -> list[nn.Module]:
        """Networks of different weights."""
        return [build(self.model, self.shape, seed=seed).to(device) for seed in range(count)]


WORKS = {
    "lenet5-mini": Work(
        model="lenet5-mini",
        shape=InputShape(channels=1, height=32, width=32, classes=10),
        images=60_000,
        recipe=SGD,
        fleets=(1, 4, 16, 64, 256),
    ),
    "resnet56": Work(
        model="resnet56",
        shape=InputShape(channels=3, height=32, width=32, classes=10),
        images=50_000,
        recipe=SGD.model_copy(update={"batch_size": 128}),
        fleets=(1, 4, 8, 16),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where sections run, and how long each measurement may take, in seconds."""

    device: torch.device
    tiny: bool
    seconds: float

    def works(self) -> dict[str, Work]:
        """What is measured; `tiny`, with the smallest numbers that go the same way."""
        if not self.tiny:
            return WORKS
        recipe = SGD.model_copy(update={"batch_size": 4})
        named = {"lenet5-mini": WORKS["lenet5-mini"], "resnet20": replace(WORKS["resnet56"], model="resnet20")}
        return {name: replace(work, recipe=recipe, fleets=(2,)) for name, work in named.items()}

    def data(self, work: Work, device: torch.device | None = None) -> Dataset:
        """Random images: enough for several batches, the last a smaller one."""
        train, test = (10, 6) if self.tiny else (10_000, 2_000)
        return noise(work.shape, train, test, device or self.device)

    def wait(self) -> None:
        """Until the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def time(self, work: Callable[[], object], times: int = 1) -> float:
        """Median seconds of one call, of as many rounds of `times` calls as there is time for."""
        rounds: list[float] = []
        work()
        self.wait()
        began = perf_counter()
        while len(rounds) < 3 or (perf_counter() - began < self.seconds and len(rounds) < 50):
            start = perf_counter()
            for _ in range(times):
                work()
            self.wait()
            rounds.append((perf_counter() - start) / times)
        return median(rounds)


def machine(setting: Setting) -> Found:
    """The device and what it reaches: products of matrices, and copies counting bytes read and written."""
    facts: Facts = {"python": platform.python_version(), "torch": torch.__version__, "device": setting.device.type}
    if setting.device.type == "cuda":
        about = torch.cuda.get_device_properties(setting.device)
        facts |= {"name": about.name, "memory_gb": about.total_memory / 1e9, "cuda": torch.version.cuda}
    yield "device", facts
    yield "ceilings", ceilings(setting)


def ceilings(setting: Setting) -> Facts:
    """TFLOP/s of large products in each precision, TB/s of a large copy."""
    side, numbers = (64, 2**10) if setting.tiny else (8192, 2**30)
    found: Facts = {}
    for precision, dtype in (("float32", torch.float32), ("tf32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = (torch.randn(side, side, device=setting.device, dtype=dtype) for _ in range(2))
        with tf32(precision == "tf32"):
            found[f"{precision}_tflops"] = 2 * side**3 / setting.time(partial(torch.mm, a, b)) / 1e12
    source = torch.randn(numbers, device=setting.device)
    target = torch.empty_like(source)
    found["copy_tbs"] = 2 * source.numel() * source.element_size() / setting.time(partial(target.copy_, source)) / 1e12
    return found


def equality(setting: Setting) -> Found:
    """Fleets on the device against the plain loop on a CPU.

    In float64 three networks trained, the third made to diverge; in float32 a network's loss.
    """
    cpu = torch.device("cpu")
    for name, work in (
        ("lenet5-mini", WORKS["lenet5-mini"]),
        ("resnet20", replace(WORKS["resnet56"], model="resnet20")),
    ):
        images = (10, 6) if setting.tiny else (100, 50)
        here, there = (doubled(noise(work.shape, *images, device)) for device in (cpu, setting.device))
        nets = [net.double() for net in work.nets(3, cpu)]
        recipe = work.recipe.model_copy(update={"epochs": 2, "batch_size": 4 if setting.tiny else 64})
        recipes = [recipe, recipe.model_copy(update={"lr": 0.001}), recipe.model_copy(update={"lr": 1e30})]
        fleet = train_fleet([net.to(setting.device) for net in nets], there, recipes, 0, backend="stacked")
        alone = [train(net.cpu(), here, own, 0) for net, own in zip(nets, recipes, strict=True)]
        pairs = list(zip(fleet, alone, strict=True))[:2]
        yield (
            f"{name}, float64",
            {
                "largest_difference_of_weights": max(difference(a.net.cpu(), b.net) for a, b in pairs),
                "largest_difference_of_losses": max(
                    abs(x.train_loss - y.train_loss) for a, b in pairs for x, y in zip(a.curve, b.curve, strict=True)
                ),
                "outcomes": [[a.outcome.name, b.outcome.name] for a, b in zip(fleet, alone, strict=True)],
            },
        )
        single = work.nets(1, cpu)[0]
        losses = [
            evaluate(single.to(device), noise(work.shape, *images, device).train).loss
            for device in (cpu, setting.device)
        ]
        yield f"{name}, float32", {"losses": losses, "relative_difference": abs(losses[1] / losses[0] - 1)}


def graphs(setting: Setting) -> Found:
    """A step captured once and replayed against the same step one kernel at a time."""
    for name, work in setting.works().items():
        data = setting.data(work)
        for count in dict.fromkeys((work.fleets[0], work.fleets[len(work.fleets) // 2])):
            fleets = {how: make_fleet(work, count, data, capture=how == "captured") for how in ("captured", "eager")}
            batch = first_batch(work, data)
            for fleet in fleets.values():
                for _ in range(3):
                    fleet.step(batch, (0, 0, 1), never)
            apart = difference(fleets["captured"].member(0), fleets["eager"].member(0))
            spent = {
                how: setting.time(partial(fleet.step, batch, (0, 0, 1), never), 5) for how, fleet in fleets.items()
            }
            yield (
                f"{name}, {count} networks",
                {
                    **{f"{how}_step_ms": 1e3 * seconds for how, seconds in spent.items()},
                    "ratio": spent["eager"] / spent["captured"],
                    "largest_difference_of_weights_after_3_steps": apart,
                },
            )


def fleets(setting: Setting) -> Found:
    """Fleets against the plain loop, one network at a time on the same device."""
    reached = ceilings(setting)
    for name, work in setting.works().items():
        data = setting.data(work)
        alone = loop_seconds(setting, work, data)
        yield f"{name}, plain loop", alone
        for count in work.fleets:
            clear()
            before = allocated(setting.device)
            fleet = make_fleet(work, count, data)
            step = setting.time(partial(fleet.step, first_batch(work, data), (0, 0, 1), never), 5)
            peak = most_allocated(setting.device)
            judged = setting.time(partial(fleet.evaluate, never)) * work.images / (len(data.train) + len(data.test))
            epoch = step * -(-work.images // work.recipe.batch_size)
            images = count * work.recipe.batch_size
            flops = images * (3 * 2 * cost(work.nets(1, torch.device("cpu"))[0], work.shape).macs)
            # What backward needs is written once and read once at the least; a fleet that does no more is at 1.
            traffic = 2 * count * bytes_a_network(work.nets(1, setting.device)[0], data, work.recipe.batch_size)
            yield (
                f"{name}, fleet of {count}",
                {
                    "models_epochs_a_second": count / epoch,
                    "ratio_to_plain_loop": count / epoch / alone["models_epochs_a_second"],
                    "evaluated_models_epochs_a_second": count / judged,
                    "evaluation_ratio_to_plain_loop": count / judged / alone["evaluated_models_epochs_a_second"],
                    "step_ms": 1e3 * step,
                    "memory_mb_a_network": (peak - before) / count / 1e6,
                    "share_of_float32_peak": flops / step / 1e12 / reached["float32_tflops"],
                    "share_of_bandwidth_at_least": traffic / step / 1e12 / reached["copy_tbs"],
                },
            )
            del fleet


def sizes(setting: Setting) -> Found:
    """The size that is chosen from free memory, the estimate behind it, and whether such a fleet trains."""
    for name, work in setting.works().items():
        data = setting.data(work)
        net = work.nets(1, setting.device)[0]
        estimated = bytes_a_network(net, data, work.recipe.batch_size)
        size = fleet_size(net, data, work.recipe.batch_size)
        facts: Facts = {"chosen_size": size, "estimated_mb_a_network": estimated / 1e6}
        yield name, facts
        count = min(size, work.fleets[-1] if setting.tiny else 2048)  # thousands of modules take minutes to be made
        clear()
        before = allocated(setting.device)
        fleet = make_fleet(work, count, data)
        for _ in range(3):
            fleet.step(first_batch(work, data), (0, 0, 1), never)
        fleet.evaluate(never)
        setting.wait()
        taken = (most_allocated(setting.device) - before) / count
        yield (
            name,
            facts
            | {
                "trained_size": count,
                "real_mb_a_network": taken / 1e6,
                "estimated_over_real": estimated / taken if taken else None,
            },
        )
        del fleet


def convolution(setting: Setting) -> Found:
    """Steps with grouped convolutions, as vmap makes them, against products of unfolded images."""
    for name, work in setting.works().items():
        data = setting.data(work)
        for count in work.fleets[-1:] if setting.tiny else work.fleets[2:5]:
            spent, weights = {}, {}
            for way in WAYS:
                clear()
                nets = [convolving(net, way) for net in work.nets(count, setting.device)]
                fleet = StackedFleet(nets, data, [work.recipe] * count)
                fleet.set_rates([work.recipe.lr] * count)
                fleet.step(first_batch(work, data), (0, 0, 1), never)
                weights[way] = fleet.member(0)
                spent[way] = setting.time(partial(fleet.step, first_batch(work, data), (0, 0, 1), never), 5)
                del fleet, nets
            yield (
                f"{name}, {count} networks",
                {
                    **{f"{way}_step_ms": 1e3 * seconds for way, seconds in spent.items()},
                    "largest_difference_of_weights_after_a_step": max(
                        difference(weights["grouped"], weights[way]) for way in ("columns", "rows")
                    ),
                },
            )


def kernels(setting: Setting) -> Found:
    """Where the time of a step goes: the kernels that take most of it, in ms a step."""
    for name, work in setting.works().items():
        data = setting.data(work)
        count = work.fleets[len(work.fleets) // 2]
        fleet = make_fleet(work, count, data, capture=False)
        fleet.step(first_batch(work, data), (0, 0, 1), never)
        kind = torch.profiler.ProfilerActivity
        watched = [kind.CPU, kind.CUDA] if setting.device.type == "cuda" else [kind.CPU]
        with torch.profiler.profile(activities=watched) as profile:
            for _ in range(3):
                fleet.step(first_batch(work, data), (0, 0, 1), never)
            setting.wait()
        own = {
            event.key[:90]: (
                event.self_device_time_total if setting.device.type == "cuda" else event.self_cpu_time_total
            )
            for event in profile.key_averages()
        }
        most = sorted(own.items(), key=lambda item: -item[1])[:16]
        yield f"{name}, {count} networks", {key: round(micros / 3e3, 4) for key, micros in most}


def precision(setting: Setting) -> Found:
    """A step in each precision that a recipe can ask for: its time, and its error against float64."""
    for name, work in setting.works().items():
        data = setting.data(work)
        count = work.fleets[len(work.fleets) // 2]
        exact = one_step(work, [net.double() for net in work.nets(2, setting.device)], doubled(data), work.recipe)
        for kind in ("float32", "tf32", "bfloat16") if setting.device.type == "cuda" else ("float32", "bfloat16"):
            clear()
            recipe = work.recipe.model_copy(update={"precision": kind})
            changed = one_step(work, work.nets(2, setting.device), data, recipe)
            fleet = make_fleet(replace(work, recipe=recipe), count, data)
            step = setting.time(partial(fleet.step, first_batch(work, data), (0, 0, 1), never), 5)
            error = float((changed.double() - exact).norm() / exact.norm())
            yield f"{name}, {count} networks, {kind}", {"step_ms": 1e3 * step, "relative_error_of_a_step": error}
            del fleet


def study(setting: Setting) -> Found:
    """A study on the device from its base network to its last trial, and the oracle's losses there and on a CPU."""
    device = setting.device.type
    with tempfile.TemporaryDirectory() as folder:
        changes = {"train.epochs": 2, "train.milestones": [1], "retrain.epochs": 2, "retrain.milestones": [1],
                   "cells": [{"prune": {"conv1": 0.5}, "draw": 6 if setting.tiny else 64}]}  # fmt: skip
        url = f"sqlite:///{folder}/store.db"
        conducted = Study("quickstart", set=changes, store=url, device=device, backend="stacked", progress=Quiet())
        began = monotonic()
        status = conducted.run()
        yield "quickstart", {"trials": status.finished, "failed": status.failed, "seconds": monotonic() - began}
    net = build("lenet5-mini", WORKS["lenet5-mini"].shape, seed=0)
    losses = [
        pruned_losses(net, None, "digits", {"conv2": 0.2}, device=place, progress=Quiet())["pruned_train_loss"]
        for place in ("cpu", device)
    ]
    yield "oracle, 45 masks", {"largest_difference_of_losses": float((losses[0] - losses[1]).abs().max())}


SECTIONS = {
    section.__name__: section
    for section in (machine, convolution, kernels, precision, fleets, sizes, study, graphs, equality)
}


class Columns(nn.Conv2d):
    """A convolution as a product of its weights with unfolded images, a column a place."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, filters, height, width)."""
        windows_BChwij = unfolded(x, self)
        columns_BFP = windows_BChwij.permute(0, 1, 4, 5, 2, 3).flatten(1, 3).flatten(2)
        y = torch.matmul(self.weight.flatten(1), columns_BFP).unflatten(2, windows_BChwij.shape[2:4])
        return y if self.bias is None else y + self.bias[:, None, None]


class Rows(nn.Conv2d):
    """A convolution as a product of unfolded images with its weights, a row a place."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, filters, height, width)."""
        windows_BChwij = unfolded(x, self)
        rows_PF = windows_BChwij.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
        places = (len(x), *windows_BChwij.shape[2:4])
        y = torch.mm(rows_PF, self.weight.flatten(1).t()).unflatten(0, places).permute(0, 3, 1, 2).contiguous()
        return y if self.bias is None else y + self.bias[:, None, None]


def unfolded(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """The windows that the layer sees, (B, C, height, width, kernel, kernel): a view but for the padding."""
    (pad, stride, kernel) = (int(layer.padding[0]), layer.stride[0], layer.kernel_size[0])
    return F.pad(x, (pad, pad, pad, pad)).unfold(2, kernel, stride).unfold(3, kernel, stride)


WAYS: dict[str, type[nn.Conv2d]] = {"grouped": nn.Conv2d, "columns": Columns, "rows": Rows}


def convolving(net: nn.Module, way: str) -> nn.Module:
    """`net` itself, its convolutions computed in this way."""
    for layer in net.modules():
        if type(layer) is nn.Conv2d:
            layer.__class__ = WAYS[way]
    return net


def loop_seconds(setting: Setting, work: Work, data: Dataset) -> Facts:
    """One network in a loop tuned for a GPU: images on it, channels-last weights, a fused optimiser."""
    net = channels_last(work.nets(1, setting.device)[0]).train()
    recipe = work.recipe
    optimiser = torch.optim.SGD(
        net.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )
    batch_B = first_batch(work, data)
    split = images_of(data.train)

    def step() -> None:
        loss = F.cross_entropy(net(split.images_NCHW[batch_B]), split.labels_N[batch_B])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    seconds = setting.time(step, 5)
    judged = sum(setting.time(partial(evaluate, net, part)) for part in (data.train, data.test))
    return {
        "models_epochs_a_second": 1 / (seconds * -(-work.images // recipe.batch_size)),
        "evaluated_models_epochs_a_second": (len(data.train) + len(data.test)) / judged / work.images,
        "step_ms": 1e3 * seconds,
    }


def make_fleet(work: Work, count: int, data: Dataset, *, capture: bool = True) -> StackedFleet:
    """A fleet that is ready to step."""
    fleet = StackedFleet(work.nets(count, data.device), data, [work.recipe] * count, capture=capture)
    fleet.set_rates([work.recipe.lr] * count)
    return fleet


def one_step(work: Work, nets: list[nn.Module], data: Dataset, recipe: Recipe) -> Tensor:
    """How a step changes the first network's weights."""
    before = flat(nets[0])
    fleet = StackedFleet(nets, data, [recipe] * len(nets))
    fleet.set_rates([recipe.lr] * len(nets))
    fleet.step(first_batch(work, data), (0, 0, 1), never)
    return flat(fleet.member(0)) - before


def first_batch(work: Work, data: Dataset) -> Tensor:
    """Places of a whole batch."""
    return torch.arange(work.recipe.batch_size, device=data.device)


def noise(shape: InputShape, train: int, test: int, device: torch.device) -> Dataset:
    """Random images and classes, the same on every device."""
    numbers = torch.Generator().manual_seed(0)
    splits = [
        Split(
            images_NCHW=torch.randn(count, shape.channels, shape.height, shape.width, generator=numbers).to(device),
            labels_N=torch.randint(0, shape.classes, (count,), generator=numbers).to(device),
        )
        for count in (train, test)
    ]
    return Dataset(name="noise", shape=shape, train=splits[0], test=splits[1], fingerprint="")


def doubled(data: Dataset) -> Dataset:
    """The same in float64."""
    train, test = (
        replace(images_of(part), images_NCHW=images_of(part).images_NCHW.double()) for part in (data.train, data.test)
    )
    return replace(data, train=train, test=test)


def flat(net: nn.Module) -> Tensor:
    """All weights in a row."""
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])


def difference(a: nn.Module, b: nn.Module) -> float:
    """The largest difference of two networks' weights, in units of the largest weight."""
    return float((flat(a) - flat(b)).abs().max() / flat(b).abs().max())


def never() -> bool:
    """Nobody asks for an end."""
    return False


def clear() -> None:
    """Forget the memory that former fleets took, and its highest mark."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def allocated(device: torch.device) -> int:
    """Bytes in use on a GPU; 0 on a CPU, which counts none."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def most_allocated(device: torch.device) -> int:
    """The most bytes in use at once since `clear`; 0 on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def main() -> None:
    """Run the sections asked for, each in a process of its own, and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"default: all of {', '.join(SECTIONS)}")
    parser.add_argument("--output", type=Path, required=True, help="the folder of gpu.json")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything together")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="the smallest numbers that go the same way")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if unknown := sorted({*asked.sections} - {*SECTIONS}):
        parser.error(f"unknown section `{unknown[0]}`: known are {', '.join(SECTIONS)}")
    asked.output.mkdir(parents=True, exist_ok=True)
    if asked.alone:
        setting = Setting(device=find_device(asked.device), tiny=asked.tiny, seconds=0.0 if asked.tiny else 0.5)
        run_section(asked.sections[0], setting, asked.output)
        return
    end = monotonic() + 60 * asked.minutes
    names = asked.sections or list(SECTIONS)
    for name in names:
        supervise(name, asked, end)
        print_section(name, read(asked.output)[name])


def run_section(name: str, setting: Setting, folder: Path) -> None:
    """One section in this process; each case is kept as soon as it is found."""
    torch.set_num_threads(1)
    for case, facts in SECTIONS[name](setting):
        keep(folder, name, case, facts)


def supervise(name: str, asked: argparse.Namespace, end: float) -> None:
    """A section in a process of its own, until `end` at the latest; how it ended otherwise than well is kept, too."""
    command = [sys.executable, __file__, name, "--alone", "--output", str(asked.output), "--device", asked.device]
    began = monotonic()
    if began >= end:
        return keep(asked.output, name, "problem", {"what": "no time was left"})
    try:
        done = subprocess.run(
            [*command, *(["--tiny"] if asked.tiny else [])],
            stderr=subprocess.PIPE,
            text=True,
            timeout=end - began,
            check=False,
        )
        problem = " | ".join(done.stderr.strip().splitlines()[-12:]) if done.returncode else ""
    except subprocess.TimeoutExpired:
        problem = "the time was over"
    if problem:
        keep(asked.output, name, "problem", {"what": problem})
    return keep(asked.output, name, "whole", {"seconds": monotonic() - began})


def keep(folder: Path, section: str, case: str, facts: Facts) -> None:
    """Put a case into the folder's file, which is never seen half-written."""
    found = read(folder)
    found.setdefault(section, {})[case] = facts
    partial_file = folder / ".gpu.json.partial"
    partial_file.write_text(json.dumps(found, indent=2))
    partial_file.replace(folder / "gpu.json")


def read(folder: Path) -> dict[str, dict[str, Facts]]:
    """What was found so far: section -> case -> facts."""
    file = folder / "gpu.json"
    return json.loads(file.read_text()) if file.exists() else {}


def print_section(name: str, cases: dict[str, Facts]) -> None:
    """A paragraph a section, a line a case."""
    print(f"\n{name}: {(SECTIONS[name].__doc__ or '').splitlines()[0]}")
    for case, facts in cases.items():
        shown = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in facts.items())
        print(f"  {case}: {', '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
