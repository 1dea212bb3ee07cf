"""Measuring what a model can do: recall cells, runs over lengths and controls, reports.

Does not cover: making the tasks (octavo.data.tasks), speed (benchmarks), how a document is read (octavo.engine).
"""
