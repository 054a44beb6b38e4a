"""What the package's command lines share: help that is the module's docstring, one-line errors."""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """Leaves with status 2 and one line on stderr, without the usage in front of it."""

    def __init__(self, command: str, about: str) -> None:
        super().__init__(
            prog=command,
            description=about.strip().replace("`", "").replace("%", "%%"),
            formatter_class=_Formatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        name = self.prog.split()[-1]
        print(f"{name}: error: {message} (--help explains the options)", file=sys.stderr)
        raise SystemExit(2)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """As wide as a docstring, where the terminal is."""

    def __init__(self, prog: str) -> None:
        width = min(shutil.get_terminal_size((100, 24)).columns, 100)
        super().__init__(prog, max_help_position=28, width=width)
