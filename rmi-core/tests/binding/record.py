#!/usr/bin/env python3.11
"""Records how CPython 3.11 binds arguments, as the cases that `tests/binding.rs` replays.

    python3.11 rmi-core/tests/binding/record.py

writes `cases.txt` beside this file. It needs nothing but Python 3.11 and gives the same file each time. The format:

    def f(a, b=0, /, *, c)      the signature of the calls below it; the default's value says nothing
    f(1, c=2) -> a=1 c=2        a call and the parameters that it fills; those not named are left to their defaults
    f() !! f() missing ..       a call and the text of its TypeError

Calls are written as they travel, so a keyword may be there twice and a key may be a number: `f(a=1, a=2, 7=3)`.
"""

import random
import sys
from pathlib import Path

SIGNATURES = [
    "ping()",
    "neg(a)",
    "neg_p(a, /)",
    "neg_k(*, a)",
    "inc(a=0)",
    "inc_p(a=0, /)",
    "inc_k(*, a=0)",
    "add(a, b)",
    "add_d(a, b=0)",
    "add_dd(a=0, b=0)",
    "add_p(a, b, /)",
    "add_pd(a, b=0, /)",
    "add_pn(a, /, b)",
    "add_k(a, *, b)",
    "add_kd(a, *, b=0)",
    "opts(*, a, b, c)",
    "opts_d(*, a=0, b, c=0)",
    "clamp(x, low, high)",
    "clamp_d(x, low=0, high=0)",
    "clamp_p(x, low=0, /, high=0)",
    "mixed(a, /, b, *, c)",
    "mixed_d(a, /, b=0, *, c=0)",
    "mixed_dd(a=0, /, b=0, *, c)",
    "search(query, limit=0, *, offset=0, reverse)",
    "four(a, b, c, d)",
    "four_p(a, b, c=0, d=0, /)",
    "five(a, b, /, c, d=0, *, e)",
    "six(a, b, c, d, e, f)",
    "six_d(a, b=0, /, c=0, d=0, *, e, f=0)",
    "six_k(*, a, b=0, c, d=0, e, f)",
    "transfer(source, target, /, amount, currency=0, *, reference, dry_run=0)",
]

# How many calls of each kind are drawn for a signature, besides those that are enumerated.
N_WRONG = 14
N_RIGHT = 12


def parse(signature):
    """Gives the parameters' names, those that have a default, and how many can be given by position."""
    parts = signature[signature.index("(") + 1 : -1].split(", ")
    n_positional = sum(part not in ("", "/") for part in (parts[: parts.index("*")] if "*" in parts else parts))
    params = [part for part in parts if part not in ("", "/", "*")]
    defaulted = {part.split("=")[0] for part in params if "=" in part}
    return [part.split("=")[0] for part in params], defaulted, n_positional


def shapes(signature, rng):
    """Yields (number of positional arguments, keywords in order)."""
    params, defaulted, n_positional = parse(signature)
    for n in range(len(params) + 3):
        yield n, ()
    for keyword in [*params, "zz"]:
        for n in sorted({0, n_positional - 1, n_positional, n_positional + 1} - {-1}):
            yield n, (keyword,)
    # Several mistakes at once: unknown names, names that look like a parameter, names twice, a key that is no name.
    pool = [*params, *params, "zz", "yy", *(name + "s" for name in params[:2]), 7]
    for _ in range(N_WRONG):
        n_keywords = rng.randrange(1, len(params) + 3)
        keywords = [rng.choice(pool) for _ in range(n_keywords)]
        # RMI refuses a number as a key whether or not it is there twice; Python complains of the second first.
        if keywords.count(7) < 2:
            yield rng.randrange(len(params) + 2), tuple(keywords)
    # Calls that are right, in any order of their keywords, and some that lack one.
    for _ in range(N_RIGHT if params else 0):
        n = rng.randrange(n_positional + 1)
        keywords = [name for name in params[n:] if name not in defaulted or rng.random() < 0.5]
        rng.shuffle(keywords)
        yield n, tuple(keywords)
        if rng.random() < 0.3:
            yield n, tuple(keywords[1:])


def record(signature, n_positional, keywords):
    function = {}
    # The default is told apart from every argument by its identity.
    exec(f"def {signature.replace('=0', '=DEFAULT')}: return dict(locals())", {"DEFAULT": DEFAULT}, function)
    (function,) = function.values()
    # Python puts the module before the name in one of its texts, but not for builtins.
    function.__module__ = "builtins"
    positional = list(range(1, n_positional + 1))
    named = list(zip(keywords, range(n_positional + 1, 100)))
    # One map for each keyword, so that Python itself sees those that are there twice.
    source = ", ".join([*map(str, positional), *(f"**{{{key!r}: {value}}}" for key, value in named)])
    call = ", ".join([*map(str, positional), *(f"{key}={value}" for key, value in named)])
    call = f"{function.__name__}({call})"
    try:
        slots = eval(f"f({source})", {"f": function})
    except TypeError as error:
        return f"{call} !! {error}"
    filled = "".join(f" {name}={value}" for name, value in slots.items() if value is not DEFAULT)
    return f"{call} ->{filled}"


DEFAULT = object()


def main():
    if sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 11):
        sys.exit("the wording is that of CPython 3.11")
    lines = ["# Recorded from CPython 3.11 by record.py, which describes the format."]
    for signature in SIGNATURES:
        rng = random.Random(signature)
        lines += ["", f"def {signature}"]
        lines += dict.fromkeys(record(signature, *shape) for shape in shapes(signature, rng))
    path = Path(__file__).with_name("cases.txt")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    n_cases = sum(" !! " in line or " ->" in line for line in lines[1:])
    n_errors = sum(" !! " in line for line in lines)
    print(f"{path.name}: {n_cases} cases, {n_errors} of them errors")


if __name__ == "__main__":
    main()
