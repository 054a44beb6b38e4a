"""A reverse proxy that governs any agent by its base URL.

    stackjax proxy --upstream http://127.0.0.1:8080/v1 --policy DIR

serves ``http://127.0.0.1:8090/v1``. It begins in shadow mode: what leaves is what came, byte for
byte. Ctrl-C or `kill` ends it, after the answers that are under way and what its log still lacks.
``STACKJAX_ADMIN_TOKEN`` in the environment opens the endpoints that switch the mode while the
proxy runs and take feedback.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.runtime._command_line import OneLineParser


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = OneLineParser("stackjax proxy", __doc__ or "")
    add = made.add_argument
    add(
        "--upstream",
        required=True,
        metavar="URL",
        help="base URL of the real server, ending in /v1",
    )
    add("--policy", required=True, type=Path, metavar="DIR", help="folder of a saved policy")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, default=8090, help="port to listen on (default: 8090; 0: any)")
    add("--mode", default="shadow", help="off, shadow, canary, ab or on (default: shadow)")
    add("--share", type=float, help="share of sessions that canary or ab governs")
    add("--salt", default="", help="mixed into the hash that assigns sessions")
    add("--deadline-ms", type=float, default=5.0, help="longest wait for a decision (default: 5)")
    add("--token-budget", type=float, help="tokens that a session may use (default: no limit)")
    kinds = ", ".join(TASK_TYPES)
    add(
        "--task",
        choices=TASK_TYPES,
        metavar="TYPE",
        help=f"type of requests that tell none: {kinds}",
    )
    add("--log", type=Path, help="turn log to append to, a .jsonl file (default: none)")
    add("--allow-header", action="append", default=[], help="a further request header to pass on")
    add("--expect", help="first digits of the leader's fingerprint that the policy must have")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the proxy until it is interrupted; returns the exit status."""
    args = parser().parse_args(argv)
    from stackjax.runtime.gateway._asgi import make_app, uvicorn_server
    from stackjax.runtime.gateway._upstream import Upstream
    from stackjax.runtime.governor._governor import Governor, Limits
    from stackjax.runtime.policy._rollout import Rollout
    from stackjax.runtime.policy._store import load_policy

    try:
        upstream = Upstream(args.upstream, allow=args.allow_header)
        rollout = Rollout(args.mode, args.share, args.salt)
        limits = Limits(deadline=args.deadline_ms / 1e3, token_budget=args.token_budget)
        if args.log is not None and args.log.suffix != ".jsonl":
            raise ValueError(f"`log` must be a .jsonl file; got {args.log}.")
        if not 0 <= args.port < 65536:
            raise ValueError(f"`port` must be between 0 and 65535; got {args.port}.")
        policy = load_policy(args.policy)
        leader = policy.fingerprint["leader"]
        if args.expect and not leader.startswith(args.expect.lower()):
            raise ValueError(
                f"`expect` must begin the leader's fingerprint, {leader[:12]}; got {args.expect}."
            )
        governor = Governor(policy, rollout=rollout, limits=limits, log=args.log)
        app = make_app(
            governor,
            upstream,
            defaults={"task": args.task} if args.task else None,
            admin_token=os.environ.get("STACKJAX_ADMIN_TOKEN") or None,
        )
        server = uvicorn_server(app, args.host, args.port)
        # Bound here: a port that is taken is told, and one that was free to choose is known.
        family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
        bound = socket.create_server((args.host, args.port), family=family, backlog=4096)
    except (ImportError, OSError, ValueError) as error:
        print(f"proxy: error: {error}", file=sys.stderr)
        return 2
    if args.host not in ("127.0.0.1", "::1", "localhost"):
        print(f"proxy: warning: {args.host} may be reached by other machines", file=sys.stderr)
    raise_file_limit()
    # The event loop asks for the interpreter back within 1 ms, not 5, while a decision runs.
    sys.setswitchinterval(0.001)
    host = f"[{args.host}]" if ":" in args.host else args.host
    print(
        f"governing {upstream.url} at http://{host}:{bound.getsockname()[1]}/v1, "
        f"mode {rollout.label}, policy {leader[:12]}",
        flush=True,
    )
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[bound])
    return 0 if server.started else 1


def raise_file_limit() -> None:
    """Lets the process open as many files as it may: a connection takes two."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
