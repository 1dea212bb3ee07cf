"""Data for training and testing: named text sources, the corpus, the tokenizer's training, packed tokens.

Does not cover: generated recall tasks (their own files here), batches and the mix of losses (octavo.train).
"""
