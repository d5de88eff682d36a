"""The page on troubleshooting quotes words that the program says."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def test_every_quoted_text_is_one_of_the_programs():
    files = [*(ROOT / "streamq").rglob("*.py"), *(ROOT / "scripts" / "lua").rglob("*.lua")]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    text = re.sub(r"```.*?```", "", PAGE, flags=re.S)

    quoted = [re.sub(r"\s+", " ", words) for words in re.findall(r'"([^"]+)"', text)]

    assert len(quoted) > 4
    for words in quoted:
        for part in re.split(r"\d+", words):  # numbers are put in when it is said
            assert part.strip(" ;:") in source, words


def test_there_are_ten_symptoms_each_with_a_cause_and_what_to_do():
    sections = re.split(r"^## ", PAGE, flags=re.M)[1:]
    rows = re.findall(r"^\| \[.+\]\(#(.+)\) \| `streamq .+` \|$", PAGE, re.M)

    assert len(sections) == len(rows) == 10
    for section in sections:
        assert "**Cause.**" in section
        assert "**Do.**" in section
        assert "streamq " in section
