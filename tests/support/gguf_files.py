"""Tiny GGUF files, written as llama.cpp's converter does, by loops of our own."""

from pathlib import Path
from typing import Any

import numpy as np
from support.tiny import tiny_words

ARCHITECTURES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "phi3": "phi3",
    "gpt2": "gpt2",
}
"""Family → GGUF's name of its architecture."""

_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
}
_GEMMA = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_OUTSIDE = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
}


def gguf_name(family: str, parameter: str) -> str:
    module, _, ending = parameter.rpartition(".")
    if module in _OUTSIDE:
        return f"{_OUTSIDE[module]}.{ending}"
    _, _, layer, inner = module.split(".", 3)
    names = _LAYER | (_GEMMA if family.startswith("gemma") else {})
    return f"blk.{layer}.{names[inner]}.{ending}"


def converted(family: str, name: str, weight: np.ndarray, heads: int, kv_heads: int) -> np.ndarray:
    """A weight as the converter lays it out, row by row."""
    out = weight.copy()
    if family == "llama" and name.endswith(("attn_q.weight", "attn_k.weight")):
        count = heads if "attn_q" in name else kv_heads
        width = len(weight) // count
        for head in range(count):
            for pair in range(width // 2):
                first, second = head * width + pair, head * width + width // 2 + pair
                out[head * width + 2 * pair] = weight[first]
                out[head * width + 2 * pair + 1] = weight[second]
    if family.startswith("gemma") and name.endswith("norm.weight"):
        out = weight + 1
    if family == "gpt2" and weight.ndim == 2 and name.startswith("blk."):
        out = np.ascontiguousarray(weight.T)
    return out


def write_gguf(
    path: Path,
    folder: Path,
    quantisation: str = "F32",
    *,
    extra: dict[str, np.ndarray] | None = None,
    change: Any = None,
    pre: str = "gpt-2",
    words: list[str] | None = None,
) -> Path:
    """Write the model of ``folder`` as GGUF; matrices in a type of GGML, the rest in F32."""
    import gguf
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config: Any = AutoConfig.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    family = config.model_type
    writer = gguf.GGUFWriter(path, ARCHITECTURES[family])
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", heads)
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", None) or config.n_inner)
    writer.add_head_count(heads)
    if family == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_head_count_kv(kv_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_dimension_count(width)
        rope = config.rope_parameters
        writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    if family in ("qwen3", "gemma2", "gemma3_text"):
        writer.add_key_length(width)
        writer.add_value_length(width)
    if family.startswith("gemma"):
        writer.add_sliding_window(config.sliding_window)
    if family == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    words = words or tiny_words(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(words)
    writer.add_token_types([3 if word.startswith("<") else 1 for word in words])
    writer.add_token_merges(["a b"])
    for row, add in enumerate((writer.add_pad_token_id, writer.add_bos_token_id)):
        add(row)
    writer.add_eos_token_id(2)
    kind = gguf.GGMLQuantizationType[quantisation]
    tensors = {
        gguf_name(family, name): converted(
            family, gguf_name(family, name), parameter.detach().numpy(), heads, kv_heads
        )
        for name, parameter in model.named_parameters()
    } | (extra or {})
    for name, weight in tensors.items():
        fits = weight.ndim == 2 and weight.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0
        used = kind if fits else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quantize(weight.astype(np.float32), used), raw_dtype=used)
    if change is not None:
        change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
