"""A byte-level BPE small enough to train inside a test.

Covers: writing a `tokenizer.json` with the special tokens of our own models at ids 0..15, all 256 bytes, and merges
learned from a fixed paragraph. Does not cover: the shipped vocabulary (trained by `octavo.data`) or the official
DeepSeek-V4 file.
"""

from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = (
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜▁pad▁｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<think>",
    "</think>",
    "｜DSML｜",
    "<｜latest_reminder｜>",
    "<｜action｜>",
    "<｜query｜>",
    "<｜authority｜>",
    "<｜domain｜>",
    "<｜title｜>",
    "<｜extracted_url｜>",
    "<｜read_url｜>",
)

_WORDS = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

_PARAGRAPH = (
    "The lighthouse keeper wrote the date at the head of the page, and under it what the sea had brought that "
    "morning. There was a crate of oranges, there was an oar, and there was the lid of a chest with the name of a "
    "ship on it. He knew the name. The ship had gone out with the tide in the spring, and the people of the town had "
    "waved to her.\n"
    "When the wind turned he went down the stairs again, and counted them, as he always did: one hundred and ninety "
    "nine.\n"
    "\n"
    "What is the secret word of the keeper? The secret word is heron. Who said that the sea gives back what it takes?\n"
)


def tiny_tokenizer(path: str | Path, vocab_size: int = 384) -> Path:
    """Write a tokenizer.json of at most `vocab_size` entries (never under 16 + 256) and return its path.

    `path` is the file itself, or an existing folder that receives `tokenizer.json`. Equal arguments give equal bytes.
    """
    target = Path(path)
    if target.is_dir():
        target = target / "tokenizer.json"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), behavior="isolated"),
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_PARAGRAPH], trainer=trainer)
    tokenizer.save(str(target))
    return target
