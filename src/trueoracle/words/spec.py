"""What a study is: one tree of facts, checked once, from which everything else follows.

A study's identity is the SHA-256 of its canonical form. Neutral defaults are left out of that form, so a key
added later with a neutral default keeps every old identity; whoever changes a default breaks identities.
"""

import json
from collections.abc import Mapping
from fractions import Fraction
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from re import fullmatch
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from trueoracle.words.errors import SpecError, unknown
from trueoracle.words.trial import FinalProtocol, Scale

SCHEMA: Literal[1] = 1

NOISE = "denoise:"
"""What the names of datasets begin with that ask for the noise in images."""

Positive = Annotated[int, Field(ge=1, lt=2**31)]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, field: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(field.field_name)].annotation is not bool:
            raise ValueError(f"the key takes neither true nor false, but got {str(value).lower()}")
        return value


class RandAugment(_Facts):
    """RandAugment (arXiv 1909.13719): `operations` random changes of each image, of strength `magnitude` out of 30."""

    operations: Positive
    magnitude: int = Field(ge=1, le=29)


class Augmentation(_Facts):
    """Random changes of the images that are trained on, in the order of these keys; what is evaluated never changes.

    `crop_padding` cuts the image's own size out of it with so many black pixels on each side. `resized_crop` cuts out
    a part of at least this share of the area, of aspect 3:4 to 4:3, and scales it to the network's size. `flip`
    mirrors every second image, left to right.
    """

    crop_padding: int = Field(default=0, ge=0)
    resized_crop: float | None = Field(default=None, gt=0, le=1)
    flip: bool = False
    rand_augment: RandAugment | None = None

    @model_validator(mode="after")
    def _one_crop(self) -> Self:
        if self.crop_padding and self.resized_crop is not None:
            raise ValueError("`crop_padding` and `resized_crop` are two ways to crop: give one")
        return self


class LowRank(_Facts):
    """LoRA (arXiv 2106.09685): instead of a weight, a product of two matrices of this rank is trained and added to it.

    `targets` are the ends of the names of the linear layers that are trained so, such as `q_proj`; all other weights
    stay as they are. The product is scaled by `alpha` / `rank`.
    """

    rank: Positive
    alpha: Positive
    targets: tuple[str, ...] = Field(min_length=1)


class Distillation(_Facts):
    """Learning from the dense network beside the classes (arXiv 1503.02531): the loss is (1 - `weight`) times the cross-entropy
    and `weight` times the divergence of the network's answers from the dense network's, both softened by `temperature`.
    """

    weight: float = Field(gt=0, le=1)
    temperature: float = Field(gt=0)


