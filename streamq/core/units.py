"""Readers of values as people write them: durations, sizes, numbers, booleans, lists.

Every reader takes a value and the name of its setting or option; it returns the value
in our units or raises a ConfigError that shows both and says what is accepted.
"""

import math
import re
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal

from streamq.core.text import nearest, shown
from streamq.errors import ConfigError

#: Seconds of each unit of a duration, in the order in which units are written.
DURATIONS = {
    "w": Decimal(604_800),
    "d": Decimal(86_400),
    "h": Decimal(3_600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
#: A hundred years: anything longer is a mistake, and beyond the range of Redis' clocks.
LONGEST = 100 * 365 * 86_400.0

#: The bounds of durations from now, for errors.
AHEAD = "at most 100 years; less than 0 is now"

#: A millisecond, the unit of Redis and of our scripts: anything shorter would be 0.
SHORTEST = 0.001

#: Powers of 1024, as Redis and its peers count memory: MB and MiB are the same here.
SIZES = {
    "": 1,
    "B": 1,
    **{f"{letter}B": 1024**power for power, letter in enumerate("KMGT", 1)},
    **{f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", 1)},
}
#: The largest whole number that Lua, and so every script, has exactly.
LARGEST = 2**53

NUMBER = r"\d+(?:\.\d+)?"
DURATION = re.compile(
    "".join(rf"(?:({NUMBER})\s*{unit}\s*)?" for unit in DURATIONS), re.ASCII | re.IGNORECASE
)
SIZE = re.compile(rf"({NUMBER})\s*((?:[KMGT]I?)?B)?", re.ASCII | re.IGNORECASE)

TRUTHS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


def seconds(value: object, name: str, *, bounds: str = "at least 0, at most 100 years") -> float:
    """Read a duration: seconds, a timedelta, or text such as "30", "30s", "1h30m", "250ms"."""
    result = _seconds(value)
    if result is None or not 0 <= result <= LONGEST:  # NaN fails every comparison
        raise ConfigError(
            f"{name} is not a duration: {shown(value)}",
            advice=[
                'write seconds (30), a timedelta, or text: "30s", "5m", "1h30m", "2d", "250ms"',
                bounds,
            ],
        )
    return result


def duration_text(length: float) -> str:
    """Write seconds as a duration that ``seconds`` reads: "1h30m", "250ms"; "0s" for none."""
    left, parts = Decimal(round(length * 1000)) / 1000, []
    for unit, worth in DURATIONS.items():
        count = int(left // worth)
        if count:
            parts.append(f"{count}{unit}")
            left -= count * worth
    return "".join(parts) or "0s"


def limit(value: object, name: str) -> float:
    """Read a time limit: a duration of at least a millisecond, or 0 for none."""
    result = seconds(value, name)
    if 0 < result < SHORTEST:
        raise ConfigError(
            f"{name} is shorter than a millisecond: {shown(value)}", advice=["0 is for no limit"]
        )
    return result


def ahead(value: object, name: str) -> float:
    """Read a duration from now; a negative one is now: 0."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LONGEST:
        return float(value)
    if isinstance(value, str) and value.strip().startswith("-"):
        seconds(value.strip()[1:], name, bounds=AHEAD)
        return 0.0
    number = _seconds(value)
    if number is not None and -math.inf < number < 0:
        return 0.0
    return seconds(value, name, bounds=AHEAD)


def size(value: object, name: str) -> int:
    """Read a size in bytes: a whole number, or text such as "300MB", "1MiB", "16 KiB".

    KB, MB, GB and TB are powers of 1024 like KiB, MiB, GiB and TiB.
    """
    result = _size(value)
    if result is None or not 0 <= result <= LARGEST:
        raise ConfigError(
            f"{name} is not a size: {shown(value)}",
            advice=['write bytes (1048576), or text: "512B", "16 KiB", "300MB", "1GiB"'],
        )
    return result


def whole(value: object, name: str, *, least: int = 0, most: int = LARGEST) -> int:
    """Read a whole number between ``least`` and ``most``, both included."""
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,17}", value.strip(), re.ASCII):
        number = int(value)
    if number is None or not least <= number <= most:
        bounds = f"at least {least}" if most == LARGEST else f"from {least} to {most}"
        raise ConfigError(f"{name} must be a whole number, {bounds}: {shown(value)}")
    return number


def truth(value: object, name: str) -> bool:
    """Read a boolean, or one of the words for it."""
    if isinstance(value, bool):
        return value
    answer = TRUTHS.get(value.strip().lower()) if isinstance(value, str) else None
    if answer is None:
        raise ConfigError(
            f"{name} must be true or false: {shown(value)}",
            advice=["as text: true, yes, on, 1 or false, no, off, 0"],
        )
    return answer


def text(value: object, name: str) -> str:
    """Read text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{name} must be text, and not empty: {shown(value)}")
    return value.strip()


def texts(value: object, name: str) -> tuple[str, ...]:
    """Read a list of texts: a list, tuple or set, or one text with commas."""
    if isinstance(value, str):
        return tuple(part for part in map(str.strip, value.split(",")) if part)
    if not isinstance(value, list | tuple | set | frozenset):
        raise ConfigError(
            f'{name} must be a list of texts, or one text such as "a,b": {shown(value)}'
        )
    parts = sorted(value, key=str) if isinstance(value, set | frozenset) else value
    return tuple(text(part, name) for part in parts)


def choice(value: object, name: str, allowed: Iterable[str]) -> str:
    """Read one of the ``allowed`` words, in any case."""
    allowed = tuple(allowed)
    word = value.strip().lower() if isinstance(value, str) else ""
    if word not in allowed:
        near = nearest(word, allowed)
        raise ConfigError(
            f"{name} must be one of {', '.join(allowed)}: {shown(value)}",
            advice=[f"did you mean {near!r}?"] if near else (),
        )
    return word


def _seconds(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, float):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        # An int may be too large for a float; whatever is above the limit is refused anyway.
        return float(min(value, 2 * int(LONGEST)))
    if isinstance(value, str):
        return _seconds_of_text(value.strip())
    return None


def _seconds_of_text(value: str) -> float | None:
    if re.fullmatch(NUMBER, value, re.ASCII):
        return float(value)
    found = DURATION.fullmatch(value)
    if not found or not any(found.groups()):
        return None
    # Decimal, so that "1.1s" and "1100ms" are the same float.
    parts = zip(found.groups(), DURATIONS.values(), strict=True)
    return float(sum((Decimal(number) * each for number, each in parts if number), Decimal(0)))


def _size(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not (found := SIZE.fullmatch(value.strip())):
        return None
    number, unit = found.groups()
    exact = Decimal(number) * SIZES[(unit or "").upper()]
    return math.floor(exact) if exact <= LARGEST else None
