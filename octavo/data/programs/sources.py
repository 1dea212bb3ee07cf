"""Where a program's list of values comes from: arguments, or numbers made of them.

Covers: drawing a source, its code as an expression and as the head of a loop. Does not cover: what is done with them.
"""

from __future__ import annotations

from collections.abc import Callable

from octavo.data.programs import sequences, values
from octavo.data.programs.piece import CHARACTER, NUMBER, RECORD, WORD, Scope, Source

LISTS = ("numbers", "list", "values", "items", "nums", "data", "xs")
TEXTS = ("text", "str", "s", "input", "line", "message")
WORDS = ("words", "names", "strings", "tokens", "labels")


def source(scope: Scope) -> Source:
    """Any source."""
    return scope.draw.choices([one for one, _ in _SOURCES], [weight for _, weight in _SOURCES])[0](scope)


def _numbers(scope: Scope) -> Source:
    name = scope.argument(LISTS, "a list of numbers", values.draw_numbers)
    return Source(
        key="numbers",
        kind=NUMBER,
        noun=f"the numbers in `{name}`",
        unit="number",
        js=name,
        run=lambda env: list(env[name]),
        head=f"for (const {{x}} of {name}) {{{{",
    )


def _words(scope: Scope) -> Source:
    name = scope.argument(WORDS, "a list of words", values.draw_words)
    unit = scope.draw.choice(("word", "string"))
    return Source(
        key="words",
        kind=WORD,
        noun=f"the {unit}s in `{name}`",
        unit=unit,
        js=name,
        run=lambda env: list(env[name]),
        head=f"for (const {{x}} of {name}) {{{{",
    )


def _phrase(scope: Scope) -> Source:
    name = scope.argument(TEXTS, "a text of words parted by single spaces", values.draw_phrase)
    said = scope.draw.choice(("the words of `{}` (parted by spaces)", "the space-separated words in `{}`"))
    return Source(
        key="phrase",
        kind=WORD,
        noun=said.format(name),
        unit="word",
        js=f'{name}.split(" ")',
        run=lambda env: env[name].split(" "),
        head=f'for (const {{x}} of {name}.split(" ")) {{{{',
    )


def _characters(scope: Scope) -> Source:
    draw = scope.draw.choice((values.draw_text, values.draw_text, values.draw_letters, values.draw_phrase))
    name = scope.argument(TEXTS, "a text", draw)
    unit = scope.draw.choice(("character", "character", "sign"))
    return Source(
        key="characters",
        kind=CHARACTER,
        noun=f"the {unit}s of `{name}`",
        unit=unit,
        js=f"[...{name}]",
        run=lambda env: list(env[name]),
        head=f"for (const {{x}} of {name}) {{{{",
    )


def _zipped(scope: Scope) -> Source:
    a = scope.argument(("a", "left", "first", "xs"), "a list of numbers", values.draw_numbers)
    b = scope.argument(
        ("b", "right", "second", "ys"),
        "a list of numbers",
        lambda draw, size: values.draw_numbers(draw, max(0, size + draw.choice((0, 0, 1, -1)))),
    )
    key, said, js, run = scope.draw.choice(
        (
            ("difference", "absolute differences", "Math.abs({} - {})", lambda p, q: abs(p - q)),
            ("smaller", "smaller ones", "Math.min({}, {})", min),
            ("larger", "larger ones", "Math.max({}, {})", max),
            ("product", "products", "{} * {}", lambda p, q: p * q),
            ("sum", "sums", "{} + {}", lambda p, q: p + q),
        )
    )
    item = js.format(f"{a}[i]", f"{b}[i]")
    size = f"Math.min({a}.length, {b}.length)"
    return Source(
        key=f"zip {key}",
        kind=NUMBER,
        noun=f"the {said} of the numbers at equal places in `{a}` and `{b}` (as far as both reach)",
        unit="number",
        js=f"Array.from({{ length: {size} }}, (_, i) => {item})",
        run=lambda env: [run(p, q) for p, q in zip(env[a], env[b], strict=False)],
        head=f"for (let i = 0; i < {size}; i++) {{{{",
        inside=(f"const {{x}} = {item};",),
    )


