"""A random-weight model that an engine loads: its architecture as files, with a vocabulary of made-up words.

Speed does not depend on what the weights hold. vLLM makes them up itself (``--load-format dummy``), so a
``config.json`` with a tokenizer is enough for it; llama.cpp reads a whole file.
"""

import json
from pathlib import Path
from typing import Any, Final

from envelope.errors import InputError, Problem
from envelope.provenance import Evidence, Source
from envelope.sensors.attention import HeadShape
from envelope.sensors.decoder_shape import DecoderShape
from envelope.sensors.random_gguf import random_gguf
from envelope.spec.checkpoint.config_json import Naming, model_from_config
from envelope.spec.checkpoint.fields import read_json
from envelope.spec.model import GroupedAttention, Model

SMALL: Final = DecoderShape("random-11m", 6, 384, HeadShape(6, 2, 64), 1024, 4096)
MEDIUM: Final = DecoderShape("random-56m", 8, 768, HeadShape(12, 4, 64), 2048, 8192)
SERVED: Final = {"vllm": SMALL, "llama-server": MEDIUM}
"""The decoder that is served where no other is given: on two cores a load test of it takes minutes. vLLM without
16-bit units multiplies a fifth as fast as llama.cpp with 8-bit weights."""
FIRST_WORD: Final = 16
"""Token ids from here on are words; those before are kept for special tokens."""
CONTEXT_TOKENS: Final = 4096
_CHAT: Final = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
"""Messages one after the other: prompts of the loads are token ids and never pass through it."""


def write_config(shape: DecoderShape, folder: Path) -> Path:
    """Write ``config.json``, tokenizer and chat template of this architecture; return the chat template's path."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_of(shape)
    _write(folder / "config.json", config)
    write_tokenizer(int(config["vocab_size"]), folder)
    return write_template(folder)


def write_template(folder: Path) -> Path:
    """Write the chat template; return its path."""
    path = folder / "chat.jinja"
    path.write_text(_CHAT, encoding="utf-8")
    return path


def config_of(shape: DecoderShape) -> dict[str, Any]:
    """Return Hugging Face's configuration of a Llama of this shape."""
    heads = shape.heads
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": heads.heads,
        "num_key_value_heads": heads.kv_heads,
        "head_dim": heads.head_dim,
        "vocab_size": shape.vocab,
        "max_position_embeddings": CONTEXT_TOKENS,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }


def write_tokenizer(vocab: int, folder: Path) -> None:
    """Write a tokenizer that has one word for every token id (``tokenizers``' WordLevel)."""
    words = {word: at for at, word in enumerate(vocabulary(vocab))}
    special = [
        {"id": at, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for word, at in words.items() if at < 3
    ]  # fmt: skip
    _write(folder / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"},
    })  # fmt: skip
    _write(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>",
        "model_max_length": CONTEXT_TOKENS, "clean_up_tokenization_spaces": False,
    })  # fmt: skip


def vocabulary(vocab: int) -> list[str]:
    """Return the text of every token: three special ones, then words that are all different.

    >>> vocabulary(5)
    ['<unk>', '<s>', '</s>', 'w3', 'w4']
    """
    return ["<unk>", "<s>", "</s>", *(f"w{at}" for at in range(3, vocab))]


def shape_of(model: Model, config: str) -> DecoderShape:
    """Return the shape of a Llama-shaped record, which a model file of random weights can be written for.

    Raises ``InputError`` for anything else.
    """
    kinds = list(model.attention.values())
    blocks = [layer for layer in model.layer_counts if layer.ffn != "dense"]
    if len(kinds) != 1 or not isinstance(kinds[0], GroupedAttention) or blocks or model.dense_ffn is None:
        rule = "is not Llama-shaped: one kind of grouped attention and dense feed-forward layers"
        raise InputError(Problem("command line", "--config", config, rule, "serve it with --start vllm"))
    heads = HeadShape(kinds[0].heads, kinds[0].kv_heads, kinds[0].qk_dim)
    layers = sum(model.layer_counts.values())
    return DecoderShape("served", layers, model.hidden, heads, model.dense_ffn.width, model.vocab)


def write_gguf(shape: DecoderShape, number_format: str, path: Path) -> Path:
    """Write a whole model file with a vocabulary, for ``llama-server``; return its path."""
    random_gguf(shape, number_format, path, words=vocabulary(shape.vocab), context_tokens=CONTEXT_TOKENS)
    return path


def model_of_config(config: Path) -> Model:
    """Return the catalog's record of a model that this ``config.json`` describes, as ``envelope model import`` does.

    Raises ``InputError`` for a file that is missing or describes what the catalog cannot.
    """
    if not config.is_file():
        raise InputError(Problem("command line", "--config", str(config), "no such file"))
    source = Source(source=f"shape of the served {config.name}", date="2026-11", evidence=Evidence.DATASHEET)
    naming = Naming(id="served-random", name="served model, random weights", licence="unknown", developer="none")
    return model_from_config(read_json(config), str(config), naming, source=source).model


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")
