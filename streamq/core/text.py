"""Text for people: values shown safely, secrets masked, the nearest name, counts."""

import difflib
import re
import unicodedata
from collections.abc import Iterable

#: What joins and parts letters without being seen, in Persian for instance, and in emoji.
JOINERS = "\u200c\u200d"

#: What stands behind ``?`` or ``&`` in a URL and nobody should see, whatever its exact name.
SECRET_PARAMETER = re.compile(
    r"((?:^|[?&;#,\s])[^=&;#,\s]*(?:pass|pw|secret|token|auth|credential)[^=&;#,\s]*=)[^&]*",
    re.IGNORECASE,
)
#: The others that are no option of a URL: a slip of one of these names may stand before a password.
UNKNOWN_PARAMETER = re.compile(
    r"([?&](?!(?:db|(?:sentinel_)?username|protocol|client_name|retry_\w+|max_connections"
    r"|health_check_interval|ssl_\w+|socket_\w+|timeout)=)[^=&;#,\s]+=)[^&]*"
)
#: How a URL begins, well or badly formed: ``redis://``, ``redis//``, ``redis:/``, ``://``.
URL_START = re.compile(r"(?:[A-Za-z][\w+.-]*)?(?::[/\\]*|[/\\]{2,})")
WELL_FORMED = re.compile(r"[A-Za-z][\w+.-]*://")
USER = re.compile(r"[\w.%+~-]*")
#: What may follow a host and a colon: a port, then whatever ends it.
PORT = re.compile(r"\d*(?:[/?#,]|$)")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of ``names`` that ``name`` may be a slip of, if there is one."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return near[0] if near else None


def shown(value: object) -> str:
    """Return ``value`` as an error shows it: never longer than a line, whatever it is."""
    try:
        line = repr(value)
    except Exception:  # a foreign __repr__, or an int of thousands of digits
        return f"a value of type {type(value).__name__}"
    return line if len(line) <= 80 else line[:77] + "..."


def shortened(text: str, most: int) -> str:
    """Text of at most so many characters; a ``…`` stands for what was cut off."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def visible(value: object, *, kept: str = "\t\n") -> str:
    """The text of a value, without what would move the cursor, change colours or hide.

    Controls, marks that turn the direction of text, and characters without a shape are
    written as escapes; those that join the letters of some scripts stay.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in kept or is_harmless(char) else escaped(char)
        for char in text
    )


def is_harmless(char: str) -> bool:
    """Whether a character that Python does not print may be shown: spaces, and what joins."""
    return char in JOINERS or unicodedata.category(char) == "Zs"


def escaped(char: str) -> str:
    """A character as Python writes it in a text: ``\\x1b``, ``\\u202e``."""
    return char.encode("unicode_escape").decode()


def mask_url(url: str) -> str:
    """Return ``url`` with its passwords, if it has any, replaced by ``***``.

    Whatever may be one is not shown, in a URL that is none as well: what stands before the last
    ``@``, but for a user's name, what is no port behind a colon, and what follows a space.
    """
    found = URL_START.match(url)
    start = found.group() if found else ""
    before, at, after = url[len(start) :].rpartition("@")
    if at:
        after = masked_tail(after)
        user, colon, password = before.partition(":")
        if colon:
            shown = user if USER.fullmatch(user) else ""
            return f"{start}{shown}:{'***' if password else ''}@{after}"
        if WELL_FORMED.fullmatch(start) and USER.fullmatch(before):
            return f"{start}{before}@{after}"
        if start == "unix:///":
            return f"{start}{masked_tail(before)}@{after}"
        return f"{start}***@{after}"
    if start.endswith(":") and not PORT.match(after):  # a user's name, or what should be redis://
        return f"{start}***"
    return start + masked_tail(after)


def masked_tail(text: str) -> str:
    """What follows the user and password of a URL, or all of one that has none."""
    host, colon, rest = text.partition(":")
    if colon and not set("/?#,[]") & set(host) and not PORT.match(rest):
        _, mark, query = rest.partition("?")
        text = f"{host}:***{mark}{query}"
    masked = UNKNOWN_PARAMETER.sub(r"\1***", SECRET_PARAMETER.sub(r"\1***", text))
    return re.sub(r"(?<=\s)\S.*", "***", masked, flags=re.DOTALL)


def count(number: int, noun: str) -> str:
    """``1 message``, ``1 204 messages``."""
    return f"{grouped(number)} {noun}{'' if number == 1 else 's'}"


def grouped(number: int) -> str:
    """``1 204``."""
    return f"{number:,}".replace(",", " ")
