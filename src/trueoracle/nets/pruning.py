"""What a mask makes of a network, whichever kind of mask it is."""

from torch import nn

from trueoracle.nets.masked import mask_weights
from trueoracle.nets.removal import remove
from trueoracle.nets.sites import Sites
from trueoracle.words.known import Removal
from trueoracle.words.mask import AnyMask, WeightMask


def prune(net: nn.Module, mask: AnyMask, sites: Sites, removal: Removal = "aligned") -> nn.Module:
    """A copy of `net`: without the units that `mask` prunes (see `remove`), or with its weights at zero (see `mask_weights`)."""
    return mask_weights(net, mask) if isinstance(mask, WeightMask) else remove(net, mask, sites, removal)
