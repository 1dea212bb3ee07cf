"""Composed JavaScript tasks: small programs drawn from a grammar, in English and in JavaScript.

`write.composed(number)` gives them: a source of values, stages over the list of them, an ending, each with its words,
its JavaScript in several styles and its meaning in Python, from which examples and tests come. `verify` runs what
was made, `apart` keeps it apart from held-out families. Does not cover: tasks of fixed
families (octavo.data.tasks.javascript).
"""
