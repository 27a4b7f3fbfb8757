"""The command `repro`. Until it has loaded, Ctrl-C ends it without a word: Python would print where it was."""

import os
import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as in a shell's background
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _open_what_is_closed() -> None:
    """A file opened later must not get the number of a stream that the shell closed, and what is printed with it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, os.fdopen(number, mode))


def main() -> None:
    _open_what_is_closed()
    try:
        from repro.cli import app
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name} is not installed, which the command takes: pip install 'repro[book]'")
    app()


if __name__ == "__main__":
    main()
