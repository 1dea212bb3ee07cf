"""The stabilisers' ablation: faults put into training on purpose, and what each answer to them does.

Covers: `units` (arms, faults, recipes), `branch` (beginning where the twin was before the fault), `claims` and `launch`
(many processes), `work` (running units), `probe` (why a loss rose), `measures` and `report` (tables, figures, record).
Does not cover: what the numbers mean (docs/stabilisers.md).
"""
