"""What an attention module must be told when some of its heads are gone, for its forward pass to go on.

Letters: B examples, T tokens, S tokens that are looked at, H heads.
"""

import inspect
from copy import copy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trueoracle.words.mask import SiteMask

# What attention modules call numbers that are proportional to their heads.
_HEAD_COUNTS = (
    *("num_heads", "num_attention_heads", "n_heads", "num_key_value_heads", "num_kv_heads", "all_head_size"),
    *("split_size", "embed_dim", "out_dim_projection", "out_dim_keys_values"),
)

# What biases of position are called, one for each head, and whether they are laid out example by example.
_BIASES = {"alibi": True, "position_bias": False}


def tell_heads(attention: Any, part: SiteMask) -> None:
    """Tell the module which heads, or groups of them, are left of a site of heads."""
    if isinstance(attention, nn.MultiheadAttention):
        _free_of_width(attention, part)
        return
    for name in _HEAD_COUNTS:
        count = getattr(attention, name, None)
        if isinstance(count, int) and count % part.units == 0:
            setattr(attention, name, count // part.units * len(part.kept))
    if hasattr(attention, "qkv_proj") and hasattr(
        attention, "config"
    ):  # Phi-3 reads where queries end off the configuration, which all layers share
        attention.config = copy(attention.config)
        attention.config.num_attention_heads = attention.config.num_attention_heads // part.units * len(part.kept)
    if hasattr(attention, "attention_bias_cache"):  # LeViT
        attention.attention_bias_cache = {}
    if (bias := _given_bias(attention)) is not None:
        _pick_bias(attention, part, bias)


def _given_bias(attention: nn.Module) -> str | None:
    """What its forward pass calls biases of position that it is given, made for all heads of the whole network."""
    words = inspect.signature(attention.forward).parameters
    return next((word for word in _BIASES if word in words), None)


def _pick_bias(attention: Any, part: SiteMask, bias: str) -> None:
    """From now on the module picks the biases of the heads that it has; which these are stays in its state."""
    kept = torch.tensor(part.kept)
    if hasattr(attention, "heads_left"):
        attention.heads_left = attention.heads_left[kept]
        return
    attention.register_buffer("heads_left", kept)
    attention.register_forward_pre_hook(partial(_picked, bias), with_kwargs=True)


def _picked(
    bias: str, attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    given = kwargs.get(bias)
    if given is None:
        return args, kwargs
    states_BTC = args[0] if args else kwargs["hidden_states"]
    examples = len(states_BTC) if _BIASES[bias] else 1
    kept = attention.heads_left.to(given.device)
    picked = given.reshape(examples, -1, *given.shape[1:])[:, kept].flatten(0, 1)
    return args, {**kwargs, bias: picked}


def _free_of_width(attention: nn.MultiheadAttention, part: SiteMask) -> None:
    if not isinstance(attention, FewerHeads):
        free_of_width(attention)
    attention.num_heads = attention.num_heads // part.units * len(part.kept)


def has_more(attention: nn.MultiheadAttention) -> bool:
    """Whether its keys and values are of another size than its queries, or it adds some of its own."""
    return attention.in_proj_weight is None or attention.bias_k is not None or attention.add_zero_attn


def tell_width(attention: nn.MultiheadAttention) -> None:
    """Tell the module that its tokens are as wide as its weights say; its heads keep their number and size."""
    free_of_width(attention)
    attention.embed_dim = attention.kdim = attention.vdim = attention.in_proj_weight.shape[1]


def free_of_width(attention: nn.MultiheadAttention) -> None:
    """Make it a `FewerHeads` with the same weights, which computes the same."""
    attention.__class__ = FewerHeads
    # torch's layers around it look at this before they take a path of their own past the module.
    attention._qkv_same_embed_dim = False


class FewerHeads(nn.MultiheadAttention):
    """torch's attention whose heads need not add up to the width of the tokens; they keep their size, `head_dim`."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,  # noqa: ARG002 - a hint beside `attn_mask`, which says it too
    ) -> tuple[Tensor, Tensor | None]:
        """As `nn.MultiheadAttention.forward`, with all masks; the weights come back where they are asked for."""
        batched, first = query.dim() == 3, self.batch_first
        query, key, value = ((x if first else x.transpose(0, 1)) if batched else x[None] for x in (query, key, value))
        q_BHTd, k_BHSd, v_BHSd = (
            F.linear(x, weight, bias).reshape(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), self.in_proj_weight.chunk(3), self._biases(), strict=True)
        )
        weights_BHTS = q_BHTd @ k_BHSd.transpose(-1, -2) / self.head_dim**0.5
        for mask in self._masks(attn_mask, key_padding_mask, weights_BHTS):
            weights_BHTS = weights_BHTS + mask
        weights_BHTS = F.dropout(weights_BHTS.softmax(-1), self.dropout, self.training)
        out = self.out_proj((weights_BHTS @ v_BHSd).transpose(1, 2).flatten(2))
        out = (out if first else out.transpose(0, 1)) if batched else out[0]
        if not need_weights:
            return out, None
        weights = weights_BHTS.mean(1) if average_attn_weights else weights_BHTS
        return out, weights if batched else weights[0]

    def _biases(self) -> tuple[Tensor | None, ...]:
        return (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)

    def _masks(self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, like_BHTS: Tensor) -> list[Tensor]:
        """Both as numbers that are added, in four dimensions."""
        masks = []
        if attn_mask is not None:
            mask = attn_mask if attn_mask.dim() == 2 else attn_mask.reshape(-1, self.num_heads, *attn_mask.shape[1:])
            masks.append(_added(mask, like_BHTS))
        if key_padding_mask is not None:
            masks.append(_added(key_padding_mask.reshape(len(like_BHTS), 1, 1, -1), like_BHTS))
        return masks


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """Where a boolean mask holds, minus infinity."""
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -torch.inf) if mask.dtype == torch.bool else mask
