"""Lessons: short conversations that a model is to learn its answers from, packed many to a row.

Covers, a file each: a lesson and its tokens (`lesson`), where the material comes from (`material`), dialogues and word
problems (`dialogues`), calls of tools (`tools`), questions over passages (`passages`), JavaScript (`programs`), facts
without their text (`closed_book`) and with it (`open_book`), rows of lessons (`shelf`). Does not cover: rows of recall
(octavo.data.rows).
"""
