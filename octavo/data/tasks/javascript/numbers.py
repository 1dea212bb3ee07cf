"""Families about whole numbers."""

from octavo.data.tasks.javascript.family import Family

FAMILIES = (
    Family(
        name="gcd", args=("multiple", "multiple"), names=("gcd", "greatestCommonDivisor", "commonDivisor"),
        wordings=(
            "Return the greatest common divisor of `@a` and `@b`.",
            "Compute the largest number that divides both `@a` and `@b`.",
            "What is the biggest common factor of `@a` and `@b`? Return it.",
        ),
        forms={
            "loop": """
  while (@b !== 0) {
    const rest = @a % @b;
    @a = @b;
    @b = rest;
  }
  return @a;""",
            "recursion": """
  return @b === 0 ? @a : @f(@b, @a % @b);""",
        },
    ),
    Family(
        name="lcm_list", args=("naturals",), names=("lcm", "commonMultiple", "leastMultiple"), held_out=True,
        wordings=(
            "Return the least common multiple of the numbers in `@a`.",
            "Find the smallest positive number that every number of `@a` divides.",
        ),
        forms={
            "loop": """
  let @r = 1;
  for (const x of @a) {
    let step = @r;
    while (@r % x !== 0) @r += step;
  }
  return @r;""",
            "array": """
  const gcd = (p, q) => (q === 0 ? p : gcd(q, p % q));
  return @a.reduce((p, q) => (p * q) / gcd(p, q), 1);""",
        },
    ),
    Family(
        name="primes_below", args=("small",), names=("primes", "primesUpTo", "listPrimes"), ints={"k": (2, 9)},
        wordings=(
            "Return a list of the prime numbers up to @k times `@a`.",
            "List all primes that are at most `@a` * @k, smallest first.",
            "Which primes are not larger than @k * `@a`? Return them in order.",
        ),
        forms={
            "loop": """
  const @r = [];
  for (let x = 2; x <= @a * @k; x++) {
    let prime = true;
    for (let d = 2; d * d <= x; d++) {
      if (x % d === 0) prime = false;
    }
    if (prime) @r.push(x);
  }
  return @r;""",
            "array": """
  const @r = [];
  for (let x = 2; x <= @a * @k; x++) {
    if (@r.every((p) => x % p !== 0)) @r.push(x);
  }
  return @r;""",
        },
    ),
    Family(
        name="is_prime", args=("maybe_prime",), names=("isPrime", "prime", "checkPrime"),
        wordings=(
            "Return true if `@a` is a prime number, otherwise false.",
            "Check whether `@a` is prime.",
            "Tell if `@a` has no divisors but 1 and itself.",
        ),
        forms={
            "loop": """
  if (@a < 2) return false;
  for (let d = 2; d * d <= @a; d++) {
    if (@a % d === 0) return false;
  }
  return true;""",
            "recursion": """
  const test = (d) => d * d > @a || (@a % d !== 0 && test(d + 1));
  return @a > 1 && test(2);""",
        },
    ),
    Family(
        name="digit_sum", args=("natural",), names=("digitSum", "sumDigits", "addDigits"), ints={"k": (2, 10)},
        wordings=(
            "Return the sum of the digits of `@a` written in base @k.",
            "Add up the base-@k digits of `@a`.",
            "Write `@a` in base @k and return the sum of its digits.",
        ),
        forms={
            "loop": """
  let @r = 0;
  while (@a > 0) {
    @r += @a % @k;
    @a = Math.floor(@a / @k);
  }
  return @r;""",
            "array": """
  return [...@a.toString(@k)].reduce((@r, digit) => @r + Number(digit), 0);""",
            "recursion": """
  if (@a < @k) return @a;
  return (@a % @k) + @f(Math.floor(@a / @k));""",
        },
    ),
    Family(
        name="to_base", args=("natural",), names=("toBase", "convert", "digitsOf"), ints={"k": (2, 9)},
        wordings=(
            "Return the digits of `@a` in base @k as a string.",
            "Convert `@a` to base @k; the result is a string.",
            "Give the base-@k form of `@a` as text.",
        ),
        forms={
            "loop": """
  let @r = "";
  do {
    @r = (@a % @k) + @r;
    @a = Math.floor(@a / @k);
  } while (@a > 0);
  return @r;""",
            "recursion": """
  if (@a < @k) return String(@a);
  return @f(Math.floor(@a / @k)) + (@a % @k);""",
        },
    ),
    Family(
        name="step_product", args=("small",), names=("product", "stepFactorial", "multiplyDown"), ints={"k": (1, 4)},
        wordings=(
            "Multiply `@a`, `@a` - @k, `@a` - 2 * @k and so on, as long as the factors are positive.",
            "Return the product of the positive numbers `@a`, `@a` - @k, `@a` - 2 * @k, ...; 1 if there are none.",
            "Count down from `@a` in steps of @k and return the product of the positive numbers met.",
        ),
        forms={
            "loop": """
  let @r = 1;
  for (let x = @a; x > 0; x -= @k) {
    @r *= x;
  }
  return @r;""",
            "recursion": """
  return @a <= 0 ? 1 : @a * @f(@a - @k);""",
        },
    ),
    Family(
        name="sequence", args=("small",), names=("term", "sequence", "nth"), ints={"p": (0, 5), "q": (1, 7)},
        wordings=(
            "A sequence starts with @p, @q; each later term is the sum of the two before. Return term `@a`, from 0.",
            "Return entry `@a` (counted from 0) of the Fibonacci-like sequence that begins @p, @q.",
            "Every term is the sum of the last two; the first are @p and @q. Which is term `@a`, if @p is term 0?",
        ),
        forms={
            "loop": """
  let now = @p;
  let next = @q;
  for (let @i = 0; @i < @a; @i++) {
    [now, next] = [next, now + next];
  }
  return now;""",
            "recursion": """
  if (@a === 0) return @p;
  if (@a === 1) return @q;
  return @f(@a - 1) + @f(@a - 2);""",
        },
    ),
    Family(
        name="collatz", args=("natural",), names=("steps", "collatz", "countSteps"),
        wordings=(
            "Halve `@a` if it is even, else take 3 * `@a` + 1; return how many steps it takes to reach 1.",
            "Return the number of Collatz steps from `@a` down to 1.",
            "Count the steps of the Collatz rule (n / 2 or 3n + 1) that lead from `@a` to 1.",
        ),
        forms={
            "recursion": """
  if (@a === 1) return 0;
  return 1 + @f(@a % 2 === 0 ? @a / 2 : 3 * @a + 1);""",
        },
    ),
    Family(
        name="divisors", args=("natural",), names=("divisors", "factors", "allDivisors"), held_out=True,
        wordings=(
            "Return all divisors of `@a` from small to large.",
            "List the numbers that divide `@a`, in rising order.",
        ),
        forms={
            "loop": """
  const @r = [];
  for (let d = 1; d <= @a; d++) {
    if (@a % d === 0) @r.push(d);
  }
  return @r;""",
            "array": """
  return Array.from({ length: @a }, (_, i) => i + 1).filter((d) => @a % d === 0);""",
        },
    ),
    Family(
        name="power_mod", args=("small", "small"), names=("powerMod", "modPow", "raise"), ints={"k": (7, 97)},
        wordings=(
            "Return the rest of `@a` to the power of `@b` after division by @k.",
            "Compute `@a` ** `@b` modulo @k.",
            "Raise `@a` to `@b` and give the remainder for @k.",
        ),
        forms={
            "loop": """
  let @r = 1;
  for (let @i = 0; @i < @b; @i++) {
    @r = (@r * @a) % @k;
  }
  return @r;""",
            "recursion": """
  if (@b === 0) return 1;
  return (@a * @f(@a, @b - 1)) % @k;""",
        },
    ),
)
