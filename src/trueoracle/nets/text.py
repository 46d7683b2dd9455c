"""What is asked of a language model as a whole: what it chooses among, and which part of it is pruned."""

from torch import nn


def vocabulary(net: nn.Module) -> int:
    """How many tokens a language model chooses among."""
    return int(net.config.get_text_config().vocab_size)  # type: ignore[union-attr,operator]


def decoder(net: nn.Module) -> str:
    """The name of the part of a language model that is pruned; empty where that is all of it."""
    return next((name for name, _ in net.named_modules() if name.rpartition(".")[2] == "language_model"), "")
