"""A dataset as a network sees it: each split examples on the device, images normalised."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trueoracle.data.normalisation import Normalisation
from trueoracle.words.examples import Examples, Foretold, Judged
from trueoracle.words.shape import Shape

# Small enough that a LeNet's activations stay in a CPU core's cache, large enough to keep a GPU busy; of images larger
# than CIFAR's fewer, by their pixels.
_AT_ONCE, _FEWEST_AT_ONCE = {"cpu": 250, "cuda": 4096}, 16
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True, kw_only=True)
class Split:
    """Examples to be classified: normalised `images_NCHW` (float32) and classes `labels_N` (int64), on one device.

    The loss is cross-entropy, the right answer the class of largest logit.
    """

    images_NCHW: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def device(self) -> torch.device:
        """Where both tensors lie."""
        return self.labels_N.device

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return (self.images_NCHW.shape[2], self.images_NCHW.shape[3])

    @property
    def at_once(self) -> int:
        """How many images a forward pass is best given."""
        return images_at_once(self.device, self.images_NCHW.shape[1:].numel())

    def take(self, chosen: Tensor | slice) -> "Split":
        """The images at these places with their classes."""
        return Split(images_NCHW=self.images_NCHW[chosen], labels_N=self.labels_N[chosen])

    def train_loss(self, net: nn.Module) -> Tensor:
        """Mean cross-entropy in the network's precision."""
        return F.cross_entropy(net(self.images_NCHW), self.labels_N)

    def judge(self, net: nn.Module) -> Judged:
        """Logits in the network's precision, cross-entropy in float64."""
        logits_NK = net(self.images_NCHW).double()
        return Judged(
            loss_B=F.cross_entropy(logits_NK, self.labels_N, reduction="none"),
            right_B=logits_NK.argmax(1) == self.labels_N,
        )

    def foretell(self, net: nn.Module) -> Foretold:
        """One answer an image, all of one weight."""
        weight_N = torch.full((len(self),), 1 / len(self), device=self.device)
        return Foretold(logits_AK=net(self.images_NCHW), targets_A=self.labels_N, weight_A=weight_N)


def images_at_once(device: torch.device, pixels: int) -> int:
    """How many images of so many pixels (times channels) a forward pass is best given."""
    most = _AT_ONCE[device.type]
    return max(_FEWEST_AT_ONCE, min(most, most * _PIXELS // pixels))


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What is trained on, what is reported, and where there is one, a validation split, by which may be chosen.

    `fingerprint` is the SHA-256 of what they were made from: pixels and labels before normalising. Of images with noise,
    `images` is the whole dataset behind them.
    """

    name: str
    shape: Shape
    train: Examples
    test: Examples
    fingerprint: str
    normalisation: Normalisation | None = None
    validation: Examples | None = None
    images: "Dataset | None" = None

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.train.device
