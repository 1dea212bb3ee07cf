"""Text to ids to messages and back: tokenizer, V4 chat format, answer parser, streaming detokenizer. No torch."""
