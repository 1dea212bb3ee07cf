"""Lists of numbers that are made of one or two: digits, ranges, divisors, powers, recurrences, what a rule leads to.

Covers: drawing them. Does not cover: lists that are given (`sources`).
"""

from __future__ import annotations

from collections.abc import Callable

from octavo.data.programs.piece import NUMBER, Env, Scope, Source, remainder

COUNTS = ("n", "number", "num", "value", "start")


def _count(scope: Scope, low: int, high: int) -> str:
    return scope.argument(COUNTS, "a whole number", lambda draw, size: draw.randint(low, high))


def digits(scope: Scope) -> Source:
    """The digits of a number, from either end."""
    name = _count(scope, 1, 99_999)
    if scope.draw.random() < 0.4:
        rest = scope.fresh("rest", "left", "remaining")
        return Source(
            key="digits back",
            kind=NUMBER,
            noun=f"the digits of `{name}`, from the last to the first",
            unit="digit",
            js=f"[...String({name})].reverse().map(Number)",
            run=lambda env: [int(c) for c in reversed(str(env[name]))],
            before=(f"let {rest} = {name};",),
            head=f"while ({rest} > 0) {{{{",
            inside=(f"const {{x}} = {rest} % 10;", f"{rest} = Math.floor({rest} / 10);"),
            natural=True,
        )
    return Source(
        key="digits",
        kind=NUMBER,
        noun=f"the digits of `{name}`",
        unit="digit",
        js=f"[...String({name})].map(Number)",
        run=lambda env: [int(c) for c in str(env[name])],
        head=f"for (const {{x}} of [...String({name})].map(Number)) {{{{",
        natural=True,
    )


def whole_numbers(scope: Scope) -> Source:
    """Whole numbers or multiples up to a number."""
    name = _count(scope, 1, 14)
    if scope.draw.random() < 0.3:
        k = scope.draw.randint(2, 5)
        return Source(
            key="multiples",
            kind=NUMBER,
            noun=f"the first `{name}` multiples of {k} (from {k} on)",
            unit="number",
            js=f"Array.from({{ length: {name} }}, (_, i) => (i + 1) * {k})",
            run=lambda env: [k * i for i in range(1, env[name] + 1)],
            head=f"for (let {{x}} = {k}; {{x}} <= {name} * {k}; {{x}} += {k}) {{{{",
            natural=True,
        )
    low = scope.draw.choice((0, 1, 1, 1))
    size = f"{name} + 1" if low == 0 else name
    item = "i" if low == 0 else "i + 1"
    return Source(
        key=f"from {low}",
        kind=NUMBER,
        noun=f"the whole numbers from {low} to `{name}`",
        unit="number",
        js=f"Array.from({{ length: {size} }}, (_, i) => {item})",
        run=lambda env: list(range(low, env[name] + 1)),
        head=f"for (let {{x}} = {low}; {{x}} <= {name}; {{x}}++) {{{{",
        natural=True,
    )


def between(scope: Scope) -> Source:
    """Whole numbers between two."""
    low = scope.argument(("low", "from", "first", "a"), "a whole number", lambda draw, size: draw.randint(-3, 8))
    high = scope.argument(("high", "to", "last", "b"), "a whole number", lambda draw, size: draw.randint(6, 20))
    return Source(
        key="between",
        kind=NUMBER,
        noun=f"the whole numbers from `{low}` to `{high}` (both included)",
        unit="number",
        js=f"Array.from({{ length: {high} - {low} + 1 }}, (_, i) => {low} + i)",
        run=lambda env: list(range(env[low], env[high] + 1)),
        head=f"for (let {{x}} = {low}; {{x}} <= {high}; {{x}}++) {{{{",
    )


def divisors(scope: Scope) -> Source:
    """The divisors of a number but itself."""
    name = _count(scope, 2, 60)
    most = scope.draw.choice((f"{name} - 1", f"{name} / 2"))
    return Source(
        key="proper divisors",
        kind=NUMBER,
        noun=f"the divisors of `{name}` that are less than `{name}`",
        unit="divisor",
        js=f"Array.from({{ length: {name} - 1 }}, (_, i) => i + 1).filter((d) => {name} % d === 0)",
        run=lambda env: [d for d in range(1, env[name]) if env[name] % d == 0],
        head=f"for (let {{x}} = 1; {{x}} <= {most}; {{x}}++) {{{{",
        inside=(f"if ({name} % {{x}} !== 0) continue;",),
        natural=True,
    )


