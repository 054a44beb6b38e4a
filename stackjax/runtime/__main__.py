"""The runtime's command lines, by one name.

    stackjax proxy     governs any agent by its base URL
    stackjax calibrate calibrates a policy on the log of a shadow run
    stackjax report    says what a runtime's log holds

`stackjax proxy --help` and so on explain their options; `python -m stackjax.runtime` takes the same
arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from stackjax.runtime._command_line import OneLineParser

COMMANDS = ("proxy", "calibrate", "report")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the sub-command that the first argument names; returns its exit status."""
    given = sys.argv[1:] if argv is None else list(argv)
    parser = OneLineParser("stackjax", __doc__ or "")
    parser.add_argument("command", metavar="|".join(COMMANDS), help="the rest are its own options")
    command = parser.parse_args(given[:1]).command
    if command == "proxy":
        from stackjax.runtime.proxy import main as run
    elif command == "calibrate":
        from stackjax.runtime.calibrate_log import main as run
    elif command == "report":
        from stackjax.runtime.report_log import main as run
    else:
        parser.error(f"no command {command!r}: choose from {', '.join(COMMANDS)}")
    return run(given[1:])


if __name__ == "__main__":
    sys.exit(main())
