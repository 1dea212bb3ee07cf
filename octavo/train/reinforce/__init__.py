"""Reinforcement learning with rewards that a program checks: GRPO over answers of our own engine.

Covers, a file each: advantages of a group (`advantage`), the objective (`objective`), prompts by step and seed
(`prompts`), what an answer is worth (`reward`), drawing answers (`rollout`), one update (`update`), the run with its
log and checkpoint (`loop`), whether the weights are kept (`gate`), named settings (`settings`), from names to a run
(`start`). Does not cover: learned rewards, text that only a person could judge. `python -m octavo.train.reinforce` is
the command.
"""
