"""Calibrates a policy on one's own traffic, out of what a shadow run has logged.

    stackjax proxy --upstream http://127.0.0.1:8080/v1 --policy policy --log shadow.jsonl
    stackjax calibrate shadow.jsonl --policy policy --out policy-calibrated

The log of a proxy in shadow mode, which changes no request, is enough; ratings are optional. The
controller stays as it is: what changes is what its predictions are compared with, and so when the
drift alarm rises and which requests count as unusual. A running governor takes the new policy by
`Governor.set_policy`, without a restart.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stackjax.runtime._command_line import OneLineParser


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the calibrated policy and says what it was calibrated on; returns the exit status."""
    parser = OneLineParser("stackjax calibrate", __doc__ or "")
    add = parser.add_argument
    add("log", nargs="+", type=Path, help="turn logs of a runtime (.jsonl or .jsonl.gz)")
    add("--policy", required=True, type=Path, metavar="DIR", help="folder of the policy")
    add("--out", required=True, type=Path, metavar="DIR", help="folder for the calibrated one")
    add("--expect", help="first digits of the digest of all parts that the policy must have")
    args = parser.parse_args(argv)
    from stackjax.agents.log._log import read_log
    from stackjax.runtime.policy._policy import recalibrated
    from stackjax.runtime.policy._residuals import in_support
    from stackjax.runtime.policy._store import digest_of, load_policy, save_policy
    from stackjax.runtime.policy._written import written_turns

    try:
        records = [record for path in args.log for record in read_log(path).records]
        turns = written_turns(record for record in records if record.design == "runtime")
        if not turns:
            raise ValueError(f"`log` must hold turns of a runtime; got {len(records)} others.")
        policy = load_policy(args.policy, expect=args.expect)
        made = recalibrated(policy, turns)
        save_policy(made, args.out)
    except (OSError, ValueError, TypeError) as error:
        message = str(error).encode("unicode_escape").decode()
        print(f"calibrate: error: {message}", file=sys.stderr)
        return 2
    found, before = made.calibration, policy.calibration
    states = [turn.state for turn in turns]
    rows = [
        ("turns in the log, used", f"{len(turns)}, {found.turns}"),
        ("of them rated", f"{found.rated}" if found.rated else "0: quality is not watched"),
        (
            "mean log(used / predicted tokens)",
            f"{found.token_mean:.3f}, sd {found.token_spread:.3f}",
        ),
        ("before", f"{before.token_mean:.3f}, sd {before.token_spread:.3f}"),
        ("turns within the calibrated ranges", f"{in_support(found, states):.1%}"),
        ("before", f"{in_support(before, states):.1%}"),
        ("digest of all parts, for --expect", digest_of(made.fingerprint)[:12]),
    ]
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name.ljust(width)}  {value}" for name, value in rows))
    print(f"\nwrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
