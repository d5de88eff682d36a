"""``python -m streamq`` is ``streamq``."""

import signal

asked = signal.getsignal(signal.SIGINT)
ours = asked is signal.default_int_handler
if ours:  # a Ctrl-C during the imports ends us, and shows no traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from streamq.cli.main import main  # noqa: E402

if ours:
    signal.signal(signal.SIGINT, asked)

if __name__ == "__main__":
    main()
