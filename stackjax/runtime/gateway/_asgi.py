"""The proxy as an ASGI application, and as a server on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any

from stackjax._arrays.arguments import check_type
from stackjax.runtime.gateway._admin import Admin
from stackjax.runtime.gateway._identify import checked_defaults
from stackjax.runtime.gateway._protocols import patient_protocol
from stackjax.runtime.gateway._relay import DEFAULT_INTAKE, Intake, Relay
from stackjax.runtime.gateway._upstream import Upstream
from stackjax.runtime.governor._governor import Governor

NEEDS = "The proxy needs more packages: `pip install starlette uvicorn httpx prometheus-client`."


def make_app(
    governor: Governor,
    upstream: Upstream,
    *,
    defaults: Mapping[str, Any] | None = None,
    admin_token: str | None = None,
    connections: int = 2048,
    intake: Intake = DEFAULT_INTAKE,
    reload: Callable[[], Any] | None = None,
) -> Any:
    """A Starlette application that governs an OpenAI-compatible or Anthropic-compatible server.

    ===============================  ===========================================================
    path                             what it does
    ===============================  ===========================================================
    ``/v1/...``, ``/openai/...``     goes to the upstream; chat completions, responses and messages
                                     are governed
    ``GET /livez``                   200 while the process runs
    ``GET /readyz``                  200 if the upstream can be reached, else 503
    ``GET /healthz``                 the governor's health, 200 whatever it says
    ``GET /metrics``                 Prometheus metrics
    ``POST /stackjax/rollout``       switches the mode: ``{"mode": "canary", "share": 0.1}``
    ``POST /stackjax/feedback``      tells a turn's quality: ``{"session": "...", "quality": 1}``
    ``POST /admin/alarms/reset``     lowers the alarms
    ``POST /admin/policy/reload``    reads the policy again
    ===============================  ===========================================================

    The last four need ``Authorization: Bearer <admin_token>`` and do not exist without a token.

    Args:
      governor: The governor; closed with the application.
      upstream: Where requests go.
      defaults: Session metadata for requests that do not tell them.
      admin_token: Secret of the switching endpoints; None for none.
      connections: Connections to the upstream at most.
      intake: How requests are taken in: limits, deadlines, names of sessions.
      reload: Reads the policy again, for ``/admin/policy/reload``.

    Raises:
      ImportError: If starlette or httpx is not installed.
      TypeError: If a default is no field of `SessionMetadata`, or the intake no `Intake`.
      ValueError: If the token is empty, or the default task type unknown.

    Example:
      >>> from importlib.util import find_spec
      >>> with Governor(known_policy()) as governor:
      ...     if find_spec("starlette") and find_spec("httpx"):  # of the extra llm
      ...         app = make_app(governor, Upstream("http://127.0.0.1:8080/v1"))
      ...         # uvicorn.run(app, port=8090)
    """
    try:
        import httpx
        from starlette.applications import Starlette
        from starlette.routing import Route
    except ImportError as error:
        raise ImportError(NEEDS) from error
    if admin_token is not None and not admin_token.strip():
        raise ValueError(
            "`admin_token` must be a text, or None for no switching endpoints; got an empty one."
        )
    check_type("intake", intake, Intake, "an Intake")
    relay = Relay(governor, upstream, checked_defaults(defaults), intake=intake)

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[None]:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=256)
        timeout = httpx.Timeout(upstream.read, connect=upstream.connect, pool=upstream.pool)
        transport = httpx.AsyncHTTPTransport(limits=limits, retries=1, trust_env=False)
        async with httpx.AsyncClient(
            transport=transport, timeout=timeout, trust_env=False, follow_redirects=False
        ) as client:
            relay.client = client
            yield
        governor.close()

    admin = Admin(relay, admin_token, reload)
    routes = [
        Route("/livez", admin.alive, methods=["GET"]),
        Route("/readyz", admin.ready, methods=["GET"]),
        Route("/healthz", admin.health, methods=["GET"]),
        Route("/metrics", admin.metrics, methods=["GET"]),
    ]
    if admin_token is not None:
        routes += [
            Route("/stackjax/rollout", admin.rollout, methods=["POST"]),
            Route("/stackjax/feedback", admin.feedback, methods=["POST"]),
            Route("/admin/alarms/reset", admin.reset_alarms, methods=["POST"]),
            Route("/admin/policy/reload", admin.reload_policy, methods=["POST"]),
        ]
    app = Starlette(routes=routes, lifespan=lifespan)

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        inner = scope["type"] != "lifespan" and scope["path"].startswith(("/v1/", "/openai/"))
        await (relay if inner else app)(scope, receive, send)

    return serve


def uvicorn_server(
    app: Any,
    host: str,
    port: int,
    *,
    drain: float = 60.0,
    keep_alive: float = 75.0,
    read_deadline: float = 60.0,
) -> Any:
    """A `uvicorn.Server` with the settings that a proxy needs.

    SIGTERM and SIGINT end it: no new connection is taken, answers that are under way are finished,
    the application is shut down, and `run` returns.

    Args:
      app: The application.
      host: Address to listen on.
      port: Port to listen on.
      drain: Seconds that answers under way may take after a signal; then they are cut.
      keep_alive: Seconds that an idle connection stays open: longer than a load balancer's.
      read_deadline: Seconds in which a request's head must arrive.

    Raises:
      ImportError: If uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise ImportError(NEEDS) from error

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None]:
            # uvicorn raises the signal again once it is done: the process would end by it and not
            # with status 0, as one does that was told to end and did.
            with super().capture_signals():
                yield
                self._captured_signals.clear()

    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=patient_protocol(read_deadline),
        log_level="critical",
        log_config=None,  # the process's own logging stays as it is
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=4096,
        ws="none",
        timeout_keep_alive=keep_alive,  # pyright: ignore[reportArgumentType]
        timeout_graceful_shutdown=drain,  # pyright: ignore[reportArgumentType]
    )
    return Server(config)
