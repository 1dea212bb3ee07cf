"""Recall tasks made by a generator: names, values and wordings, one file for each kind of question, cells for testing.

Everything here is drawn from a `random.Random` handed in, so a seed gives the same task anywhere. Wordings, and ranges
of numbers, are split: what `held_out=True` draws is never drawn for training. Does not cover: rows (octavo.data.rows).
"""
