"""Small grammars of wordings: templates with alternatives, drawn anew each time.

Covers: `Phrasing`. Does not cover: the tables (`phrases_*`, `frames`), test wordings.

A template holds alternatives in brackets, `[What|Which] is it?`, which may hold brackets again, and names of lists in
angles, `<verb> it`, whose entries are templates too. Fields in braces are filled in by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

_LETTERS = re.compile(r"[a-z{}]+")
_TOKEN = re.compile(r"[\[\]|]|<\w+>")
Node = str | tuple[tuple["Node", ...], ...]  # fixed text, or alternatives, each a row of nodes


class Phrasing:
    """Templates, each as likely as the others; each alternative is as likely as its neighbours.

    lists: what each name in angles stands for. Raises KeyError for a name without a list, ValueError for an open
    bracket.
    """

    def __init__(self, *templates: str, **lists: Sequence[str]) -> None:
        self._lists = lists
        self._named: dict[str, Node] = {}
        self._all: tuple[tuple[Node, ...], ...] = tuple(self._parse(template) for template in templates)

    def pick(self, draw: Random) -> str:
        """One wording."""
        out: list[str] = []
        _draw_into(out, draw.choice(self._all), draw)
        return "".join(out)

    def count(self) -> int:
        """Number of wordings, those that come about in two ways counted twice."""
        return _count(self._all)

    def covers(self, bare_text: str) -> bool:
        """Whether `bare_text`, small letters, braces and single spaces alone, is one of the wordings but for marks."""
        return re.fullmatch(_pattern(self._all), bare_text) is not None

    def _parse(self, template: str) -> tuple[Node, ...]:
        rows: list[list[list[Node]]] = [[[]]]  # open brackets, their alternatives, the nodes of each
        place = 0
        for found in _TOKEN.finditer(template):
            if found.start() > place:
                rows[-1][-1].append(template[place : found.start()])
            place, sign = found.end(), found.group()
            if sign == "[":
                rows.append([[]])
            elif sign == "]":
                done = rows.pop()
                rows[-1][-1].append(tuple(map(tuple, done)))
            elif sign == "|" and len(rows) > 1:
                rows[-1].append([])
            elif sign == "|":
                rows[-1][-1].append(sign)
            else:
                rows[-1][-1].append(self._list(sign[1:-1]))
        if len(rows) != 1:
            raise ValueError(f"template {template!r} has a bracket that is not closed")
        if place < len(template):
            rows[0][0].append(template[place:])
        return tuple(rows[0][0])

    def _list(self, name: str) -> Node:
        if name not in self._named:
            self._named[name] = tuple(self._parse(entry) for entry in self._lists[name])
        return self._named[name]


def _draw_into(out: list[str], nodes: tuple[Node, ...], draw: Random) -> None:
    for node in nodes:
        if isinstance(node, str):
            out.append(node)
        else:
            _draw_into(out, draw.choice(node), draw)


def _count(alternatives: tuple[tuple[Node, ...], ...]) -> int:
    total = 0
    for nodes in alternatives:
        product = 1
        for node in nodes:
            product *= 1 if isinstance(node, str) else _count(node)
        total += product
    return total


def _pattern(alternatives: tuple[tuple[Node, ...], ...]) -> str:
    rows = []
    for nodes in alternatives:
        row = [" *".join(_LETTERS.findall(n.lower())) if isinstance(n, str) else _pattern(n) for n in nodes]
        rows.append(" *".join(row))
    return f" *(?:{'|'.join(rows)}) *"
