"""What a figure and its interval speak of: one target a line."""

from enum import Enum


class Target(Enum):
    """The value completes the sentence: tau of ..."""

    IMAGES = "images"
    SPACE = "space"
    NETWORKS = "networks"

    @property
    def sentence(self) -> str:
        """What is random, and what is held fixed."""
        return _SENTENCES[self]


_SENTENCES = {
    Target.IMAGES: "these masks of this network on other images, retrained anew",
    Target.SPACE: "all masks of the space that these were drawn from, on these images",
    Target.NETWORKS: "other base networks, trained anew",
}
