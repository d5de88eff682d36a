"""``python -m streamq`` is ``streamq``."""

import signal

handler = signal.getsignal(signal.SIGINT)
is_default = handler is signal.default_int_handler
if is_default:  # Ctrl-C during the imports ends the process without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from streamq.cli.main import main  # noqa: E402

if is_default:
    signal.signal(signal.SIGINT, handler)

if __name__ == "__main__":
    main()
