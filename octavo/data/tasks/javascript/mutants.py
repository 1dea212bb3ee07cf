"""Wrong answers that are nearly right: one operator, number or border of a function changed.

Covers: the changes. Does not cover: whether a changed function really is wrong (`task` runs it).
"""

from __future__ import annotations

import re
from random import Random

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r" < ", " <= "),
        (r" <= ", " < "),
        (r" > ", " >= "),
        (r" >= ", " > "),
        (r" === ", " !== "),
        (r" !== ", " === "),
        (r" && ", " || "),
        (r" \|\| ", " && "),
        (r" \+ ", " - "),
        (r" - ", " + "),
        (r" \* ", " + "),
        (r" \+= ", " = "),
        (r" = 0;", " = 1;"),
        (r" = 1;", " = 2;"),
        (r", 0\)", ", 1)"),
        (r"\?\? 0", "?? 1"),
        (r"\breturn true\b", "return false"),
        (r"\breturn false\b", "return true"),
        (r"\.push\(", ".unshift("),
        (r"\bMath\.max\b", "Math.min"),
        (r"\bMath\.min\b", "Math.max"),
        (r"\[0\]", "[1]"),
        (r"slice\(1\)", "slice(2)"),
        (r"\bi = 0;", "i = 1;"),
        (r"\.findIndex\(", ".findLastIndex("),
        (r"!([\w.]+)\.includes", r"\1.includes"),
        (r"(?<![!\w.\"])(\w+|\"\w+\")\.includes", r"!\1.includes"),
        (r"Array\.isArray", "!Array.isArray"),
        (r", word\]", "]"),
        (r"\\d\+", r"\\d"),
        (r"\.reverse\(\)", ".slice(1)"),
        (r"\(p, q\) =>", "(q, p) =>"),
        (r"\.toLowerCase\(\)", ".toUpperCase()"),
        (r"\.toUpperCase\(\)", ""),
        (r"\bInfinity\b", "1"),
        (r"\[j\]\[i\]|\[i\]\[j\]", "[i][i]"),
        (r"\brow\[j\]", "row[0]"),
    )
)


def mutants(answer: str, draw: Random, count: int) -> list[str]:
    """Up to `count` different sources that differ from `answer` in one place below its first line, in a drawn order."""
    head, brace, body = answer.partition("{\n")
    made = [
        body[: match.start()] + match.expand(replacement) + body[match.end() :]
        for pattern, replacement in _RULES
        for match in pattern.finditer(body)
        if not _drives_a_loop(body, match)
    ]
    made += [
        body[: match.start()] + str(int(match[0]) + 1) + body[match.end() :]
        for match in re.finditer(r"(?<=[%*+?-] )\d+\b", body)
    ]
    if len(made) < 3:
        made.append(re.sub(r"return (\w+);\n\}", r"return \1 + 1;\n}", body))
    different = sorted(set(made) - {body})
    draw.shuffle(different)
    return [head + brace + changed for changed in different[:count]]


def _drives_a_loop(body: str, match: re.Match[str]) -> bool:
    """The change would mostly make a loop endless: the head of a `while`, the step of a `for`."""
    line = body[body.rfind("\n", 0, match.start()) + 1 : match.end()]
    return "while (" in line or ("for (let" in line and "= " in match[0] and "+" in match[0])
