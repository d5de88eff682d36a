"""The banner on a terminal: lines that fit, and colours."""

import re

from streamq.runner.terminal import Style
from streamq.worker.banner_layout import laid_out

BANNER = """\
streamq 0.1.0 · worker@a-host-with-a-long-name.example.org · app shop.tasks (STREAMQ_APP) · pid 1
  redis   redis://a-host-with-a-long-name.example.org:6379/0  [STREAMQ_URL]
  queues  mail, mail-of-friends, a-queue-with-a-name-that-is-so-long-that-it-fits-in-no-line-of-80-columns  [code]
  tasks   none registered!"""  # noqa: E501 - as it is written
QUEUES = ["mail", "mail-of-friends"]
COLOURED = Style(is_terminal=True, has_colours=True)


def test_no_word_is_broken_and_lines_fit_but_for_a_word_that_fits_in_none():
    shown = laid_out(BANNER, QUEUES, Style(is_terminal=True), 80)

    assert shown.split() == BANNER.split()
    longer = [line.strip() for line in shown.splitlines() if len(line) > 80]
    assert longer == ["a-queue-with-a-name-that-is-so-long-that-it-fits-in-no-line-of-80-columns"]
    assert all(line.startswith(("streamq", "  ")) for line in shown.splitlines())


def test_the_names_of_queues_have_a_colour_and_so_has_what_is_wrong():
    shown = laid_out(BANNER, QUEUES, COLOURED, None)

    assert "\x1b[36mmail\x1b[0m, \x1b[36mmail-of-friends\x1b[0m, a-queue" in shown
    assert "\x1b[31mnone registered!\x1b[0m" in shown
    assert re.sub(r"\x1b\[\d+m", "", shown) == BANNER


def test_a_file_gets_the_banner_as_it_is():
    assert laid_out(BANNER, QUEUES, Style(), 80) == BANNER
