"""Write docs/settings.md from the table in streamq/config/settings.py.

python scripts/settings_table.py            write the page
python scripts/settings_table.py --check    fail if the page is not up to date
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.generated import write_or_check  # noqa: E402 - found beside this script
from streamq.config import settings  # noqa: E402

PAGE = ROOT / "docs" / "settings.md"

HEADER = """\
# Settings

<!-- Written by scripts/settings_table.py from streamq/config/settings.py: change it there. -->

One name in six places. The first that has a value counts:

| place | for example |
| --- | --- |
| flag of the command line | `streamq worker --concurrency 3` |
| environment | `STREAMQ_CONCURRENCY=3` |
| code | `App("shop", concurrency=3)`, `app.conf.concurrency = 3` |
| object | `STREAMQ_CONCURRENCY = 3` in it, and `app.config_from_object(it, namespace="STREAMQ")` |
| file | `concurrency = 3` in `streamq.toml`, or under `[tool.streamq]` in `pyproject.toml` |
| default | see below |

Only an explicit `App(url=…)` is never overridden. `streamq config show` says which value counts
and where it comes from. The file is the nearest: of the current folder or, if there is none, of the
nearest folder above; names may be written with `-` or `_`. A name that is not in the table is an
error.

`config_from_object` takes a module, a class, an object or a mapping, or the text that names one:
`"package.module"`, `"package.module:attribute"`, `"django.conf:settings"`. With a `namespace`, all
names that begin with it are settings; without one, lower-case names of settings are, and all others
are ignored. It is read when a setting is first needed, so that it may import the app. Several calls
add up; the later counts. `task_always_eager` and `task_eager_propagates` are read from it at each
access: tests change them.

* **Durations** are seconds (`30`), a `timedelta`, or text: `"30s"`, `"5m"`, `"1h30m"`, `"2d"`,
  `"250ms"`.
* **Sizes** are bytes (`1048576`) or text: `"512B"`, `"16 KiB"`, `"300MB"`. KB, MB and GB are powers
  of 1024, like KiB, MiB and GiB.
* **Lists** are lists, or one text with commas: `"json,pickle"`. **Truth** as text is `true`, `yes`,
  `on`, `1` or `false`, `no`, `off`, `0`. Where nothing is allowed, its text is `none`.
* An environment variable that is empty counts as not set.

"""


def render() -> str:
    columns = ("name", "default", "unit", "environment", "flag", "meaning")
    rows = [columns, ("---",) * len(columns), *map(row, settings.TABLE)]
    return HEADER + "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def row(setting: settings.Setting) -> tuple[str, ...]:
    aliases = ", ".join(f"`{alias}`" for alias in setting.aliases)
    return (
        f"`{setting.name}`",
        written(setting.default),
        setting.kind.unit,
        f"`{setting.variable}`" if setting.variable else "in Python only",
        f"`{setting.flag}`" if setting.flag else "",
        setting.meaning + (f" Also {aliases}." if aliases else ""),
    )


def written(default: object) -> str:
    match default:
        case None | ():
            return "none"
        case tuple():
            return ", ".join(f"`{part}`" for part in default)
        case settings.USABLE_CPUS:
            return default
        case bool():
            return f"`{str(default).lower()}`"
        case _:
            return f"`{default}`"


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, render()))
