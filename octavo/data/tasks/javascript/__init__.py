"""JavaScript tasks made by rule, whose answers, examples and tests come from running them.

`task.build(seed, sandbox)` gives one; families in five files, arguments in `arguments`, wrong answers in `mutants`.
Does not cover: rows for training (octavo.data.rows), scoring a model (octavo.evals.javascript).
"""
