"""Changes of one word or character.

Covers: how each is drawn. Does not cover: numbers, choices by a rule (`changes`). What is made of a character and has
two is a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from octavo.data.programs.piece import CHARACTER, WORD, Change, Scope, keyed, made_change
from octavo.data.programs.values import LETTERS


def _length(scope: Scope) -> Change:
    return made_change("length", "take the length of {}", "the lengths of {}", "@.length", lambda x, env: len(x))


def _letter_count(scope: Scope) -> Change:
    c = scope.text(LETTERS, "letter", "char", "sign", lift=0.3)
    return made_change(
        keyed("letter count", c),
        f"count how often {c.said} occurs in {{}}",
        f"the numbers of times {c.said} occurs in {{}}",
        f"@.split({c.js}).length - 1",
        lambda x, env: x.count(c.of(env)),
    )


def _vowel_count(scope: Scope) -> Change:
    return made_change(
        "vowel count",
        "count the small vowels of {}",
        "the numbers of small vowels in {}",
        '@.replace(/[^aeiou]/g, "").length',
        lambda x, env: sum(c in "aeiou" for c in x),
    )


def _upper(scope: Scope) -> Change:
    if scope.draw.random() < 0.5:
        return made_change(
            "upper",
            "turn {} into capital letters",
            "in capital letters",
            "@.toUpperCase()",
            lambda x, env: x.upper(),
            WORD,
        )
    return made_change(
        "capital",
        "make the first letter of {} a capital",
        "with a capital first letter",
        "@.slice(0, 1).toUpperCase() + @.slice(1)",
        lambda x, env: x[:1].upper() + x[1:],
        WORD,
    )


def _reversed(scope: Scope) -> Change:
    return made_change(
        "reverse",
        "reverse the letters of {}",
        "spelled backwards",
        '[...@].reverse().join("")',
        lambda x, env: x[::-1],
        WORD,
    )


def _cut(scope: Scope) -> Change:
    k = scope.number(2, 3, "size", "count", "k", lift=0.25)
    pick = scope.draw.randrange(4)
    if pick == 0:
        return made_change(
            "first",
            "take the first letter of {}",
            "the first letters of {}",
            "@.slice(0, 1)",
            lambda x, env: x[:1],
            WORD,
        )
    if pick == 1:
        return made_change(
            "last", "take the last letter of {}", "the last letters of {}", "@.slice(-1)", lambda x, env: x[-1:], WORD
        )
    if pick == 2:
        return made_change(
            keyed("head", k),
            f"cut {{}} to its first {k.said} letters",
            f"cut to the first {k.said} letters",
            f"@.slice(0, {k.js})",
            lambda x, env: x[: k.of(env)],
            WORD,
        )
    return made_change(
        "tail", "remove the first letter of {}", "without its first letter", "@.slice(1)", lambda x, env: x[1:], WORD
    )


def _joined(scope: Scope) -> Change:
    c = scope.text(("s", "-", "!", "ing", "_", "er"), "suffix", "ending", "extra", lift=0.3)
    if scope.draw.random() < 0.5:
        return made_change(
            keyed("suffix", c),
            f"append {c.said} to {{}}",
            f"followed by {c.said}",
            f"@ + {c.js}",
            lambda x, env: x + c.of(env),
            WORD,
        )
    return made_change(
        keyed("prefix", c),
        f"put {c.said} in front of {{}}",
        f"with {c.said} in front",
        f"{c.js} + @",
        lambda x, env: c.of(env) + x,
        WORD,
    )


def _replaced(scope: Scope) -> Change:
    mark = scope.draw.choice(("*", "#", "-", "."))
    if scope.draw.random() < 0.5:
        return made_change(
            "mask vowels",
            f'replace every small vowel of {{}} by "{mark}"',
            f'with "{mark}" for every small vowel',
            f'@.replace(/[aeiou]/g, "{mark}")',
            lambda x, env: re.sub("[aeiou]", mark, x),
            WORD,
        )
    c = scope.text(LETTERS, "letter", "char", lift=0.4)
    return made_change(
        keyed("delete", c),
        f"remove every {c.said} from {{}}",
        f"without the letter {c.said}",
        f'@.replaceAll({c.js}, "")',
        lambda x, env: x.replace(c.of(env), ""),
        WORD,
    )


def _repeated(scope: Scope) -> Change:
    if scope.draw.random() < 0.4:
        return made_change(
            "labelled length",
            'put the length of {} behind it, as in "sun:3"',
            'with ":" and its length behind it',
            '@ + ":" + @.length',
            lambda x, env: f"{x}:{len(x)}",
            WORD,
        )
    k = scope.number(2, 3, "times", "count", "k")
    return made_change(
        keyed("repeat", k),
        f"repeat {{}} {k.said} times",
        f"written {k.said} times in a row",
        f"@.repeat({k.js})",
        lambda x, env: x * k.of(env),
        WORD,
    )


def _character(scope: Scope) -> Change:
    pick = scope.draw.randrange(4)
    if pick == 0:
        return made_change(
            "upper", "turn {} into a capital", "in capitals", "@.toUpperCase()", lambda x, env: x.upper(), CHARACTER
        )
    if pick == 1:
        return made_change(
            "code",
            "take the character code of {}",
            "the character codes of {}",
            "@.charCodeAt(0)",
            lambda x, env: ord(x[0]),
        )
    if pick == 2:
        return made_change("double", "double {}", "written twice", "@ + @", lambda x, env: x + x, WORD)
    mark = scope.draw.choice(("-", ".", "|", "_"))
    return made_change(
        "mark",
        f'put "{mark}" behind {{}}',
        f'followed by "{mark}"',
        f'@ + "{mark}"',
        lambda x, env: x + mark,
        WORD,
    )


WORD_EDITS: tuple[Callable[[Scope], Change], ...] = (
    _length, _length, _letter_count, _vowel_count, _upper, _reversed, _cut, _cut, _joined, _replaced, _repeated,
)  # fmt: skip
CHOSEN_EDITS = (_upper, _reversed, _joined, _replaced, _cut)
CHARACTER_EDITS = (_character,)
