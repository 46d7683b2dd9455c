"""Language models of `transformers`, at a size of a few thousand weights; BERT and DistilBERT tell classes of texts."""

from collections.abc import Callable
from typing import Any

import transformers as hf
from torch import nn


def _of(kind: str, config: str, **sizes: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        net: nn.Module = getattr(hf, kind)(getattr(hf, config)(**sizes))
        return net

    return make


_ENDS = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_USUAL = {
    **_ENDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_SHARED = {**_USUAL, "num_key_value_heads": 2}
_GPT = {
    **_ENDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}

LANGUAGE: dict[str, Callable[[], nn.Module]] = {
    "GPT-2": _of("GPT2LMHeadModel", "GPT2Config", **_ENDS, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "Llama": _of("LlamaForCausalLM", "LlamaConfig", **_SHARED),
    "Qwen2": _of("Qwen2ForCausalLM", "Qwen2Config", **_SHARED),
    "Qwen3": _of("Qwen3ForCausalLM", "Qwen3Config", **_SHARED, head_dim=8),
    "Mistral": _of("MistralForCausalLM", "MistralConfig", **_SHARED),
    "Mixtral": _of(
        "MixtralForCausalLM",
        "MixtralConfig",
        **_SHARED,
        num_local_experts=4,
        num_experts_per_tok=2,
        experts_implementation="eager",
    ),
    "Gemma 2": _of("Gemma2ForCausalLM", "Gemma2Config", **_SHARED, head_dim=8),
    "Gemma 3": _of("Gemma3ForCausalLM", "Gemma3TextConfig", **_SHARED, head_dim=8),
    "Phi": _of("PhiForCausalLM", "PhiConfig", **_USUAL),
    "Phi-3": _of("Phi3ForCausalLM", "Phi3Config", **_SHARED),
    "OPT": _of(
        "OPTForCausalLM",
        "OPTConfig",
        **_ENDS,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        word_embed_proj_dim=32,
    ),
    "GPT-NeoX": _of("GPTNeoXForCausalLM", "GPTNeoXConfig", **_USUAL),
    "BLOOM": _of("BloomForCausalLM", "BloomConfig", **_ENDS, hidden_size=32, n_layer=2, n_head=4),
    "Falcon": _of("FalconForCausalLM", "FalconConfig", **_GPT, new_decoder_architecture=True, num_kv_heads=2),
    "BERT": _of("BertForSequenceClassification", "BertConfig", **_USUAL, num_labels=5),
    "DistilBERT": _of(
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        vocab_size=40,
        dim=32,
        hidden_dim=48,
        n_layers=2,
        n_heads=4,
        max_position_embeddings=64,
        num_labels=5,
    ),
}
