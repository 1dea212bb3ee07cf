"""Families about objects and lists of records."""

from octavo.data.tasks.javascript.family import Family

FAMILIES = (
    Family(
        name="group", args=("words",), names=("groupWords", "groupBy", "buckets"),
        choices=(
            {"key": "word.length", "word": "length"},
            {"key": "word[0]", "word": "first letter"},
            {"key": "word.at(-1)", "word": "last letter"},
        ),
        wordings=(
            "Group the words of `@a` by their @word: an object from the @word to the list of words.",
            "Return an object whose keys are the @word and whose values are the words of `@a` with it.",
            "Sort `@a` into an object of lists by @word.",
        ),
        forms={
            "loop": """
  const @r = {};
  for (const word of @a) {
    const key = @key;
    if (!(key in @r)) @r[key] = [];
    @r[key].push(word);
  }
  return @r;""",
            "array": """
  return @a.reduce((@r, word) => {
    const key = @key;
    return { ...@r, [key]: [...(@r[key] ?? []), word] };
  }, {});""",
        },
    ),
    Family(
        name="sort_by", args=("records",), names=("sortBy", "ordered", "sortRecords"),
        choices=(
            {"expr": "p.age - q.age", "word": "age, youngest first"},
            {"expr": "q.age - p.age", "word": "age, oldest first"},
            {"expr": "p.name < q.name ? -1 : 1", "word": "name, from A to Z"},
            {"expr": "p.name > q.name ? -1 : 1", "word": "name, from Z to A"},
        ),
        wordings=(
            "Return the names in `@a` sorted by @word.",
            "Sort `@a` by @word, and return only the names.",
            "List the `name` of every record of `@a`, ordered by @word.",
        ),
        forms={
            "array": """
  return [...@a].sort((p, q) => @expr).map((record) => record.name);""",
            "loop": """
  const sorted = @a.slice().sort((p, q) => @expr);
  const @r = [];
  for (const record of sorted) {
    @r.push(record.name);
  }
  return @r;""",
        },
    ),
    Family(
        name="total_by", args=("records",), names=("totalBy", "sumAges", "ageByCity"),
        choices=(
            {"add": "record.age", "word": "the sum of ages"},
            {"add": "1", "word": "the number of people"},
        ),
        wordings=(
            "Return an object with @word for each city in `@a`.",
            "Map every city that occurs in `@a` to @word there.",
            "For each `city` of `@a` compute @word; return an object.",
        ),
        forms={
            "loop": """
  const @r = {};
  for (const record of @a) {
    @r[record.city] = (@r[record.city] ?? 0) + @add;
  }
  return @r;""",
            "array": """
  return @a.reduce((@r, record) => ({ ...@r, [record.city]: (@r[record.city] ?? 0) + @add }), {});""",
        },
    ),
    Family(
        name="names_where", args=("records",), names=("namesWhere", "namesOf", "findPeople"), ints={"k": (25, 60)},
        choices=(
            {"test": "record.age >= @k", "word": "at least @k years old"},
            {"test": "record.age < @k", "word": "younger than @k"},
            {"test": 'record.city === "Rome" || record.age > @k', "word": "from Rome or older than @k"},
        ),
        wordings=(
            "Return the names of those in `@a` who are @word.",
            "List the `name` of each record of `@a` that is @word, in order.",
            "Who in `@a` is @word? Return the names.",
        ),
        forms={
            "loop": """
  const @r = [];
  for (const record of @a) {
    if (@test) @r.push(record.name);
  }
  return @r;""",
            "array": """
  return @a.filter((record) => @test).map((record) => record.name);""",
        },
    ),
    Family(
        name="invert", args=("counts",), names=("invert", "swapKeys", "byValue"),
        wordings=(
            "Return an object from each value of `@a` to the list of keys that have it.",
            "Turn `@a` around: values become keys, and hold the lists of their old keys.",
            "For each value in `@a` collect the keys that map to it, as an object.",
        ),
        forms={
            "loop": """
  const @r = {};
  for (const key in @a) {
    const value = @a[key];
    @r[value] = @r[value] ?? [];
    @r[value].push(key);
  }
  return @r;""",
            "array": """
  return Object.entries(@a).reduce((@r, [key, value]) => {
    (@r[value] ??= []).push(key);
    return @r;
  }, {});""",
        },
    ),
    Family(
        name="at_path", args=("deep", "path"), names=("getPath", "lookUp", "at"), ints={"k": (0, 9)},
        wordings=(
            "Return what stands in `@a` under the dotted path `@b`, or @k if there is nothing.",
            'Follow `@b` ("x.y" means field y of field x) into `@a`; return @k where it leads nowhere.',
            "Look up the path `@b`, keys parted by dots, in `@a`. The default is @k.",
        ),
        forms={
            "loop": """
  let @r = @a;
  for (const key of @b.split(".")) {
    if (@r === null || typeof @r !== "object" || !(key in @r)) return @k;
    @r = @r[key];
  }
  return @r;""",
            "array": """
  return @b.split(".").reduce((@r, key) => @r?.[key], @a) ?? @k;""",
            "recursion": """
  const [key, ...rest] = @b.split(".");
  const value = @a?.[key];
  if (value === undefined) return @k;
  return rest.length === 0 ? value : @f(value, rest.join("."));""",
        },
    ),
    Family(
        name="entries_where", args=("counts",), names=("keepEntries", "filterObject", "strip"), ints={"k": (1, 7)},
        choices=(
            {"test": "value > @k", "word": "greater than @k"},
            {"test": "value !== @k", "word": "not @k"},
            {"test": "value <= @k", "word": "at most @k"},
        ),
        wordings=(
            "Return an object with those entries of `@a` whose value is @word.",
            "Keep the keys of `@a` whose value is @word.",
            "Copy `@a` without the entries whose value is not as follows: @word.",
        ),
        forms={
            "loop": """
  const @r = {};
  for (const [key, value] of Object.entries(@a)) {
    if (@test) @r[key] = value;
  }
  return @r;""",
            "array": """
  return Object.fromEntries(Object.entries(@a).filter(([, value]) => @test));""",
        },
    ),
    Family(
        name="add_counts", args=("counts", "counts"), names=("addCounts", "combine", "mergeCounts"), held_out=True,
        wordings=(
            "Add the counts of `@a` and `@b` key by key; a missing key counts 0.",
            "Return an object with all keys of `@a` and `@b`, values of keys that are in both added up.",
        ),
        forms={
            "loop": """
  const @r = { ...@a };
  for (const key in @b) {
    @r[key] = (@r[key] ?? 0) + @b[key];
  }
  return @r;""",
            "array": """
  const keys = [...Object.keys(@a), ...Object.keys(@b)];
  return Object.fromEntries(keys.map((key) => [key, (@a[key] ?? 0) + (@b[key] ?? 0)]));""",
        },
    ),
    Family(
        name="best_keys", args=("counts",), names=("bestKeys", "top", "leaders"),
        choices=(
            {"pick": "Math.max", "word": "largest"},
            {"pick": "Math.min", "word": "smallest"},
        ),
        wordings=(
            "Return the keys of `@a` whose value is the @word, in the order of `@a`.",
            "Which keys of `@a` hold the @word value? List all.",
            "List every key of `@a` that has the @word value in it.",
        ),
        forms={
            "loop": """
  const best = @pick(...Object.values(@a));
  const @r = [];
  for (const key in @a) {
    if (@a[key] === best) @r.push(key);
  }
  return @r;""",
            "array": """
  const best = @pick(...Object.values(@a));
  return Object.keys(@a).filter((key) => @a[key] === best);""",
        },
    ),
    Family(
        name="shared", args=("words", "words"), names=("shared", "common", "overlap"),
        choices=(
            {"not": "", "word": "also"},
            {"not": "!", "word": "not"},
        ),
        wordings=(
            "Return the words of `@a` that are @word in `@b`, in order and each once.",
            "Which entries of `@a` does `@b` hold? Return those that are @word in `@b`, without repeats.",
            "List the different words of `@a` that are @word found in `@b`.",
        ),
        forms={
            "loop": """
  const @r = [];
  for (const word of @a) {
    if (@not@b.includes(word) && !@r.includes(word)) @r.push(word);
  }
  return @r;""",
            "array": """
  return [...new Set(@a)].filter((word) => @not@b.includes(word));""",
        },
    ),
)
