"""What a selection comes to, as it is shown and kept: known without torch."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """An accuracy on a split: the mean over repeats, and the 95% interval over which images the split happens to hold."""

    value: float
    low: float
    high: float
    images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What was seen of a mask on one rung: trained `repeats` times for so many epochs, its mean validation accuracy."""

    epochs: int
    repeats: int
    validation_accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A mask that was tried: where it came from, and what was `seen` of it from rung to rung.

    `worth` and `deviation` are what its accuracy in full retraining is expected to be on other images, and how unsure that
    is; `best` the chance that it is the best of all candidates. `test_accuracy` is that on its highest rung.
    """

    cell: str
    mask: int
    origin: str
    seen: tuple[Seen, ...]
    worth: float
    deviation: float
    best: float
    test_accuracy: float

    @property
    def highest(self) -> Seen:
        """What was seen of it on its highest rung."""
        return self.seen[-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """Masks trained for so many epochs each; `correlation` of their worth with that on the next rung, where it is known."""

    epochs: int
    masks: int
    trainings: int
    correlation: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rival:
    """What the chosen mask is held against: `masks` retrained in full for `epochs` model-epochs, and of the best of them on
    validation images the rank (None of the dense network), its test accuracy, and the chance that the chosen mask beats it on
    other images.
    """

    name: str
    mask: int | None
    masks: int
    epochs: int
    test: Measured
    beaten: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """A selection's outcome. `study` holds the chosen mask's trials; it is empty where the top rung was not reached.

    `regret` is by how much the best candidate is expected to be better than the chosen one, in accuracy on other images,
    with a 95% interval. `limit` says what all ways to prune were made to meet, if anything. `spent` and `budget` are model-epochs, `seconds` those of training.
    """

    name: str
    study: str
    model: str
    data: str
    limit: str
    chosen: Candidate
    pruned: dict[str, tuple[int, ...]]
    test: Measured
    regret: float
    regret_low: float
    regret_high: float
    candidates: tuple[Candidate, ...]
    rungs: tuple[Rung, ...]
    rivals: tuple[Rival, ...]
    budget: str
    spent: float
    seconds: float
    reason: str
    stopped: bool
    parameters: tuple[int, int]
    macs: tuple[int, int]
    studies: tuple[str, ...] = field(default=())


def selected_text(found: Selected) -> str:
    """As JSON; `selected_from` reads it back."""
    return json.dumps(asdict(found), indent=2)


def selected_from(text: str) -> Selected:
    """What `selected_text` wrote; `ValueError` where it is something else."""
    from pydantic import TypeAdapter  # half a second that most who load this module need not wait

    adapter: TypeAdapter[Any] = TypeAdapter(Selected)
    found = adapter.validate_json(text)
    assert isinstance(found, Selected)
    return found
