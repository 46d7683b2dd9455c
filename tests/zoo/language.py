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
# Asked one after another: the grouped products that are the default know no float64.
_ONE_BY_ONE = {"experts_implementation": "eager"}
_GPT = {
    **_ENDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}

LANGUAGE: dict[str, Callable[[], nn.Module]] = {
    "GPT-2": _of("GPT2LMHeadModel", "GPT2Config", **_ENDS, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "Llama": _of("LlamaForCausalLM", "LlamaConfig", **_SHARED),
    "Llama, tied": _of("LlamaForCausalLM", "LlamaConfig", **_SHARED, tie_word_embeddings=True),
    "Qwen2": _of("Qwen2ForCausalLM", "Qwen2Config", **_SHARED),
    "Qwen3": _of("Qwen3ForCausalLM", "Qwen3Config", **_SHARED, head_dim=8),
    "Mistral": _of("MistralForCausalLM", "MistralConfig", **_SHARED),
    "Mixtral": _of(
        "MixtralForCausalLM",
        "MixtralConfig",
        **_SHARED,
        num_local_experts=4,
        num_experts_per_tok=2,
        **_ONE_BY_ONE,
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
    "GPT-J": _of(
        "GPTJForCausalLM", "GPTJConfig", **_ENDS, n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=4
    ),
    "CodeGen": _of(
        "CodeGenForCausalLM", "CodeGenConfig", **_ENDS, n_embd=32, n_layer=2, n_head=8, n_positions=64, rotary_dim=4
    ),
    "MPT": _of("MptForCausalLM", "MptConfig", vocab_size=40, d_model=32, n_layers=2, n_heads=4, max_seq_len=64),
    "OLMo 2": _of("Olmo2ForCausalLM", "Olmo2Config", **_SHARED),
    "OLMoE": _of("OlmoeForCausalLM", "OlmoeConfig", **_SHARED, num_experts=4, num_experts_per_tok=2, **_ONE_BY_ONE),
    "GPT-OSS": _of(
        "GptOssForCausalLM",
        "GptOssConfig",
        **_SHARED,
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        **_ONE_BY_ONE,
    ),
    "DeepSeek 3": _of(
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        **{**_USUAL, "num_hidden_layers": 3},
        num_key_value_heads=4,
        moe_intermediate_size=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        q_lora_rank=12,
        kv_lora_rank=16,
        qk_rope_head_dim=4,
        qk_nope_head_dim=8,
        v_head_dim=8,
        first_k_dense_replace=1,
        **_ONE_BY_ONE,
    ),
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
    "ModernBERT": _of("ModernBertForSequenceClassification", "ModernBertConfig", **_USUAL, num_labels=5),
}
