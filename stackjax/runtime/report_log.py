"""What a runtime's log says: shadow bounds, canary and A/B results, off-policy estimates.

    stackjax report runtime.jsonl --out report

prints the report and writes the figures (with matplotlib, extra `plot`) and one page,
`report.html`, into the folder; some seconds for ten thousand turns. A saving is measured where a
canary or an A/B left sessions alone; all else is a model's estimate, and says so.
`--prices 2,0.5,8` adds what the turns cost.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stackjax.runtime._command_line import OneLineParser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints and writes the report; returns the exit status."""
    parser = OneLineParser("stackjax report", __doc__ or "")
    parser.add_argument("log", nargs="+", type=Path, help="turn logs (.jsonl or .jsonl.gz)")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder (default: report)")
    parser.add_argument(
        "--margin", type=float, default=0.05, help="loss of quality tolerated (default: 0.05)"
    )
    parser.add_argument("--level", type=float, default=0.95, help="confidence (default: 0.95)")
    parser.add_argument(
        "--prices",
        metavar="IN,CACHED,OUT",
        help="prices of a million tokens: input, cached input, output (default: no costs)",
    )
    args = parser.parse_args(argv)
    from stackjax.runtime.governor._comparison import StopRule
    from stackjax.runtime.report._page import as_html, as_text, figures, printable
    from stackjax.runtime.report._savings import Prices
    from stackjax.runtime.report._summary import read_runtime, summarise

    try:
        rule = StopRule(margin=args.margin, level=args.level)
        prices = None
        if args.prices is not None:
            parts = args.prices.split(",")
            if len(parts) != 3:
                raise ValueError(f"`prices` must be three numbers; got {args.prices}.")
            prices = Prices(*map(float, parts))
        records, shadow = read_runtime(args.log)
        summaries = summarise(records, rule=rule, prices=prices)
        args.out.mkdir(parents=True, exist_ok=True)
        images = {}
        try:
            images = figures(summaries)
        except ImportError as error:
            print(f"report: no figures: {error}", file=sys.stderr)
        for name, content in images.items():
            (args.out / f"{name}.png").write_bytes(content)
        page = args.out / "report.html"
        page.write_text(as_html(summaries, shadow, images), encoding="utf-8")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        # A forged record may hold anything in any field.
        print(f"report: error: {printable(str(error))}", file=sys.stderr)
        return 2
    print(as_text(summaries, shadow))
    print(f"\nwrote {page}" + (f" and {len(images)} figures" if images else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
