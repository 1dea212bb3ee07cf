"""Families about several lists: pairs, nested lists, matrices, intervals."""

from octavo.data.tasks.javascript.family import Family

FAMILIES = (
    Family(
        name="merge_intervals", args=("intervals",), names=("mergeIntervals", "mergeRanges", "joinSpans"),
        wordings=(
            "Merge the overlapping or touching intervals of `@a`; return them by start.",
            "Return the intervals of `@a` with those that overlap or touch joined, sorted by start.",
            "Join all [start, end] pairs of `@a` that share a point.",
        ),
        forms={
            "loop": """
  const @r = [];
  for (const [start, end] of @a.slice().sort((p, q) => p[0] - q[0])) {
    const last = @r[@r.length - 1];
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else @r.push([start, end]);
  }
  return @r;""",
            "array": """
  const sorted = [...@a].sort((p, q) => p[0] - q[0]);
  return sorted.reduce((@r, [start, end]) => {
    const last = @r.at(-1);
    if (!last || start > last[1]) return [...@r, [start, end]];
    return [...@r.slice(0, -1), [last[0], Math.max(last[1], end)]];
  }, []);""",
        },
    ),
    Family(
        name="zip_with", args=("ints", "ints"), names=("zipWith", "pairUp", "together"),
        choices=(
            {"expr": "p + q", "word": "sums"},
            {"expr": "p * q", "word": "products"},
            {"expr": "Math.max(p, q)", "word": "larger ones"},
            {"expr": "p - q", "word": "differences (first minus second)"},
        ),
        wordings=(
            "Walk through `@a` and `@b` side by side; return the @word, as far as both reach.",
            "Return the list of the @word of entries at equal places in `@a` and `@b`; stop at the shorter.",
            "Pair `@a` with `@b` by index and return the @word; what has no partner is left out.",
        ),
        forms={
            "loop": """
  const @r = [];
  for (let @i = 0; @i < @a.length && @i < @b.length; @i++) {
    const p = @a[@i];
    const q = @b[@i];
    @r.push(@expr);
  }
  return @r;""",
            "array": """
  const size = Math.min(@a.length, @b.length);
  return @a.slice(0, size).map((p, i) => {
    const q = @b[i];
    return @expr;
  });""",
        },
    ),
    Family(
        name="flatten", args=("nested",), names=("flatten", "flat", "leaves"),
        wordings=(
            "Return all numbers of the nested list `@a` in one flat list.",
            "Flatten `@a`, however deep its lists go.",
            "Collect the numbers inside `@a` and its inner lists, in order.",
        ),
        forms={
            "loop": """
  const @r = [];
  const stack = [...@a].reverse();
  while (stack.length > 0) {
    const x = stack.pop();
    if (Array.isArray(x)) stack.push(...[...x].reverse());
    else @r.push(x);
  }
  return @r;""",
            "array": """
  return @a.flat(Infinity);""",
            "recursion": """
  return @a.reduce((@r, x) => @r.concat(Array.isArray(x) ? @f(x) : [x]), []);""",
        },
    ),
    Family(
        name="transpose", args=("matrix",), names=("transpose", "flip", "columns"),
        wordings=(
            "Return the transpose of `@a`.",
            "Swap rows and columns of `@a`.",
            "Return the columns of `@a` as rows.",
        ),
        forms={
            "loop": """
  const @r = [];
  for (let j = 0; j < @a[0].length; j++) {
    const row = [];
    for (let i = 0; i < @a.length; i++) row.push(@a[i][j]);
    @r.push(row);
  }
  return @r;""",
            "array": """
  return @a[0].map((_, j) => @a.map((row) => row[j]));""",
        },
    ),
)
