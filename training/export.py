"""A trained student as a Hugging Face Llama folder, and back: transformers, vLLM and lm-eval load it as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from palimpsest.config import Model
from palimpsest.tokenizer import BOUNDARY
from training.model import NORM_EPS, Decoder


def export(model: Decoder, tokenizer_file: Path, directory: Path) -> None:
    """Writes config.json, model.safetensors (fp32), tokenizer.json, tokenizer_config.json, generation_config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file(weights(model), directory / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(tokenizer_file, directory / "tokenizer.json")
    special = json.loads(tokenizer_file.read_text(encoding="utf-8"))["added_tokens"]
    boundary = next(token["id"] for token in special if token["content"] == BOUNDARY)
    ends = {"bos_token_id": boundary, "eos_token_id": boundary}
    files = {
        "config.json": configuration(model) | ends,
        "generation_config.json": ends | {"pad_token_id": boundary},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOUNDARY,
            "eos_token": BOUNDARY,
            "model_max_length": model.context,
            "clean_up_tokenization_spaces": False,
        },
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def configuration(model: Decoder) -> dict[str, object]:
    config = model.config
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": model.vocab,
        "hidden_size": config.width,
        "intermediate_size": config.mlp,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads or config.heads,
        "head_dim": config.width // config.heads,
        "hidden_act": "silu",
        "max_position_embeddings": model.context,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rms_norm_eps": NORM_EPS,
        "tie_word_embeddings": config.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "dtype": "float32",
    }


def weights(model: Decoder) -> dict[str, torch.Tensor]:
    """The parameters under their Hugging Face names, the fused matrices taken apart."""
    return {name: place.detach().cpu().clone() for name, place in places(model).items()}


def places(model: Decoder) -> dict[str, torch.Tensor]:
    """The same as views of the model's own memory."""
    head_width = model.config.width // model.config.heads
    key_rows = (model.config.kv_heads or model.config.heads) * head_width
    found = {"model.embed_tokens.weight": model.embedding, "model.norm.weight": model.norm.scale}
    if model.head is not None:
        found["lm_head.weight"] = model.head
    for number, block in enumerate(model.blocks):
        query, key, value = block.attention.qkv.detach().split([model.config.width, key_rows, key_rows])
        gate, up = block.mlp.gate_up.detach().chunk(2)
        layer = {
            "input_layernorm": block.attention_norm.scale,
            "self_attn.q_proj": query,
            "self_attn.k_proj": key,
            "self_attn.v_proj": value,
            "self_attn.o_proj": block.attention.out,
            "post_attention_layernorm": block.mlp_norm.scale,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": block.mlp.down,
        }
        found |= {f"model.layers.{number}.{name}.weight": tensor for name, tensor in layer.items()}
    return found


def load(directory: Path) -> Decoder:
    """The student that `export` wrote there."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    shape = Model(
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        mlp=config["intermediate_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        tied=config["tie_word_embeddings"],
        rope_theta=config["rope_theta"],
    )
    model = Decoder(shape, vocab=config["vocab_size"], context=config["max_position_embeddings"])
    stored = load_file(directory / "model.safetensors")
    with torch.no_grad():
        for name, place in places(model).items():
            place.copy_(stored[name])
    return model
