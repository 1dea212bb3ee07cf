"""Training of the byte-level BPE tokenizer.

Covers: the word splitting, special tokens, training from documents, the two files written.
Does not cover: loading and using a tokenizer (octavo.text).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from octavo.config.errors import ConfigError
from octavo.text.special import SPECIAL_TOKENS, Special

BYTES = 256
# Contractions, words with their space, one digit at a time, marks with their space, line ends, other space.
WORD_PATTERN = (
    r"['’](?:[sdmtSDMT]|ll|ve|re|LL|VE|RE)(?!\p{L})"
    r"| ?\p{L}[\p{L}\p{M}]*"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)


def untrained() -> Tokenizer:
    """An empty byte-level BPE with our splitting; every byte string can be encoded and decoded back."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return tokenizer


def train(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Train on `texts`. Ids: 0-15 special tokens, 16-271 bytes, then merges by rank.

    Raises ConfigError if `vocab_size` leaves no room for merges or the text is too small to fill it.
    """
    least = len(SPECIAL_TOKENS) + BYTES
    if vocab_size <= least:
        raise ConfigError(f"vocab_size {vocab_size} must be more than {least} (special tokens and bytes)")
    tokenizer = untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise ConfigError(f"text gives only {tokenizer.get_vocab_size()} tokens, vocab_size {vocab_size} was asked")
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path, *, max_length: int = 1_048_576) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` (the names other libraries read) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": Special.BOS.value,
        "eos_token": Special.EOS.value,
        "pad_token": Special.PAD.value,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")
