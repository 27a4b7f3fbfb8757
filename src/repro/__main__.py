"""The command `repro`. Until it has loaded, Ctrl-C ends it without a word: Python would print where it was."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as in a shell's background
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    from repro.cli import app

    app()


if __name__ == "__main__":
    main()
