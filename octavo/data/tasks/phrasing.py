"""Small grammars of wordings: templates with alternatives, drawn anew each time.

Covers: `Phrasing`. Does not cover: the tables (`phrases_*`, `frames`), test wordings.

A template holds alternatives in brackets, `[What|Which] is it?`, which may hold brackets again, and names of lists in
angles, `<verb> it`, whose entries are templates too. Fields in braces are filled in by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

_LETTERS = re.compile(r"[a-z{}]+")
_TOKEN = re.compile(r"[\[\]|]|<\w+>")


@dataclass(frozen=True, slots=True)
class _Listed:
    """A name in angles."""

    name: str


Node = str | _Listed | tuple[tuple["Node", ...], ...]  # fixed text, a list's name, or alternatives, each a row of nodes
Alternatives = tuple[tuple[Node, ...], ...]


class Phrasing:
    """Templates, each as likely as the others; each alternative is as likely as its neighbours.

    lists: what each name in angles stands for. Raises KeyError for a name without a list, ValueError for an open
    bracket.
    """

    def __init__(self, *templates: str, **lists: Sequence[str]) -> None:
        self._all, open_names = _parsed(templates)
        self._lists: dict[str, Alternatives] = {}
        missing = set(open_names)
        while missing:
            name = missing.pop()
            self._lists[name], inner = _parsed(tuple(lists[name]))
            missing |= inner - self._lists.keys()

    def pick(self, draw: Random) -> str:
        """One wording."""
        out: list[str] = []
        self._draw_into(out, draw.choice(self._all), draw)
        return "".join(out)

    def count(self) -> int:
        """Number of wordings, those that come about in two ways counted twice."""
        return self._count(self._all)

    def covers(self, bare_text: str) -> bool:
        """Whether `bare_text`, small letters, braces and single spaces alone, is one of the wordings but for marks."""
        return re.fullmatch(self._pattern(self._all), bare_text) is not None

    def _choices(self, node: _Listed | Alternatives) -> Alternatives:
        return self._lists[node.name] if isinstance(node, _Listed) else node

    def _draw_into(self, out: list[str], nodes: tuple[Node, ...], draw: Random) -> None:
        for node in nodes:
            if isinstance(node, str):
                out.append(node)
            else:
                self._draw_into(out, draw.choice(self._choices(node)), draw)

    def _count(self, alternatives: Alternatives) -> int:
        total = 0
        for nodes in alternatives:
            product = 1
            for node in nodes:
                product *= 1 if isinstance(node, str) else self._count(self._choices(node))
            total += product
        return total

    def _pattern(self, alternatives: Alternatives) -> str:
        rows = []
        for nodes in alternatives:
            row = [" *".join(_LETTERS.findall(node.lower())) if isinstance(node, str)
                   else self._pattern(self._choices(node)) for node in nodes]  # fmt: skip
            rows.append(" *".join(row))
        return f" *(?:{'|'.join(rows)}) *"


@cache
def _parsed(templates: tuple[str, ...]) -> tuple[Alternatives, frozenset[str]]:
    """Trees of templates and the names in angles that stand in them; most lists are shared by hundreds of phrasings."""
    names = {sign[1:-1] for template in templates for sign in _TOKEN.findall(template) if sign[0] == "<"}
    return tuple(map(_parse, templates)), frozenset(names)


@cache
def _parse(template: str) -> tuple[Node, ...]:
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
            rows[-1][-1].append(_Listed(sign[1:-1]))
    if len(rows) != 1:
        raise ValueError(f"template {template!r} has a bracket that is not closed")
    if place < len(template):
        rows[0][0].append(template[place:])
    return tuple(rows[0][0])
