"""The architecture picture: architecture.toml → architecture.svg.

python docs/pictures/architecture.py
"""

import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from docs.pictures.svg import MONO, SANS, document, rect, text

HERE = Path(__file__).resolve().parent
SOURCE, PICTURE = HERE / "architecture.toml", HERE / "architecture.svg"

#: Pixels: around everything, above the first row, and from a row's middle to its box's edge.
MARGIN, HEAD, HALF = 24, 44, 20
#: Pixels from one line of text to the next, and the room that the steps take below.
LINE, STEP = 18, 26

STYLE = f"""
svg {{ color-scheme: light dark; font: 13px {SANS} }}
text {{ fill: #1f2328 }}
.page {{ fill: #ffffff }}
.box {{ fill: #f6f8fa; stroke: #57606a; stroke-width: 1.2 }}
.row {{ fill: #ffffff; stroke: #d0d7de }}
.name {{ font-weight: 600; font-size: 15px }}
.key {{ font: 12.5px {MONO} }}
.small {{ font-size: 12px; fill: #57606a }}
.words {{ font: 11.5px {MONO}; text-anchor: middle }}
.strong {{ font-weight: 700; fill: #0969da }}
.arrow {{ stroke: #0969da; stroke-width: 1.6; fill: none }}
.head {{ fill: #0969da }}
@media (prefers-color-scheme: dark) {{
  text {{ fill: #e6edf3 }}
  .page {{ fill: #0d1117 }}
  .box {{ fill: #161b22; stroke: #8b949e }}
  .row {{ fill: #0d1117; stroke: #30363d }}
  .small {{ fill: #9da7b1 }}
  .strong {{ fill: #58a6ff }}
  .arrow {{ stroke: #58a6ff }}
  .head {{ fill: #58a6ff }}
}}
"""


@dataclass(frozen=True)
class Area:
    """A rectangle with a name, and what is written in it."""

    name: str
    x: float
    y: float
    width: float
    height: float
    lines: list[str] = field(default_factory=list)
    stacked: bool = False

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height


class Architecture:
    """The picture of one source: Redis in the middle, processes on both sides."""

    def __init__(self, source: dict) -> None:
        self.source = source
        self.keys: list[dict[str, str]] = source["key"]
        middle = source["redis"]
        self.first = middle["y"] + HEAD + HALF
        self.row = middle["row"]
        height = HEAD + 2 * HALF + self.row * (len(self.keys) - 1) + 12
        self.redis = Area(middle["name"], middle["x"], middle["y"], middle["width"], height)
        self.boxes = {box["id"]: self.area_of(box) for box in source["box"]}

    def row_of(self, number: int) -> float:
        """The middle of a row, by its number from 0."""
        return self.first + self.row * number

    def area_of(self, box: dict) -> Area:
        """The area of a process, beside the rows that it names."""
        top, end = (self.row_of(number) for number in box["rows"])
        height = end - top + 2 * HALF
        stacked = box.get("stacked", False)
        return Area(box["name"], box["x"], top - HALF, box["width"], height, box["lines"], stacked)

    def svg(self) -> str:
        """The whole picture."""
        width = self.source["width"]
        steps = self.source["step"]
        height = self.redis.bottom + 2 * MARGIN + STEP * ((len(steps) + 1) // 2)
        parts = [
            rect(0, 0, width, height, "page", 12),
            text(MARGIN, 36, self.source["title"], "name"),
            *self.middle(),
            *(line for area in self.boxes.values() for line in self.process(area)),
            *(line for arrow in self.source["arrow"] for line in self.arrow(**renamed(arrow))),
            *self.steps(),
        ]
        return document(
            width, round(height), self.source["title"], self.source["about"], STYLE, parts
        )

    def middle(self) -> Iterator[str]:
        """Redis and its keys."""
        area = self.redis
        yield rect(area.x, area.y, area.width, area.height, "box")
        yield text(area.x + 16, area.y + 27, area.name, "name")
        for number, key in enumerate(self.keys):
            y = self.row_of(number)
            yield rect(area.x + 8, y - HALF, area.width - 16, 2 * HALF, "row", 5)
            yield text(area.x + 18, y - 3, key["name"], "key")
            yield text(area.x + 18, y + 13, key["holds"], "small")

    def process(self, area: Area) -> Iterator[str]:
        """A process, or several of them behind each other."""
        if area.stacked:
            yield rect(area.x + 8, area.y + 8, area.width, area.height, "box")
        yield rect(area.x, area.y, area.width, area.height, "box")
        yield text(area.x + 16, area.y + 26, area.name, "name")
        for number, line in enumerate(area.lines):
            if line:
                yield text(area.x + 16, area.y + 50 + LINE * number, line)

    def arrow(self, start: str, end: str, words: str) -> Iterator[str]:
        """An arrow between a process and a key, or from a process down to another."""
        if start in self.boxes and end in self.boxes:
            above, below = self.boxes[start], self.boxes[end]
            x = above.x + 40
            yield f'<path class="arrow" d="M{x:g} {above.bottom:g} V{below.y - 7:g}"/>'
            yield head(x, below.y, 0, 1)
            yield text(x + 14, (above.bottom + below.y) / 2 + 4, words, "small")
            return
        box = self.boxes[start if start in self.boxes else end]
        y = self.level_of(box, end if start in self.boxes else start)
        left = box.right < self.redis.x
        near, far = (box.right, self.redis.x) if left else (box.x, self.redis.right)
        begin, tip = (near, far) if start in self.boxes else (far, near)
        way = 1 if tip > begin else -1
        yield f'<path class="arrow" d="M{begin:g} {y:g} H{tip - 7 * way:g}"/>'
        yield head(tip, y, way, 0)
        yield text((begin + tip) / 2, y - 7, words, "words")

    def level_of(self, box: Area, other: str) -> float:
        """How far down an arrow lies: at the row of its key, else in the middle of its box."""
        names = [key["name"] for key in self.keys]
        return self.row_of(names.index(other)) if other in names else (box.y + box.bottom) / 2

    def steps(self) -> Iterator[str]:
        """The way of one message, in two columns below."""
        steps = self.source["step"]
        half = (len(steps) + 1) // 2
        for number, step in enumerate(steps):
            column, line = divmod(number, half)
            x = MARGIN + column * self.source["width"] / 2
            yield text(x, self.redis.bottom + MARGIN + 14 + STEP * line, step["words"])


def head(x: float, y: float, across: int, down: int) -> str:
    """The head of an arrow whose tip is here; one of ``across`` and ``down`` is 1 or -1."""
    back_x, back_y = x - 9 * across, y - 9 * down
    wide_x, wide_y = 5 * down, 5 * across
    return (
        f'<path class="head" d="M{x:g} {y:g} L{back_x - wide_x:g} {back_y - wide_y:g} '
        f'L{back_x + wide_x:g} {back_y + wide_y:g} Z"/>'
    )


def renamed(arrow: dict[str, str]) -> dict[str, str]:
    """The arguments of an arrow: ``from`` is no name in Python."""
    return {"start": arrow["from"], "end": arrow["to"], "words": arrow["words"]}


def draw(source: str) -> str:
    """The picture of a source, both as text."""
    return Architecture(tomllib.loads(source)).svg()


if __name__ == "__main__":
    PICTURE.write_text(draw(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
