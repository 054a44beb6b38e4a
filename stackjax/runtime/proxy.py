"""A reverse proxy that governs any agent by its base URL.

    stackjax proxy --upstream http://127.0.0.1:8080/v1 --policy DIR

serves ``http://127.0.0.1:8090/v1``: chat completions, responses and Anthropic's messages are
governed, all else passes and is counted. It begins in shadow mode: what leaves is what came, byte
for byte. Ctrl-C or SIGTERM ends it, after the answers that are under way (``--drain`` seconds at
most) and what its log still lacks, with status 0. ``--config FILE`` reads the same options from a
TOML file, by their names without the dashes in front; an option that is given here goes first.
``STACKJAX_ADMIN_TOKEN`` in the environment opens the endpoints that switch the mode while the
proxy runs, take feedback, lower alarms and read the policy again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.runtime._command_line import OneLineParser


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = OneLineParser("stackjax proxy", __doc__ or "")
    made.add_argument("--config", type=Path, metavar="FILE", help="TOML file with these options")
    add = made.add_argument_group("what is served").add_argument
    add("--upstream", metavar="URL", help="base URL of the real server, ending in /v1")
    add("--policy", type=Path, metavar="DIR", help="folder of a saved policy")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, default=8090, help="port to listen on (default: 8090; 0: any)")
    add("--expect", help="first digits of the digest of all parts that the policy must have")
    add = made.add_argument_group("what is governed").add_argument
    add("--mode", default="shadow", help="off, shadow, canary, ab or on (default: shadow)")
    add("--share", type=float, help="share of sessions that canary or ab governs")
    add("--salt", default="", help="mixed into the hash that assigns sessions")
    add("--deadline-ms", type=float, default=5.0, help="longest wait for a decision (default: 5)")
    add(
        "--rewrite-deadline-ms",
        type=float,
        default=100.0,
        help="longest wait for reading and rewriting a request (default: 100)",
    )
    add("--token-budget", type=float, help="tokens that a session may use (default: no limit)")
    add("--pool-budget", type=float, help="tokens of a pool's sessions in a window (no limit)")
    add("--pool-window", type=float, default=86400.0, help="seconds of the window (a day)")
    add("--hard-budget", action="store_true", help="answer 429 when a budget is spent")
    kinds = ", ".join(TASK_TYPES)
    add("--task", metavar="TYPE", help=f"type of requests that tell none: {kinds}")
    add(
        "--session-source",
        action="append",
        metavar="NAME",
        help="where a session's name is looked for, in order: header, metadata, conversation, "
        "prompt_cache_key, user, traceparent (default: all)",
    )
    add("--session-header", action="append", help="a further header that names a session")
    add(
        "--stream-usage",
        default="governed",
        help="ask for the tokens of streams: governed, always or never (default: governed)",
    )
    add(
        "--tool-calls",
        type=int,
        help="calls of an exchange after which a governed one gets no more (default: no limit)",
    )
    add("--log", type=Path, help="turn log to append to, a .jsonl file (default: none)")
    add("--store", type=Path, help="SQLite file for what outlives the process (default: none)")
    add = made.add_argument_group("limits of the server").add_argument
    add("--allow-header", action="append", help="a further request header to pass on")
    add("--drain", type=float, default=60.0, help="seconds for answers after a signal (60)")
    add("--keep-alive", type=float, default=75.0, help="seconds of an idle connection (75)")
    add("--read-deadline", type=float, default=60.0, help="seconds for a head, and a body (60)")
    add("--body-limit", type=int, default=64 << 20, help="bytes of a body (64 MiB)")
    add("--connect-timeout", type=float, default=10.0, help="seconds to connect (10)")
    add("--read-timeout", type=float, default=600.0, help="seconds of silence in an answer (600)")
    add("--pool-timeout", type=float, default=60.0, help="seconds to wait for a connection (60)")
    add("--connections", type=int, default=2048, help="connections to the upstream (2048)")
    return made


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options: of the command line, else of the file that it names, else the defaults."""
    made = parser()
    first, _ = made.parse_known_args(argv)
    if first.config is not None:
        try:
            made.set_defaults(**from_file(made, first.config))
        except (OSError, ValueError) as error:
            made.error(str(error))
    args = made.parse_args(argv)
    for name in ("upstream", "policy"):
        if getattr(args, name) is None:
            made.error(f"the following arguments are required: --{name}")
    if args.task is not None and args.task not in TASK_TYPES:
        made.error(f"argument --task: invalid choice: {args.task!r} (choose from {TASK_TYPES})")
    return args