def powers(scope: Scope) -> Source:
    """Powers up to a number."""
    name = _count(scope, 1, 500)
    k, list_name = scope.draw.randint(2, 4), scope.fresh("powers", "list", "found")
    return Source(
        key="powers",
        kind=NUMBER,
        noun=f"the powers of {k} (1, {k}, {k * k}, ...) that are at most `{name}`",
        unit="power",
        js=list_name,
        run=lambda env: [k**i for i in range(12) if k**i <= env[name]],
        setup=(
            f"const {list_name} = [];",
            f"for (let power = 1; power <= {name}; power *= {k}) {list_name}.push(power);",
        ),
        head=f"for (let {{x}} = 1; {{x}} <= {name}; {{x}} *= {k}) {{{{",
        natural=True,
    )


def recurrence(scope: Scope) -> Source:
    """Terms of which each is made of the two before."""
    name = _count(scope, 1, 9)
    p, q, first, second = (
        scope.draw.randint(1, 3),
        scope.draw.choice((-1, 1, 2)),
        scope.draw.randint(0, 4),
        scope.draw.randint(1, 5),
    )
    if (p, q) == (1, 1):
        p = 2
    terms, times = scope.fresh("terms", "sequence", "seq"), "" if p == 1 else f"{p} * "
    rule = f"{'' if p == 1 else f'{p} times '}the one before {'minus' if q < 0 else 'plus'} "
    rule += f"{'2 times ' if q == 2 else ''}the one before that"

    def run(env: Env) -> list[int]:
        made = [first, second]
        while len(made) < env[name]:
            made.append(p * made[-1] + q * made[-2])
        return made[: env[name]]

    lines = (
        f"const {terms} = [{first}, {second}].slice(0, {name});",
        f"while ({terms}.length < {name}) {{",
        f"  {terms}.push({times}{terms}.at(-1) {'-' if q < 0 else '+'} {'2 * ' if q == 2 else ''}{terms}.at(-2));",
        "}",
    )
    return Source(
        key="recurrence",
        kind=NUMBER,
        unit="term",
        js=terms,
        run=run,
        setup=lines,
        before=lines,
        noun=f"the first `{name}` terms of the sequence {first}, {second}, ... in which each term is {rule}",
        head=f"for (const {{x}} of {terms}) {{{{",
    )


def orbit(scope: Scope) -> Source:
    """What a number becomes step by step, until it is 0 or less."""
    name = _count(scope, 1, 120)
    seen, now = scope.fresh("seen", "path", "visited", "chain"), scope.fresh("now", "current", "x", "rest")
    k = scope.draw.randint(2, 4)
    kinds: tuple[tuple[str, str, str, Callable[[int], int]], ...] = (
        ("halve", f"dividing by {k} and rounding down", f"Math.floor({now} / {k})", lambda x: x // k),
        ("lower", f"subtracting {k + 5}", f"{now} - {k + 5}", lambda x: x - k - 5),
        (
            "even or less",
            f"halving it if it is even and subtracting {2 * k - 1} if it is odd",
            f"{now} % 2 === 0 ? {now} / 2 : {now} - {2 * k - 1}",
            lambda x: x // 2 if x % 2 == 0 else x - 2 * k + 1,
        ),
        (
            "thirds",
            f"dividing by 3 if that leaves no remainder and subtracting {k} otherwise",
            f"{now} % 3 === 0 ? {now} / 3 : {now} - {k}",
            lambda x: x // 3 if remainder(x, 3) == 0 else x - k,
        ),
    )
    key, said, js, step = scope.draw.choice(kinds)

    def run(env: Env) -> list[int]:
        made, x = [], env[name]
        while x > 0:
            made.append(x)
            x = step(x)
        return made

    lines = (
        f"const {seen} = [];",
        f"let {now} = {name};",
        f"while ({now} > 0) {{",
        f"  {seen}.push({now});",
        f"  {now} = {js};",
        "}",
    )
    return Source(
        key=f"orbit {key}",
        kind=NUMBER,
        unit="number",
        js=seen,
        run=run,
        natural=True,
        setup=lines,
        before=lines,
        noun=f"the numbers met when one starts at `{name}` and goes on by {said}, as long as they are above 0",
        head=f"for (const {{x}} of {seen}) {{{{",
    )
