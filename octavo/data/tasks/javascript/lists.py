"""Families about flat lists."""

from octavo.data.tasks.javascript.family import Family

FAMILIES = (
    Family(
        name="sum_where", args=("ints",), names=("sumWhere", "total", "addUp"), condition="number",
        wordings=(
            "Return the sum of the numbers in `@a` that are @what.",
            "Add up all @what numbers of `@a`.",
            "Sum those entries of `@a` which are @what.",
        ),
        forms={
            "loop": """
  let @r = 0;
  for (const x of @a) {
    if (@cond) @r += x;
  }
  return @r;""",
            "array": """
  return @a.filter((x) => @cond).reduce((@r, x) => @r + x, 0);""",
            "recursion": """
  if (@a.length === 0) return 0;
  const [x, ...rest] = @a;
  return (@cond ? x : 0) + @f(rest);""",
        },
    ),
    Family(
        name="count_where", args=("ints",), names=("countWhere", "howMany", "count"), condition="number",
        wordings=(
            "Count the numbers in `@a` that are @what.",
            "Return how many entries of `@a` are @what.",
            "How many of `@a` are @what?",
        ),
        forms={
            "loop": """
  let @r = 0;
  for (let @i = 0; @i < @a.length; @i++) {
    const x = @a[@i];
    if (@cond) @r++;
  }
  return @r;""",
            "array": """
  return @a.filter((x) => @cond).length;""",
        },
    ),
    Family(
        name="keep_where", args=("ints",), names=("keep", "select", "pick"), condition="number",
        wordings=(
            "Return a list of the numbers in `@a` that are @what, in the same order.",
            "Keep only the @what numbers of `@a`.",
            "Drop every number of `@a` that is not @what.",
        ),
        forms={
            "loop": """
  const @r = [];
  for (const x of @a) {
    if (@cond) @r.push(x);
  }
  return @r;""",
            "array": """
  return @a.filter((x) => @cond);""",
            "recursion": """
  if (@a.length === 0) return [];
  const [x, ...rest] = @a;
  return @cond ? [x, ...@f(rest)] : @f(rest);""",
        },
    ),
    Family(
        name="first_index", args=("ints",), names=("firstIndex", "position", "find"), condition="number",
        wordings=(
            "Return the index of the first number in `@a` that is @what, or -1.",
            "Find where the first @what number of `@a` stands; -1 if there is none.",
            "At which index does `@a` first hold a number that is @what? Return -1 if nowhere.",
        ),
        forms={
            "loop": """
  for (let @i = 0; @i < @a.length; @i++) {
    const x = @a[@i];
    if (@cond) return @i;
  }
  return -1;""",
            "array": """
  return @a.findIndex((x) => @cond);""",
        },
    ),
    Family(
        name="map_affine", args=("ints",), names=("scale", "mapAll", "transform"), ints={"k": (2, 9), "p": (1, 9)},
        wordings=(
            "Return a list with every number of `@a` times @k plus @p.",
            "Multiply each entry of `@a` by @k and add @p.",
            "Map x to @k * x + @p over `@a`.",
        ),
        forms={
            "loop": """
  const @r = [];
  for (const x of @a) {
    @r.push(x * @k + @p);
  }
  return @r;""",
            "array": """
  return @a.map((x) => x * @k + @p);""",
            "recursion": """
  if (@a.length === 0) return [];
  return [@a[0] * @k + @p, ...@f(@a.slice(1))];""",
        },
    ),
    Family(
        name="running", args=("few",), names=("running", "prefixes", "accumulate"),
        choices=(
            {"op": "+", "start": "0", "word": "sums"},
            {"op": "*", "start": "1", "word": "products"},
        ),
        wordings=(
            "Return the running @word of `@a`.",
            "For each place in `@a` give the @word up to it, as one list.",
            "Return the list of all prefix @word of `@a`.",
        ),
        forms={
            "loop": """
  const @r = [];
  let value = @start;
  for (const x of @a) {
    value = value @op x;
    @r.push(value);
  }
  return @r;""",
            "array": """
  let value = @start;
  return @a.map((x) => (value = value @op x));""",
        },
    ),
    Family(
        name="unique", args=("few",), names=("unique", "distinct", "dedupe"),
        wordings=(
            "Return `@a` without repeats, keeping the first of each.",
            "Remove duplicates from `@a`; the order stays.",
            "List the different numbers of `@a` in order of first appearance.",
        ),
        forms={
            "loop": """
  const @r = [];
  for (const x of @a) {
    if (!@r.includes(x)) @r.push(x);
  }
  return @r;""",
            "array": """
  return @a.filter((x, i) => @a.indexOf(x) === i);""",
        },
    ),
    Family(
        name="chunk", args=("ints",), names=("chunk", "groups", "split"), ints={"k": (2, 4)},
        wordings=(
            "Split `@a` into lists of @k; the last may be shorter.",
            "Cut `@a` into pieces of length @k.",
            "Return the entries of `@a` in groups of @k.",
        ),
        forms={
            "loop": """
  const @r = [];
  for (let @i = 0; @i < @a.length; @i += @k) {
    @r.push(@a.slice(@i, @i + @k));
  }
  return @r;""",
            "recursion": """
  if (@a.length === 0) return [];
  return [@a.slice(0, @k), ...@f(@a.slice(@k))];""",
        },
    ),
    Family(
        name="rotate", args=("ints",), names=("rotate", "turn", "shift"), ints={"k": (1, 4)},
        wordings=(
            "Move the first entry of `@a` to its end, @k times.",
            "Rotate `@a` to the left by @k places.",
            "Return `@a` turned left by @k.",
        ),
        forms={
            "loop": """
  const @r = @a.slice();
  for (let @i = 0; @i < @k && @r.length > 0; @i++) {
    @r.push(@r.shift());
  }
  return @r;""",
            "array": """
  return @a.map((_, i) => @a[(i + @k) % @a.length]);""",
        },
    ),
    Family(
        name="merge_sorted", args=("sorted", "sorted"), names=("merge", "mergeSorted", "combine"),
        wordings=(
            "Merge the sorted lists `@a` and `@b` into one sorted list.",
            "`@a` and `@b` are sorted; return all their numbers in rising order.",
            "Join two sorted lists, `@a` and `@b`, so that the result is sorted.",
        ),
        forms={
            "loop": """
  const @r = [];
  let i = 0;
  let j = 0;
  while (i < @a.length || j < @b.length) {
    if (j >= @b.length || @a[i] <= @b[j]) @r.push(@a[i++]);
    else @r.push(@b[j++]);
  }
  return @r;""",
            "array": """
  return [...@a, ...@b].sort((p, q) => p - q);""",
        },
    ),
    Family(
        name="binary_search", args=("sorted", "int"), names=("lowerBound", "place", "searchPlace"),
        wordings=(
            "Return how many numbers of the sorted list `@a` are smaller than `@b`, by binary search.",
            "`@a` is sorted. Return the first index at which `@b` could be inserted so that it stays sorted.",
            "Find by halving where `@b` belongs in the sorted list `@a`.",
        ),
        forms={
            "loop": """
  let low = 0;
  let high = @a.length;
  while (low < high) {
    const mid = Math.floor((low + high) / 2);
    if (@a[mid] < @b) low = mid + 1;
    else high = mid;
  }
  return low;""",
            "recursion": """
  const search = (low, high) => {
    if (low >= high) return low;
    const mid = Math.floor((low + high) / 2);
    return @a[mid] < @b ? search(mid + 1, high) : search(low, mid);
  };
  return search(0, @a.length);""",
        },
    ),
    Family(
        name="best_window", args=("ints",), names=("bestWindow", "largestSum", "maxWindow"), ints={"k": (2, 3)},
        wordings=(
            "Return the largest sum of @k neighbours in `@a`, or null if `@a` is shorter.",
            "Which @k adjacent numbers of `@a` have the largest sum? Return the sum, null if there are too few.",
            "Find the maximum over all runs of @k numbers in `@a` of their sum; null for a shorter list.",
        ),
        forms={
            "loop": """
  let @r = null;
  for (let i = 0; i + @k <= @a.length; i++) {
    let sum = 0;
    for (let j = i; j < i + @k; j++) sum += @a[j];
    if (@r === null || sum > @r) @r = sum;
  }
  return @r;""",
            "array": """
  const sums = @a.map((_, i) => @a.slice(i, i + @k).reduce((p, q) => p + q, 0));
  const whole = sums.slice(0, Math.max(0, @a.length - @k + 1));
  return whole.length === 0 ? null : Math.max(...whole);""",
        },
    ),
    Family(
        name="kth_largest", args=("ints",), names=("kthLargest", "ranked", "nthLargest"), ints={"k": (2, 4)},
        held_out=True,
        wordings=(
            "Return number @k of `@a` when sorted from large to small, or null if there are fewer.",
            "Which number is at rank @k among `@a`, the largest being rank 1? Return null if `@a` is too short.",
        ),
        forms={
            "loop": """
  const left = @a.slice();
  let @r = null;
  for (let @i = 0; @i < @k; @i++) {
    if (left.length === 0) return null;
    @r = Math.max(...left);
    left.splice(left.indexOf(@r), 1);
  }
  return @r;""",
            "array": """
  return @a.slice().sort((p, q) => q - p)[@k - 1] ?? null;""",
        },
    ),
    Family(
        name="longest_run", args=("few",), names=("longestRun", "runLength", "longestStreak"),
        wordings=(
            "Return the length of the longest run of equal neighbours in `@a`.",
            "How many equal numbers stand in a row in `@a` at most?",
            "Find the longest stretch of one number repeated in `@a`; return its length.",
        ),
        forms={
            "loop": """
  let @r = 0;
  let length = 0;
  for (let i = 0; i < @a.length; i++) {
    length = i > 0 && @a[i] === @a[i - 1] ? length + 1 : 1;
    if (length > @r) @r = length;
  }
  return @r;""",
            "array": """
  let length = 0;
  const runs = @a.map((x, i) => (length = @a[i - 1] === x ? length + 1 : 1));
  return Math.max(0, ...runs);""",
        },
    ),
    Family(
        name="pairs_with_sum", args=("few",), names=("countPairs", "pairs", "pairsWithSum"), ints={"k": (3, 7)},
        held_out=True,
        wordings=(
            "Count the pairs of places i < j in `@a` whose numbers add up to @k.",
            "How many pairs of entries of `@a` have the sum @k?",
        ),
        forms={
            "loop": """
  let @r = 0;
  for (let i = 0; i < @a.length; i++) {
    for (let j = i + 1; j < @a.length; j++) {
      if (@a[i] + @a[j] === @k) @r++;
    }
  }
  return @r;""",
            "array": """
  return @a.flatMap((x, i) => @a.slice(i + 1).filter((y) => x + y === @k)).length;""",
        },
    ),
)
