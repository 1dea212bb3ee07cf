"""The control tokens of the V4 chat format.

Covers: their spellings, and the order in which our own tokenizers number them (0..15). Does not cover: ids, which
belong to a tokenizer file (the official one puts most of them near 128800). The bars are U+FF5C, the low line is
U+2581.
"""

from enum import StrEnum


class Special(StrEnum):
    """One control token; the value is its spelling. Definition order = id order in the tokenizers that we train."""

    BOS = "<｜begin▁of▁sentence｜>"
    EOS = "<｜end▁of▁sentence｜>"
    PAD = "<｜▁pad▁｜>"
    USER = "<｜User｜>"
    ASSISTANT = "<｜Assistant｜>"
    THINK = "<think>"
    END_THINK = "</think>"
    DSML = "｜DSML｜"
    LATEST_REMINDER = "<｜latest_reminder｜>"
    ACTION = "<｜action｜>"
    QUERY = "<｜query｜>"
    AUTHORITY = "<｜authority｜>"
    DOMAIN = "<｜domain｜>"
    TITLE = "<｜title｜>"
    EXTRACTED_URL = "<｜extracted_url｜>"
    READ_URL = "<｜read_url｜>"


SPECIAL_TOKENS: tuple[str, ...] = tuple(token.value for token in Special)
