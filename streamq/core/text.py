"""Text for people: values shown safely, masked secrets, the nearest name, counts."""

import difflib
import re
import unicodedata
from collections.abc import Iterable

#: Invisible characters that join or separate letters, in Persian and in emoji for instance.
JOINERS = "\u200c\u200d"

#: Parameters of a URL that are secret, by parts of their names.
SECRET_PARAMETER = re.compile(
    r"((?:^|[?&;#,\s])[^=&;#,?\s]*(?:pass|pw|secret|token|auth|credential)[^=&;#,?\s]*=)[^&]*",
    re.IGNORECASE,
)
#: Parameters that are no option of a URL: a misspelt name may have a password as its value.
UNKNOWN_PARAMETER = re.compile(
    r"([?&](?!(?:db|(?:sentinel_)?username|protocol|client_name|retry_\w+|max_connections"
    r"|health_check_interval|ssl_\w+|socket_\w+|timeout)=)[^=&;#,\s]+=)[^&]*"
)
#: How a URL begins, well or badly formed: ``redis://``, ``redis//``, ``redis:/``, ``://``.
URL_START = re.compile(r"(?:[A-Za-z][\w+.-]*)?(?::[/\\]*|[/\\]{2,})")
WELL_FORMED = re.compile(r"[A-Za-z][\w+.-]*://")
USER = re.compile(r"[\w.%+~-]*")
#: The text after a host and a colon: a port, then its end.
PORT = re.compile(r"\d*(?:[/?#,]|$)")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of ``names`` most similar to ``name``; None if none is."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return near[0] if near else None


def shown(value: object) -> str:
    """Return ``value`` as an error shows it: one line of at most 80 characters."""
    try:
        line = repr(value)
    except Exception:  # a foreign __repr__, or an int of thousands of digits
        return f"a value of type {type(value).__name__}"
    return line if len(line) <= 80 else line[:77] + "..."


def shortened(text: str, most: int) -> str:
    """Cut text to at most so many characters, with a ``…`` at the end."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def visible(value: object, *, kept: str = "\t\n") -> str:
    """Return a value's text with control characters escaped, as they act on a terminal.

    Control characters, direction marks and invisible characters are written as escapes; those
    that join the letters of some scripts stay, and so do the characters in ``kept``.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in kept or is_harmless(char) else escaped(char)
        for char in text
    )


def is_harmless(char: str) -> bool:
    """Whether a non-printable character may be shown: spaces and joiners."""
    return char in JOINERS or unicodedata.category(char) == "Zs"


def escaped(char: str) -> str:
    """A character as Python writes it in a text: ``\\x1b``, ``\\u202e``."""
    return char.encode("unicode_escape").decode()


def mask_url(url: str) -> str:
    """Return ``url`` with its passwords, if it has any, replaced by ``***``.

    Masks everything that may be a password, also in a malformed URL: the text before the last
    ``@`` except a user name, text after a colon that is no port, and text after a space.
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
    if start.endswith(":") and not PORT.match(after):  # a user name, or a malformed redis://
        return f"{start}***"
    return start + masked_tail(after)


def masked_tail(text: str) -> str:
    """Mask the part of a URL after its user and password, or all of one without these."""
    host, colon, rest = text.partition(":")
    if colon and not set("/?#,[]") & set(host) and not PORT.match(rest):
        _, mark, query = rest.partition("?")
        text = f"{host}:***{mark}{query}"
    masked = UNKNOWN_PARAMETER.sub(r"\1***", SECRET_PARAMETER.sub(r"\1***", text))
    return re.sub(r"(?<=\s)\S.*", "***", masked, flags=re.DOTALL)


def first_few(
    names: Iterable[str], most: int = 5, *, total: int | None = None, separator: str = ", "
) -> str:
    """Write the first ``most`` names and how many more there are: ``a, b and 7 more``.

    ``total`` is how many there are where ``names`` are only the first.
    """
    listed = list(names)
    more = (len(listed) if total is None else total) - most
    return separator.join(listed[:most]) + (f" and {grouped(more)} more" if more > 0 else "")


def count(number: int, noun: str) -> str:
    """Write a count with its noun: ``1 message``, ``1 204 messages``."""
    return f"{grouped(number)} {noun}{'' if number == 1 else 's'}"


def grouped(number: int) -> str:
    """Write a number with its digits in groups: ``1 204``."""
    return f"{number:,}".replace(",", " ")
