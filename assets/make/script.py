"""What the scripts in this folder share: bad input is one line on standard error, and exit code 2."""

import argparse
import pathlib
import sys

from fmgan_tf import InputError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises InputError."""

    def error(self, message):
        raise InputError(message)


def run(main):
    """Runs a script's main() and ends the process where its input is bad."""
    try:
        main()
    except (InputError, OSError) as error:
        print(f"{pathlib.Path(sys.argv[0]).name}: {InputError(error)}", file=sys.stderr)
        sys.exit(2)