def from_file(made: argparse.ArgumentParser, path: Path) -> dict[str, Any]:
    """The options that a TOML file holds, each of the type that the command line gives it.

    Raises:
      OSError: If the file cannot be read.
      ValueError: If it is no TOML, has an unknown name, or a value of another kind.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no TOML file: {error}") from error
    actions = {action.dest: action for action in made._actions if action.dest not in _NOT_IN_FILE}
    found: dict[str, Any] = {}
    for key, value in told.items():
        name = key.replace("-", "_")
        action = actions.get(name)
        if action is None:
            known = ", ".join(sorted(actions))
            raise ValueError(f"{path}: `{key}` must be one of {known}.")
        if action.nargs == 0:  # a flag
            if not isinstance(value, bool):
                raise ValueError(f"{path}: `{key}` must be true or false; got {value!r}.")
            found[name] = value
            continue
        listed = name in _LISTS
        kinds: Any = {float: (int, float), int: int}.get(action.type or str, str)  # pyright: ignore
        values = value if listed else [value]
        right = isinstance(values, list) and all(
            isinstance(one, kinds) and not isinstance(one, bool) for one in values
        )
        if not right:
            kind = "a list of texts" if listed else "a text" if kinds is str else "a number"
            raise ValueError(f"{path}: `{key}` must be {kind}; got {value!r}.")
        convert: Any = action.type or str
        found[name] = [convert(one) for one in values] if listed else convert(value)
    return found


_NOT_IN_FILE = ("help", "config")
_LISTS = ("session_source", "session_header", "allow_header")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the proxy until it is interrupted; returns the exit status."""
    args = parsed(argv)
    from stackjax.runtime.chat._request import ChatAdapter
    from stackjax.runtime.gateway._asgi import make_app, uvicorn_server
    from stackjax.runtime.gateway._relay import Intake
    from stackjax.runtime.gateway._sessions import SOURCES, SessionNames
    from stackjax.runtime.gateway._upstream import Upstream
    from stackjax.runtime.governor._governor import Governor, Limits
    from stackjax.runtime.policy._rollout import Rollout
    from stackjax.runtime.policy._store import digest_of, load_policy

    try:
        upstream = Upstream(
            args.upstream,
            allow=args.allow_header or (),
            connect=args.connect_timeout,
            read=args.read_timeout,
            pool=args.pool_timeout,
        )
        rollout = Rollout(args.mode, args.share, args.salt)
        limits = Limits(
            deadline=args.deadline_ms / 1e3,
            token_budget=args.token_budget,
            pool_budget=args.pool_budget,
            pool_window=args.pool_window,
            hard_budget=args.hard_budget,
            rewrite_deadline=args.rewrite_deadline_ms / 1e3,
        )
        names = SessionNames(tuple(args.session_source or SOURCES), args.session_header or ())
        intake = Intake(args.body_limit, args.read_deadline, args.stream_usage, names)
        adapter = ChatAdapter(tool_calls=args.tool_calls)
        if args.log is not None and args.log.suffix != ".jsonl":
            raise ValueError(f"`log` must be a .jsonl file; got {args.log}.")
        if not 0 <= args.port < 65536:
            raise ValueError(f"`port` must be between 0 and 65535; got {args.port}.")

        def load() -> Any:
            policy = load_policy(args.policy)
            digest = digest_of(policy.fingerprint)
            if args.expect and not digest.startswith(args.expect.lower()):
                raise ValueError(
                    f"`expect` must begin the digest of all parts, {digest[:12]}; "
                    f"got {args.expect}."
                )
            return policy

        policy = load()
        governor = Governor(
            policy,
            rollout=rollout,
            limits=limits,
            log=args.log,
            store=args.store,
            adapter=adapter,
        )
        app = make_app(
            governor,
            upstream,
            defaults={"task": args.task} if args.task else None,
            admin_token=os.environ.get("STACKJAX_ADMIN_TOKEN") or None,
            connections=args.connections,
            intake=intake,
            reload=load,
        )
        server = uvicorn_server(
            app,
            args.host,
            args.port,
            drain=args.drain,
            keep_alive=args.keep_alive,
            read_deadline=args.read_deadline,
        )
        # Bound here: a port that is taken is told, and one that was free to choose is known.
        family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
        bound = socket.create_server((args.host, args.port), family=family, backlog=4096)
    except (ImportError, OSError, ValueError, TypeError) as error:
        print(f"proxy: error: {error}", file=sys.stderr)
        return 2
    if args.host not in ("127.0.0.1", "::1", "localhost"):
        print(f"proxy: warning: {args.host} may be reached by other machines", file=sys.stderr)
    raise_file_limit()
    # The event loop asks for the interpreter back within 1 ms, not 5, while a decision runs.
    sys.setswitchinterval(0.001)
    host = f"[{args.host}]" if ":" in args.host else args.host
    digest = digest_of(policy.fingerprint)[:12]
    print(
        f"governing {upstream.url} at http://{host}:{bound.getsockname()[1]}/v1, "
        f"mode {rollout.label}, policy {digest}",
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
