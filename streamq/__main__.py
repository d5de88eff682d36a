"""``python -m streamq`` is ``streamq``."""

from streamq.cli.main import main

main()