class Recipe(_Facts):
    """How a network is trained or retrained: mini-batches of shuffled images, cross-entropy.

    `lr` holds from the first epoch. With `schedule: step` it is multiplied by `factor` from each epoch in
    `milestones` on (epochs count from 0); with `cosine` it falls from `lr` to 0 along half a cosine, a step
    an epoch. In the first `warmup_epochs` it rises linearly instead, and the cosine begins after them.
    `keep` says which epoch's weights come out of the training. `steps` ends it earlier, after so
    many steps of the optimiser; the curve then ends there. Every split is evaluated after each `evaluate_every`-th epoch:
    the curve has no others, and so no other is a best one, or is noticed to have diverged. `precision` is that of products while training; weights,
    losses and every evaluation are float32 at all times.

    `label_smoothing` gives this share of every target to all classes alike. `mixup` and `cutmix` mix each batch with
    itself in another order, at a share drawn from Beta(a, a) for the number a given; with both, each batch takes one
    of them at random. `gradient_clipping` is the largest norm that the gradient of all weights together may have.
    `lora` trains few numbers instead of all weights. With `distill` the dense network teaches: for `retrain` and `early`.
    """

    optimiser: Literal["sgd", "adamw"]
    lr: float = Field(gt=0)
    epochs: Positive
    batch_size: Positive
    momentum: float = Field(default=0.0, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["constant", "step", "cosine"] = "constant"
    milestones: tuple[Positive, ...] = ()
    factor: float = Field(default=0.1, gt=0, le=1)
    warmup_epochs: int = Field(default=0, ge=0)
    gradient_clipping: float | None = Field(default=None, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augmentation: Augmentation = Augmentation()
    mixup: float | None = Field(default=None, gt=0)
    cutmix: float | None = Field(default=None, gt=0)
    lora: LowRank | None = None
    distill: Distillation | None = None
    keep: Literal["last", "best_on_test", "best_on_validation"] = "last"
    steps: Positive | None = None
    evaluate_every: Positive = 1
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        if bool(self.milestones) != (self.schedule == "step"):
            raise ValueError("`milestones` and `schedule: step` go together")
        if any(a >= b for a, b in pairwise(self.milestones)):
            raise ValueError(f"`milestones` must rise, but got {list(self.milestones)}")
        if self.optimiser == "adamw" and self.momentum:
            raise ValueError("`momentum` belongs to `optimiser: sgd`")
        if self.nesterov and not self.momentum:
            raise ValueError("`nesterov` needs a `momentum` above 0")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"`warmup_epochs` must lie below `epochs`, {self.epochs}, but got {self.warmup_epochs}")
        if self.epochs % self.evaluate_every:
            raise ValueError(f"`evaluate_every` must divide `epochs`, {self.epochs}, but got {self.evaluate_every}")
        if self.evaluate_every > 1 and self.steps is not None:
            raise ValueError("`evaluate_every` is for whole epochs, but `steps` end the training within one: give one")
        return self

    def epochs_begun(self, images: int) -> int:
        """How many epochs of so many images the training begins: all, or fewer where `steps` end it earlier."""
        an_epoch = -(-images // self.batch_size)
        return self.epochs if self.steps is None else min(self.epochs, -(-self.steps // an_epoch))

    @property
    def for_images(self) -> tuple[str, ...]:
        """The keys in use that only training on images and classes knows."""
        keys = ("augmentation", "label_smoothing", "mixup", "cutmix", "distill")
        return tuple(key for key in keys if getattr(self, key) != type(self).model_fields[key].default)


class SearchSpec(_Facts):
    """Masks that are searched for: within so many `evaluations` by `method`, the `keep` of lowest pruned train loss.

    Masks that the cell draws are not among those kept: they are retrained anyway.
    """

    method: str = "swaps"
    evaluations: Positive
    keep: Positive = 1

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.keep > self.evaluations:
            raise ValueError(f"`keep` must not exceed `evaluations`, {self.evaluations}, but got {self.keep}")
        return self


class TailSpec(_Facts):
    """Masks drawn stratified over the pruned train loss: `masks` more than the drawn ones, out of `of` that are evaluated.

    Those drawn are among the `of`. Strata halve towards the low losses, and each gives equally many masks.
    """

    masks: Positive
    of: Positive


class CellSpec(_Facts):
    """One line of the results table: what is pruned and at which ratio; all masks, or those of `draw`, `tail`, `search` and `masks`.

    `prune` says of sites which share of their units goes. `weights` says of layers instead, by name or glob, which share of
    their single weights is held at zero (0.5), or by which pattern along the inputs ("2:4": two of every four stay). A
    share holds in each layer; with `pooled`, for all the layers of a glob together.

    `draw` masks are drawn at random; `tail` adds ones drawn where the loss is low, `search` ones of low loss, `masks` those of
    these ranks, and `criteria`, of weights, those that these give. These are no random sample: statistics leave them out, or
    weigh those of `tail`.
    """

    prune: dict[str, float] = {}
    weights: dict[str, float | str] = {}
    pooled: bool = False
    draw: Positive | None = None
    tail: TailSpec | None = None
    search: SearchSpec | None = None
    masks: tuple[Annotated[int, Field(ge=0)], ...] = ()
    criteria: tuple[str, ...] = ()

    @field_validator("prune")
    @classmethod
    def _ratios(cls, prune: dict[str, float]) -> dict[str, float]:
        for site, ratio in prune.items():
            if not 0 < ratio < 1:
                raise ValueError(f"the ratio of `{site}` must lie in (0, 1), but got {ratio}")
        return prune

    @field_validator("weights")
    @classmethod
    def _ratios_or_patterns(cls, weights: dict[str, float | str]) -> dict[str, float | str]:
        for layers, share in weights.items():
            if isinstance(share, str):
                pattern(share)
            elif not 0 < share < 1:
                hint = "; a pattern such as 2:4 is text and stands in quotes" if share > 1 else ""
                raise ValueError(f"the ratio of `{layers}` must lie in (0, 1), but got {share:g}{hint}")
        return weights

    @field_validator("masks")
    @classmethod
    def _rising(cls, masks: tuple[int, ...]) -> tuple[int, ...]:
        if any(a >= b for a, b in pairwise(masks)):
            raise ValueError("`masks` must be ranks that rise, each once")
        return masks

    @model_validator(mode="after")
    def _one_way_to_choose(self) -> Self:
        if bool(self.prune) == bool(self.weights):
            raise ValueError(
                "a cell prunes either units, by `prune`, or single weights, by `weights`: give one of them"
            )
        if self.masks and self.search is not None:
            raise ValueError("`masks` and `search` are two ways to choose masks: give one")
        if self.masks and self.tail is not None:
            raise ValueError("`masks` and `tail` are two ways to choose masks: give one")
        return self

    @model_validator(mode="after")
    def _of_units_or_weights(self) -> Self:
        if self.prune:
            for key in ("pooled", "criteria"):
                if getattr(self, key):
                    raise ValueError(f"`{key}` is for masks of `weights`, but the cell says `prune`")
            return self
        for key in ("tail", "masks"):
            if getattr(self, key):
                raise ValueError(f"`{key}` is for masks of units, but the cell says `weights`")
        if len(set(self.criteria)) < len(self.criteria):
            raise ValueError(f"`criteria` names one twice: {', '.join(self.criteria)}")
        if self.pooled and any(isinstance(share, str) for share in self.weights.values()):
            raise ValueError("`pooled` is for ratios: a pattern holds in every row of a layer")
        return self

    @model_validator(mode="after")
    def _tail_beside_draw(self) -> Self:
        if self.tail is None:
            return self
        if self.draw is None:
            raise ValueError("`tail` adds to the masks that `draw` takes: say how many")
        if self.tail.of < self.draw + self.tail.masks:
            raise ValueError(
                f"`tail.of` must be at least {self.draw + self.tail.masks}, the masks drawn and those of `tail`, "
                f"but got {self.tail.of}"
            )
        return self

    @property
    def shares(self) -> dict[str, str]:
        """What is pruned, sites or layers, by which ratio or pattern."""
        return {
            name: share if isinstance(share, str) else f"{share:g}"
            for name, share in (self.prune or self.weights).items()
        }

    @property
    def place(self) -> tuple[str, str]:
        """What is pruned, and how much of it: `conv1`, `0.5`; jointly `conv1+conv2`, `0.5`, or `0.5+0.4` where they differ."""
        what = "+".join(self.shares)
        kind = ("pooled weights " if self.pooled else "weights ") if self.weights else ""
        shares = list(dict.fromkeys(self.shares.values()))
        return kind + what, shares[0] if len(shares) == 1 else "+".join(self.shares.values())

    @property
    def name(self) -> str:
        """`conv1-0.5`; jointly `conv1+conv2-0.5`, or `conv1-0.5+conv2-0.4` where the ratios differ; `weights-conv1-0.5`."""
        kind = ("pooled-weights-" if self.pooled else "weights-") if self.weights else ""
        if len(set(self.shares.values())) == 1:
            return f"{kind}{'+'.join(self.shares)}-{next(iter(self.shares.values()))}"
        return kind + "+".join(f"{site}-{share}" for site, share in self.shares.items())


def pattern(text: str) -> tuple[int, int]:
    """`2:4` as (2, 4): of every four weights two stay; `ValueError` where it is no such thing."""
    match = fullmatch(r"(\d{1,6}):(\d{1,6})", text)
    kept, row = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 0 < kept < row:
        raise ValueError(f"a pattern is N:M, so that N of every M weights stay (0 < N < M), but got `{text}`")
    return kept, row


def case_name(cell: str, base: int, bases: int) -> str:
    """What a cell of one of `bases` base networks is called: as the cell where there is no other network."""
    return f"{cell}, base {base}" if bases > 1 else cell


def plain_name(case: str, base: int, bases: int) -> str:
    """The cell's name again, of what `case_name` calls it."""
    return case.removesuffix(case_name("", base, bases))


def pruned_count(units: int, ratio: float) -> int:
    """floor(units x ratio), with the ratio read as the decimal that was written (0.29 of 100 is 29)."""
    return int(units * Fraction(str(ratio)))


def ratio_of(pruned: int, units: int) -> float:
    """The shortest decimal of which floor(units x ratio) is `pruned`."""
    digits = 1
    while True:  # at the latest when 10^digits exceeds the units
        scale = int(10**digits)
        ratio = -(-pruned * scale // units) / scale
        if ratio < 1 and pruned_count(units, ratio) == pruned:
            return ratio
        digits += 1


class StudySpec(_Facts):
    """A whole study: a network on a dataset, how it is trained, pruned and retrained, and how often.

    `width_factor` multiplies the network's filters. `train_images` and `test_images` take that many of a split, each
    class in proportion; the data is whole without them. `validation_images`, a number or a share below 1, are taken out
    of those train images, each class in proportion: they are evaluated, never trained on, and no part of any train
    loss. With `base_networks` above 1 the whole experiment is done
    for so many networks that differ in their seeds. With `oracle_images`, at least 100, the pruned train loss of a mask
    is taken on so many train images drawn at random and has a standard error; on all of them without it. Of every
    trial is kept which images it answers right; with `keep: losses` the loss of each image too.

    With `trained_on` the base networks are trained on the same images at another size, as `denoise:mnist@16`; everything
    else is of `data`.

    Every seed derives from the study's identity. Studies with the same text in `seeds_of` derive theirs from that text
    instead, to be compared in pairs: where they train the same network by the same recipe they share their base
    networks to the bit, and where their cells are the same, the drawn masks and the orders of the images.

    Three keys have more measured of every mask before it is retrained. `recalibration_images`: the train loss after
    the statistics of BatchNorm were taken anew from so many train images. `loss_after_steps`: the train loss after so
    many steps of `retrain`. `early`: the final accuracy after that recipe, a short form of `retrain`, and the area
    under its curve.
    """

    schema_number: Literal[1] = Field(default=SCHEMA, alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+*?\[\]!:-]*$")
    description: str = ""
    model: str
    data: str
    trained_on: str | None = None
    width_factor: float = Field(default=1.0, gt=0, le=1)
    train_images: Positive | None = None
    test_images: Positive | None = None
    validation_images: int | float | None = None
    base_networks: Positive = 1
    base_weights: Path | None = None
    train: Recipe | None = None
    retrain: Recipe
    cells: tuple[CellSpec, ...] = Field(min_length=1)
    repeats: Positive
    final: FinalProtocol
    keep: Literal["answers", "losses"] = "answers"
    removal: Literal["aligned", "released"] = "aligned"
    oracle_images: int | None = Field(default=None, ge=100)
    recalibration_images: Positive | None = None
    loss_after_steps: Positive | None = None
    early: Recipe | None = None
    seed: int = 0
    seeds_of: str | None = Field(default=None, min_length=1)
    scale: Scale = Scale.PAPER

    @field_validator("validation_images")
    @classmethod
    def _number_or_share(cls, images: float | None) -> float | None:
        if images is not None and not (0 < images < 1 or (isinstance(images, int) and images >= 1)):
            raise ValueError(f"`validation_images` must be a number of images or a share in (0, 1), but got {images}")
        return images

    @property
    def result(self) -> str:
        """What a network is judged by in the end, as a column of the trials: of noise the loss, else the accuracy."""
        return "final_test_loss" if self.tells_noise else "final_test_accuracy"

    @property
    def tells_noise(self) -> bool:
        """Whether the task is to tell noise: its loss is a squared error, and nothing is right or wrong."""
        return self.data.startswith(NOISE)

    @property
    def chooses_on_validation(self) -> str | None:
        """The first key that says so, None where there is none."""
        recipes = {"train": self.train, "retrain": self.retrain, "early": self.early}
        keys = [f"{key}.keep" for key, recipe in recipes.items() if recipe and recipe.keep == "best_on_validation"]
        if self.final is FinalProtocol.BEST_ON_VALIDATION:
            keys.insert(0, "final")
        return keys[0] if keys else None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.train is None and self.base_weights is None and not self.model.startswith("hf:"):
            raise ValueError("`train` is missing: say how the base network is trained, or give `base_weights`")
        if self.trained_on is not None and (self.base_weights is not None or self.train is None):
            raise ValueError("`trained_on` is for base networks that are trained: leave it out, or give `train`")
        if (self.base_weights is not None or self.train is None) and self.base_networks > 1:
            given = "`base_weights` hold" if self.base_weights is not None else "a model that is not trained is"
            raise ValueError(f"{given} one base network, but `base_networks` is {self.base_networks}")
        if self.train is not None and self.train.distill is not None:
            raise ValueError(
                "`train.distill` would learn from the dense network, which `train` makes: give it in `retrain`"
            )
        names = [cell.name for cell in self.cells]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"cell `{name}` stands {names.count(name)} times in `cells`")
        return self

    def facts(self) -> dict[str, Any]:
        """What the study's YAML says, neutral defaults left out; `parse_spec` reads it back."""
        return self.model_dump(mode="json", exclude_defaults=True, by_alias=True)

    def canonical(self) -> str:
        """The JSON that identifies the study: what changes a result and nothing else, in sorted order.

        The name, the description and the scale (what it changed stands in other keys) are left out, and so is the
        training of a base network that is given: the content of its weights stands in their place.
        """
        left_out = {"name", "description", "scale", "base_weights"}
        if self.base_weights is not None:
            left_out.add("train")
        facts = self.model_dump(mode="json", exclude_defaults=True, exclude=left_out, by_alias=True)
        facts["schema"] = SCHEMA
        if self.base_weights is not None:
            facts["base_weights_sha256"] = content_hash(self.base_weights)
        return json.dumps(facts, sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """SHA-256 of the canonical form, in hexadecimal."""
        return sha256(self.canonical().encode()).hexdigest()

    def only(self, cell: str) -> "StudySpec":
        """The study of one of its cells, named `<study>-<cell>`."""
        chosen = tuple(c for c in self.cells if c.name == cell)
        if not chosen:
            raise SpecError(unknown("cell", cell, [c.name for c in self.cells]))
        return self.model_copy(update={"name": f"{self.name}-{cell}", "cells": chosen})


def content_hash(weights: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; `SpecError` where it cannot be read."""
    try:
        return sha256(weights.read_bytes()).hexdigest()
    except OSError as error:
        raise SpecError(f"the base weights `{weights}` cannot be read: {error.strerror}") from None


def parse_spec(facts: Mapping[str, Any], source: str) -> StudySpec:
    """The study that `facts` describe; `SpecError` names `source`, the key and the rule in one line."""
    try:
        return StudySpec.model_validate(dict(facts))
    except ValidationError as error:
        raise SpecError(f"{source}: {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        *parents, key = problem["loc"]
        return unknown("key", str(key), _keys_at(parents)) + (f" (in `{'.'.join(map(str, parents))}`)" * bool(parents))
    if problem["type"] == "missing":
        return f"key `{path}` is missing"
    if problem["type"] == "value_error":
        return problem["msg"].removeprefix("Value error, ") + (f" (in `{path}`)" if path else "")
    rule = problem["msg"][0].lower() + problem["msg"][1:]
    return f"`{path}`: {rule}, but got {problem['input']!r}"


def _keys_at(parents: list[int | str]) -> list[str]:
    """The keys that the spec tree knows below `parents`."""
    owners: dict[str, type[_Facts]] = {
        "train": Recipe,
        "retrain": Recipe,
        "early": Recipe,
        "augmentation": Augmentation,
        "lora": LowRank,
        "distill": Distillation,
        "rand_augment": RandAugment,
        "cells": CellSpec,
        "search": SearchSpec,
        "tail": TailSpec,
    }
    named = [parent for parent in parents if isinstance(parent, str)]
    owner = owners[named[-1]] if named else StudySpec
    return [field.alias or name for name, field in owner.model_fields.items()]
