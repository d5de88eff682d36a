"""SVG by hand: the colours, texts and frames that the pictures share."""

from collections.abc import Iterable
from xml.sax.saxutils import escape

SANS = "-apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def document(width: int, height: int, title: str, about: str, style: str, parts: Iterable[str]):
    """A whole SVG file; ``title`` and ``about`` are for readers that cannot see it."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-labelledby="title about">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="about">{escape(about)}</desc>',
        f"<style>\n{style.strip()}\n</style>",
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def rect(x: float, y: float, width: float, height: float, kind: str, radius: float = 8) -> str:
    """A rectangle of a class of the style sheet."""
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
        f'rx="{radius:g}"/>'
    )


def text(x: float, y: float, words: str, kind: str = "", more: str = "") -> str:
    """A line of text; what stands between ``**`` is strong."""
    parts = words.split("**")
    marked = "".join(
        f'<tspan class="strong">{escape(part)}</tspan>' if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )
    kind = f' class="{kind}"' if kind else ""
    return f'<text{kind} x="{x:g}" y="{y:g}"{more}>{marked}</text>'