def _table(scope: Scope) -> Source:
    if scope.draw.random() < 0.4:
        return _inner(scope)
    name = scope.argument(("matrix", "grid", "table", "rows"), "a matrix (list of rows)", values.draw_matrix)
    key, noun, js, run = scope.draw.choice(
        (
            ("cells", "the numbers in all rows of `{}`", "{}.flat()", lambda m: [x for row in m for x in row]),
            (
                "row sums",
                "the row sums of `{}`",
                "{}.map((row) => row.reduce((a, b) => a + b, 0))",
                lambda m: [sum(row) for row in m],
            ),
            (
                "row tops",
                "the largest numbers of each row of `{}`",
                "{}.map((row) => Math.max(...row))",
                lambda m: [max(row) for row in m],
            ),
            (
                "first column",
                "the numbers in the first column of `{}`",
                "{}.map((row) => row[0])",
                lambda m: [row[0] for row in m],
            ),
            (
                "column sums",
                "the column sums of `{}`",
                "{0}[0].map((_, j) => {0}.reduce((sum, row) => sum + row[j], 0))",
                lambda m: [sum(column) for column in zip(*m, strict=True)],
            ),
        )
    )
    return Source(
        key=f"matrix {key}",
        kind=NUMBER,
        noun=noun.format(name),
        unit="number",
        js=js.format(name),
        run=lambda env: run(env[name]),
        head=f"for (const {{x}} of {js.format(name)}) {{{{",
    )


def _inner(scope: Scope) -> Source:
    name = scope.argument(("lists", "groups", "parts"), "a list of lists of numbers", values.draw_lists)
    key, noun, js, run = scope.draw.choice(
        (
            ("all", "the numbers in the lists of `{}`", "{}.flat()", lambda m: [x for row in m for x in row]),
            (
                "sizes",
                "the lengths of the lists in `{}`",
                "{}.map((part) => part.length)",
                lambda m: [len(row) for row in m],
            ),
            (
                "sums",
                "the sums of the lists in `{}`",
                "{}.map((part) => part.reduce((a, b) => a + b, 0))",
                lambda m: [sum(row) for row in m],
            ),
        )
    )
    return Source(
        key=f"lists {key}",
        kind=NUMBER,
        noun=noun.format(name),
        unit="number",
        js=js.format(name),
        run=lambda env: run(env[name]),
        head=f"for (const {{x}} of {js.format(name)}) {{{{",
    )


def _records(scope: Scope) -> Source:
    many, one, fields = scope.draw.choice(values.SCHEMAS)
    name = scope.argument(
        (many, "rows", "records", "entries"),
        f"a list of {many} with the fields {', '.join(fields)}",
        lambda draw, size: values.draw_records(fields, draw, size),
    )
    return Source(
        key="records",
        kind=RECORD,
        noun=f"the {many} in `{name}`" if many != name else f"the records in `{name}`",
        unit=one if many != name else "record",
        js=name,
        run=lambda env: list(env[name]),
        fields=fields,
        head=f"for (const {{x}} of {name}) {{{{",
    )


def _entries(scope: Scope) -> Source:
    name = scope.argument(
        ("counts", "totals", "scores", "stock", "prices"), "an object from words to numbers", values.draw_counts
    )
    if scope.draw.random() < 0.5:
        return Source(
            key="object values",
            kind=NUMBER,
            noun=f"the values of the object `{name}`",
            unit="value",
            js=f"Object.values({name})",
            run=lambda env: list(env[name].values()),
            natural=True,
            head=f"for (const {{x}} of Object.values({name})) {{{{",
        )
    return Source(
        key="object keys",
        kind=WORD,
        noun=f"the keys of the object `{name}`",
        unit="key",
        js=f"Object.keys({name})",
        run=lambda env: list(env[name]),
        head=f"for (const {{x}} of Object.keys({name})) {{{{",
    )


_SOURCES: tuple[tuple[Callable[[Scope], Source], float], ...] = (
    (_records, 0.1),
    (_numbers, 0.28),
    (_words, 0.14),
    (_phrase, 0.1),
    (_characters, 0.14),
    (sequences.digits, 0.07),
    (sequences.whole_numbers, 0.05),
    (sequences.between, 0.03),
    (sequences.divisors, 0.015),
    (sequences.powers, 0.015),
    (sequences.recurrence, 0.03),
    (sequences.orbit, 0.04),
    (_zipped, 0.04),
    (_table, 0.05),
    (_entries, 0.05),
)
