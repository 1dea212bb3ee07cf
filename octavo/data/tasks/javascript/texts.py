"""Families about texts and words."""

from octavo.data.tasks.javascript.family import Family

FAMILIES = (
    Family(
        name="palindrome", args=("text",), names=("isPalindrome", "palindrome", "readsBothWays"),
        wordings=(
            "Return true if the letters of `@a` read the same backwards, ignoring case and all other signs.",
            "Check whether `@a` is a palindrome; only letters count, case does not.",
            "Is `@a` the same from both ends, if one looks at letters only and ignores case?",
        ),
        forms={
            "loop": """
  const letters = @a.toLowerCase().replace(/[^a-z]/g, "");
  for (let i = 0, j = letters.length - 1; i < j; i++, j--) {
    if (letters[i] !== letters[j]) return false;
  }
  return true;""",
            "array": """
  const letters = [...@a.toLowerCase()].filter((c) => c >= "a" && c <= "z");
  return letters.join("") === letters.reverse().join("");""",
        },
    ),
    Family(
        name="count_letters", args=("phrase",), names=("countLetters", "lettersIn", "countChars"),
        choices=(
            {"set": "aeiou", "word": "vowels (a, e, i, o, u)"},
            {"set": "rst", "word": "letters r, s and t"},
            {"set": "lmn", "word": "letters l, m and n"},
            {"set": "ae", "word": "letters a and e"},
        ),
        wordings=(
            "Count the @word in `@a`.",
            "Return how many @word there are in `@a`.",
            "How often do the @word occur in `@a`, all together?",
        ),
        forms={
            "loop": """
  let @r = 0;
  for (const c of @a) {
    if ("@set".includes(c)) @r++;
  }
  return @r;""",
            "array": """
  return [...@a].filter((c) => "@set".includes(c)).length;""",
            "recursion": """
  if (@a === "") return 0;
  return ("@set".includes(@a[0]) ? 1 : 0) + @f(@a.slice(1));""",
        },
    ),
    Family(
        name="run_length", args=("letters",), names=("encode", "runLengthEncode", "compress"),
        wordings=(
            'Run-length encode `@a`: each run of a letter becomes the letter and its length, "aab" gives "a2b1".',
            "Replace every run of equal letters in `@a` by the letter and how often it stands there.",
            "Write `@a` as letters with counts, one pair for each run.",
        ),
        forms={
            "loop": """
  let @r = "";
  let i = 0;
  while (i < @a.length) {
    let j = i;
    while (j < @a.length && @a[j] === @a[i]) j++;
    @r += @a[i] + (j - i);
    i = j;
  }
  return @r;""",
            "array": """
  return @a.replace(/(.)\\1*/g, (run, c) => c + run.length);""",
        },
    ),
    Family(
        name="run_length_decode", args=("runs",), names=("decode", "expand", "unpack"), held_out=True,
        wordings=(
            '`@a` holds letters, each with a count; write each out that often, "a2b1" gives "aab".',
            "Undo run-length encoding: expand `@a`, where a number after a letter says how often it stands.",
        ),
        forms={
            "loop": """
  let @r = "";
  let i = 0;
  while (i < @a.length) {
    const c = @a[i++];
    let count = 0;
    while (i < @a.length && @a[i] >= "0" && @a[i] <= "9") count = count * 10 + Number(@a[i++]);
    @r += c.repeat(count);
  }
  return @r;""",
            "array": """
  return @a.replace(/([a-z])(\\d+)/g, (_, c, count) => c.repeat(Number(count)));""",
        },
    ),
    Family(
        name="caesar", args=("phrase",), names=("caesar", "shiftLetters", "cipher"), ints={"k": (1, 25)},
        wordings=(
            "Shift every small letter of `@a` by @k places in the alphabet, going on at a after z.",
            "Encrypt `@a` with a Caesar cipher of @k; only the letters a to z change.",
            "Replace each letter a-z in `@a` by the one @k later, wrapping around.",
        ),
        forms={
            "loop": """
  let @r = "";
  for (const c of @a) {
    if (c >= "a" && c <= "z") @r += String.fromCharCode(((c.charCodeAt(0) - 97 + @k) % 26) + 97);
    else @r += c;
  }
  return @r;""",
            "array": """
  return @a.replace(/[a-z]/g, (c) => String.fromCharCode(((c.charCodeAt(0) - 97 + @k) % 26) + 97));""",
        },
    ),
    Family(
        name="balanced", args=("brackets",), names=("isBalanced", "balanced", "matches"),
        wordings=(
            "Return true if the brackets (), [] and {} in `@a` are balanced; other signs do not matter.",
            "Check that every bracket in `@a` is closed by its own kind in the right order.",
            "Are all round, square and curly brackets of `@a` properly nested?",
        ),
        forms={
            "loop": """
  const stack = [];
  const open = { ")": "(", "]": "[", "}": "{" };
  for (const c of @a) {
    if ("([{".includes(c)) stack.push(c);
    else if (c in open && stack.pop() !== open[c]) return false;
  }
  return stack.length === 0;""",
            "recursion": """
  const signs = @a.replace(/[^()[\\]{}]/g, "");
  const less = signs.replace(/\\(\\)|\\[\\]|\\{\\}/, "");
  return signs === "" || (less !== signs && @f(less));""",
        },
    ),
    Family(
        name="word_count", args=("phrase",), names=("wordCount", "countWords", "frequencies"),
        wordings=(
            "Return an object that says how often each word occurs in `@a`; words are parted by spaces.",
            "Count the words of `@a` (split at spaces) into an object.",
            "Map every word of `@a` to its number of occurrences.",
        ),
        forms={
            "loop": """
  const @r = {};
  for (const word of @a.split(" ")) {
    @r[word] = (@r[word] ?? 0) + 1;
  }
  return @r;""",
            "array": """
  const words = @a.split(" ");
  return Object.fromEntries(words.map((word) => [word, words.filter((other) => other === word).length]));""",
        },
    ),
    Family(
        name="capitalise", args=("phrase",), names=("capitalise", "titleCase", "upperFirst"),
        wordings=(
            "Make the first letter of each word in `@a` large.",
            "Return `@a` with every word capitalised; words are parted by single spaces.",
            "Turn `@a` into title case.",
        ),
        forms={
            "loop": """
  const @r = [];
  for (const word of @a.split(" ")) {
    @r.push(word[0].toUpperCase() + word.slice(1));
  }
  return @r.join(" ");""",
            "array": """
  return @a.replace(/(^| )[a-z]/g, (start) => start.toUpperCase());""",
        },
    ),
    Family(
        name="reverse_words", args=("phrase",), names=("reverseWords", "mirror", "backwards"),
        choices=(
            {"split": '" "', "word": "order of the words"},
            {"split": '""', "word": "order of the characters"},
        ),
        wordings=(
            "Reverse the @word in `@a`.",
            "Return `@a` with the @word turned around.",
            "Give `@a` back with the @word reversed.",
        ),
        forms={
            "loop": """
  const parts = @a.split(@split);
  const @r = [];
  for (let @i = parts.length - 1; @i >= 0; @i--) {
    @r.push(parts[@i]);
  }
  return @r.join(@split);""",
            "array": """
  return @a.split(@split).reverse().join(@split);""",
        },
    ),
    Family(
        name="most_common", args=("letters",), names=("mostCommon", "topLetter", "commonest"),
        wordings=(
            "Return the most common letter of `@a`, of equals the one that comes first in `@a`; null if it is empty.",
            "Which letter occurs most often in `@a`? Ties go to the earlier one, and an empty text gives null.",
            "Find the commonest letter in `@a` (null for none; the first one wins a tie).",
        ),
        forms={
            "loop": """
  const counts = {};
  for (const c of @a) counts[c] = (counts[c] ?? 0) + 1;
  let @r = null;
  for (const c of @a) {
    if (@r === null || counts[c] > counts[@r]) @r = c;
  }
  return @r;""",
            "array": """
  const count = (c) => @a.split(c).length;
  return [...@a].reduce((@r, c) => (@r === null || count(c) > count(@r) ? c : @r), null);""",
        },
    ),
    Family(
        name="anagrams", args=("letters", "letters"), names=("areAnagrams", "anagrams", "sameLetters"),
        wordings=(
            "Return how many letters of `@a` are left over when those of `@b` are taken away, each once.",
            "Take each letter of `@b` once out of `@a`, where it is there; return how many letters of `@a` remain.",
            "Cross out in `@a` one letter for each equal letter of `@b` and count the rest.",
        ),
        forms={
            "loop": """
  const left = [...@a];
  for (const c of @b) {
    const place = left.indexOf(c);
    if (place >= 0) left.splice(place, 1);
  }
  return left.length;""",
            "recursion": """
  if (@b === "") return @a.length;
  return @f(@a.replace(@b[0], ""), @b.slice(1));""",
        },
    ),
    Family(
        name="split_name", args=("camel",), names=("split", "unCamel", "separate"), held_out=True,
        choices=({"sep": "_", "word": "snake_case"}, {"sep": "-", "word": "kebab-case"}, {"sep": "/", "word": "parts"}),
        wordings=(
            "Turn the camelCase name `@a` into @word.",
            'Put "@sep" before each large letter of `@a` and make all letters small (camelCase to @word).',
        ),
        forms={
            "loop": """
  let @r = "";
  for (const c of @a) {
    @r += c >= "A" && c <= "Z" ? "@sep" + c.toLowerCase() : c;
  }
  return @r;""",
            "array": """
  return @a.replace(/[A-Z]/g, (c) => "@sep" + c.toLowerCase());""",
        },
    ),
    Family(
        name="longest_word", args=("words",), names=("longest", "longestWord", "widest"),
        choices=(
            {"op": ">", "word": "longest", "tie": "first"},
            {"op": "<", "word": "shortest", "tie": "first"},
            {"op": ">=", "word": "longest", "tie": "last"},
        ),
        wordings=(
            "Return the @word word of `@a`, the @tie one of equals; null if there is none.",
            "Find the @word string in `@a`. The @tie wins a tie, an empty list gives null.",
            "Which entry of `@a` is @word (the @tie among equals, null for an empty list)?",
        ),
        forms={
            "loop": """
  let @r = null;
  for (const word of @a) {
    if (@r === null || word.length @op @r.length) @r = word;
  }
  return @r;""",
            "array": """
  return @a.reduce((@r, word) => (@r === null || word.length @op @r.length ? word : @r), null);""",
        },
    ),
    Family(
        name="keep_words", args=("words",), names=("keepWords", "filterWords", "chooseWords"), condition="word",
        wordings=(
            "Return the words of `@a` that are @what.",
            "Keep those entries of `@a` which are @what.",
            "Leave out of `@a` every word that is not @what.",
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
        },
    ),
)
