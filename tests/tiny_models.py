"""Models of a few random weights, saved as models of the Hugging Face hub are.

What they compute is of no use; how it is computed is that of the real ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

WORDS: Final = (
    "the a cat dog fish sea sat ran over and which naïve wing wings two — 两 向 量 query : passage"
)
SPECIAL: Final = "[PAD] [UNK] [CLS] [SEP] [MASK]"


def make_bert(folder: Path) -> Path:
    """A BERT of 2 layers that knows `WORDS`."""
    return _save_bert(folder, "BertModel", f"{SPECIAL} {WORDS}", strip_accents=False)


def make_qwen3(folder: Path) -> Path:
    """A Qwen3 of 2 layers on bytes, padded on the left, with an end token after each text."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate(letters)} | {"<|end|>": len(letters)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|end|>", special_tokens=[("<|end|>", len(letters))]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|end|>",
        eos_token="<|end|>",
        padding_side="left",
        model_max_length=96,
    ).save_pretrained(folder)
    torch.manual_seed(7)
    config = Qwen3Config(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.3,
    )
    Qwen3Model(config).save_pretrained(folder)
    return folder


def make_cross_encoder(folder: Path) -> Path:
    """A BERT of 2 layers with a word list of its own that scores pairs, as any cross-encoder."""
    words = f"{SPECIAL} the a cat dog fish sea sat ran over and which"
    return _save_bert(folder, "BertForSequenceClassification", words, num_labels=1)


def _save_bert(
    folder: Path, kind: str, words: str, strip_accents: bool | None = None, **options: Any
) -> Path:
    """A small BERT of that class of transformers, of random weights, with its tokenizer."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    listed = words.split()
    (folder / "vocab.txt").write_text("\n".join(listed), encoding="utf-8")
    torch.manual_seed(7)
    config = transformers.BertConfig(
        vocab_size=len(listed),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.5,
        **options,
    )
    getattr(transformers, kind)(config).save_pretrained(folder)
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"), strip_accents=strip_accents)
    tokenizer.save_pretrained(folder)
    return folder


def describe_sentences(folder: Path, pooling: str, prompts: dict[str, str] | None = None) -> Path:
    """Add what sentence-transformers keeps beside a model: its modules, and its prompts."""
    package = "sentence_transformers.models"
    modules = [
        ("0", "", "Transformer"),
        ("1", "1_Pooling", "Pooling"),
        ("2", "2_Normalize", "Normalize"),
    ]
    listed = [
        {"idx": int(place), "name": place, "path": path, "type": f"{package}.{kind}"}
        for place, path, kind in modules
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    legacy = {"cls": "cls_token", "mean": "mean_tokens", "lasttoken": "lasttoken"}
    modes = {f"pooling_mode_{words}": name == pooling for name, words in legacy.items()}
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, **modes})
    )
    told = {"prompts": prompts or {}, "default_prompt_name": "query" if prompts else None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(told))
    return folder


def add_sparse_head(folder: Path) -> Path:
    """Add a head that weighs tokens, as BGE-M3's."""
    import torch

    torch.manual_seed(11)
    head = torch.nn.Linear(32, 1)
    head.bias.data += 1.5
    torch.save(head.state_dict(), folder / "sparse_linear.pt")
    return folder
