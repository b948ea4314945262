"""Plain YAML scalars as kubectl reads them: YAML 1.1, as far as JSON can hold it.

`yes`, `on` and `y` are booleans; dates and `1:30`, which PyYAML takes for a number of seconds, are text.
"""

from __future__ import annotations

import math
import re
from typing import Any

_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)|[-+]?0b[01_]+|[-+]?0[xX][0-9a-fA-F_]+|[-+]?0o?[0-7_]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_BOOL = {
    word: value
    for value, words in ((True, ("y", "yes", "on", "true")), (False, ("n", "no", "off", "false")))
    for lower in words
    for word in (lower, lower.capitalize(), lower.upper())
}
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_FLOAT_WORDS = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}
_MAX_DIGITS = 20
"""No 64-bit number has more, and long ones are slow to convert."""


def resolve(text: str) -> Any:
    """The value of a plain scalar as kubectl reads it."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return _integer(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        return _number(text)
    return _FLOAT_WORDS.get(text.lower(), text)


def _integer(text: str) -> float | str:
    sign, digits = (text[:1], text[1:]) if text[:1] in "+-" else ("", text)
    octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    if len(digits) > _MAX_DIGITS:
        return _number(text)
    try:
        return int(sign + (f"0o{digits}" if octal else digits), 0)
    except ValueError:
        return text


def _number(text: str) -> float | str:
    """An integer where JSON would not tell the difference; text where there is no such number."""
    number = float(text.replace("_", ""))
    if math.isinf(number):
        return text
    return int(number) if number.is_integer() and abs(number) < 1 << 53 else number
