"""What an export folder says of itself: `pruning.json`, from which the pruned network is made again.

It names the network that was pruned, the units that are left of each site or the weights that are of each layer, where the weights come from, what was
measured of them, and the SHA-256 of every other file. It is read as data alone: nothing that it names is run.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import InputShape, Shape, TextShape

FORMAT: Literal[1] = 1
FACTS, WEIGHTS = "pruning.json", "model.safetensors"


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Kept(_Facts):
    """Of a site's `units`, those that are left, rising."""

    units: int = Field(ge=1)
    kept: tuple[int, ...] = Field(min_length=1)


class Held(_Facts):
    """Of a layer's `weights`, how many a mask keeps; the others are zero in the file of weights."""

    weights: int = Field(ge=1)
    kept: int = Field(ge=0)


class Images(_Facts):
    """What the network takes, and how pixels in [0, 1] are normalised a channel before it sees them."""

    channels: int = Field(ge=1)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    classes: int = Field(ge=1)
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None


class Origin(_Facts):
    """The trial that the weights come from; `mask` is its rank, in decimal digits."""

    study: str
    digest: str
    cell: str
    base: int
    mask: str
    repeat: int
    seed: int
    removal: str
    data: str
    recipe: dict[str, Any]


class Figure(_Facts):
    """A measured number on `examples` examples; of a share, `low` and `high` are its 95% Wilson interval."""

    value: float
    examples: int
    low: float | None = None
    high: float | None = None


class Pruning(_Facts):
    """`pruning.json`. `files` holds the SHA-256 of each file beside it; `images` is missing where text goes in."""

    format: Literal[1] = FORMAT
    trueoracle: str
    model: str
    width_factor: float = 1.0
    images: Images | None = None
    sites: dict[str, Kept]
    weights: dict[str, Held] = {}
    origin: Origin | None = None
    figures: dict[str, Figure] = {}
    files: dict[str, str] = {}

    @property
    def shape(self) -> Shape:
        """What goes into the network."""
        if self.images is None:
            return TextShape()
        images = self.images
        return InputShape(channels=images.channels, height=images.height, width=images.width, classes=images.classes)

    @property
    def mask(self) -> Mask:
        """The mask; where its rank is not told it is called 0."""
        rank = int(self.origin.mask) if self.origin is not None else 0
        parts = (SiteMask(site=name, units=part.units, kept=part.kept) for name, part in self.sites.items())
        return Mask(rank=rank, sites=tuple(parts))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    return sha256(path.read_bytes()).hexdigest()


def write_facts(facts: Pruning, folder: Path) -> None:
    """Write `pruning.json`."""
    content = facts.model_dump(mode="json", exclude_none=True, exclude=set() if facts.weights else {"weights"})
    (folder / FACTS).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_facts(folder: Path) -> Pruning:
    """Read `pruning.json`; `ModelError` where it is missing, of a newer format, or breaks a rule."""
    path = folder / FACTS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"`{folder}` is no exported network: `{path}` cannot be read: {error.strerror}") from None
    except ValueError:
        raise ModelError(f"`{path}` is no JSON") from None
    written = content.get("format") if isinstance(content, dict) else None
    if not isinstance(written, int):
        raise ModelError(f"`{path}` is no export of trueoracle: it says no `format`")
    if written > FORMAT:
        raise ModelError(
            f"`{path}` is of format {written}, but this trueoracle knows formats up to {FORMAT}: update it"
        )
    try:
        return Pruning.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ModelError(f"`{path}`: `{where}`: {problem['msg'][0].lower()}{problem['msg'][1:]}") from None


def check_files(facts: Pruning, folder: Path, names: tuple[str, ...]) -> None:
    """`ModelError` where one of these files is missing or is not what was written."""
    for name in names:
        if not (folder / name).is_file():
            raise ModelError(f"the export `{folder}` lacks `{name}`")
        if sha256_of(folder / name) != facts.files.get(name):
            raise ModelError(f"`{folder / name}` is not the file that was exported: its SHA-256 differs from {FACTS}")
