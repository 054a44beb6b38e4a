"""The proxy as an ASGI application, and as a server on this machine."""

from __future__ import annotations

import contextlib
import hmac
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from stackjax.runtime.gateway._identify import checked_defaults
from stackjax.runtime.gateway._relay import Relay
from stackjax.runtime.gateway._upstream import Upstream
from stackjax.runtime.governor._governor import Governor
from stackjax.runtime.policy._rollout import Rollout

NEEDS = "The proxy needs more packages: `pip install starlette uvicorn httpx prometheus-client`."


def make_app(
    governor: Governor,
    upstream: Upstream,
    *,
    defaults: Mapping[str, Any] | None = None,
    admin_token: str | None = None,
    connections: int = 2048,
) -> Any:
    """A Starlette application that governs an OpenAI-compatible server.

    ============================  ==============================================================
    path                          what it does
    ============================  ==============================================================
    ``/v1/...``                   goes to the upstream; chat completions are governed
    ``GET /healthz``              the governor's health: 200 while requests are served, degraded
                                  or not
    ``GET /metrics``              Prometheus metrics
    ``POST /stackjax/rollout``    switches the mode: ``{"mode": "canary", "share": 0.1}``
    ``POST /stackjax/feedback``   tells a turn's quality: ``{"session": "...", "quality": 1}``
    ============================  ==============================================================

    The last two need ``Authorization: Bearer <admin_token>`` and do not exist without a token.

    Args:
      governor: The governor; closed with the application.
      upstream: Where requests go.
      defaults: Session metadata for requests that do not tell them.
      admin_token: Secret of the switching endpoints; None for none.
      connections: Connections to the upstream at most.

    Raises:
      ImportError: If starlette or httpx is not installed.
      TypeError: If a default is no field of `SessionMetadata`.
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
    relay = Relay(governor, upstream, checked_defaults(defaults))

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[None]:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=256)
        timeout = httpx.Timeout(upstream.read, connect=upstream.connect, pool=upstream.connect)
        async with httpx.AsyncClient(
            limits=limits, timeout=timeout, trust_env=False, follow_redirects=False
        ) as client:
            relay.client = client
            yield
        governor.close()

    admin = _Admin(governor, admin_token)
    routes = [
        Route("/healthz", admin.health, methods=["GET"]),
        Route("/metrics", admin.metrics, methods=["GET"]),
    ]
    if admin_token is not None:
        routes += [
            Route("/stackjax/rollout", admin.rollout, methods=["POST"]),
            Route("/stackjax/feedback", admin.feedback, methods=["POST"]),
        ]
    app = Starlette(routes=routes, lifespan=lifespan)

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        inner = scope["type"] != "lifespan" and scope["path"].startswith("/v1/")
        await (relay if inner else app)(scope, receive, send)

    return serve


class _Admin:
    """The proxy's own endpoints."""

    def __init__(self, governor: Governor, token: str | None) -> None:
        self._governor, self._token = governor, token

    async def health(self, request: Any) -> Any:
        from starlette.responses import JSONResponse

        return JSONResponse(self._governor.health())

    async def metrics(self, request: Any) -> Any:
        from starlette.responses import Response

        governor = self._governor
        gauges = {f"drift_alarm_{name}": 0.0 for name in governor.observer.charts}
        gauges |= {f"drift_alarm_{name}": 1.0 for name in governor.observer.drifting}
        gauges["sessions"] = len(governor.ledger)
        gauges["calibration_age_seconds"] = governor.policy.calibration.age()
        text = governor.metrics.prometheus(gauges)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def rollout(self, request: Any) -> Any:
        def switch(data: Mapping[str, Any]) -> dict[str, Any]:
            self._governor.set_rollout(Rollout(**data))
            return {"rollout": self._governor.rollout.label}

        return await self._change(request, switch)

    async def feedback(self, request: Any) -> Any:
        def rate(data: Mapping[str, Any]) -> dict[str, Any]:
            if set(data) != {"session", "quality"} or not isinstance(data["session"], str):
                raise ValueError('The body must be {"session": text, "quality": number in [0, 1]}.')
            return {"known": self._governor.feedback(data["session"], data["quality"])}

        return await self._change(request, rate)

    async def _change(self, request: Any, change: Any) -> Any:
        from starlette.responses import JSONResponse

        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            return JSONResponse({"error": "unauthorized"}, status_code=401)
        try:
            if int(request.headers.get("content-length", 0)) > 10_000:
                raise ValueError("The body must be at most 10,000 bytes.")
            data = json.loads(await request.body())
            if not isinstance(data, dict):
                raise ValueError("The body must be a JSON object.")
            return JSONResponse(change(data))
        except (ValueError, TypeError) as error:
            return JSONResponse({"error": str(error)[:200]}, status_code=400)


def uvicorn_server(app: Any, host: str, port: int) -> Any:
    """A `uvicorn.Server` with the settings that a proxy needs.

    Raises:
      ImportError: If uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise ImportError(NEEDS) from error
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="critical",
        log_config=None,  # the process's own logging stays as it is
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=4096,
        ws="none",
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)
