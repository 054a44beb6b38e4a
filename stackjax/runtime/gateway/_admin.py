"""The proxy's own endpoints: probes, metrics, and what an administrator may change."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from stackjax.runtime.gateway._relay import Relay
from stackjax.runtime.policy._rollout import Rollout


class Admin:
    """The endpoints, as functions of a Starlette request.

    Args:
      relay: The relay whose governor is shown and changed.
      token: Secret of the endpoints that change something; None for none.
      reload: Reads the policy again; None if there is nothing to read.
    """

    def __init__(
        self, relay: Relay, token: str | None, reload: Callable[[], Any] | None = None
    ) -> None:
        self._relay, self._governor, self._token = relay, relay.governor, token
        self._reload = reload

    async def alive(self, request: Any) -> Any:
        """Whether the process runs: an orchestrator starts it anew if not."""
        from starlette.responses import JSONResponse

        return JSONResponse({"status": "alive"})

    async def ready(self, request: Any) -> Any:
        """Whether requests can be served: 503 while the upstream cannot be reached."""
        from starlette.responses import JSONResponse

        alive = await self._relay.health.alive()
        told = {"status": "ready"} if alive else {"status": "unready", "reason": _UNREACHABLE}
        return JSONResponse(told, status_code=200 if alive else 503)

    async def health(self, request: Any) -> Any:
        """The governor's health, with the upstream's and the log's; 200 whatever it says."""
        from starlette.responses import JSONResponse

        found = self._governor.health()
        alarms = list(found.get("alarms", []))
        if not await self._relay.health.alive():
            alarms.append(_UNREACHABLE)
        lost = self._governor.metrics.value("unrecorded")
        if lost:
            alarms.append(f"records lost: {lost:g}")
        status = "degraded" if alarms else found.get("status", "ok")
        ungoverned = self._governor.metrics.by_label("ungoverned")
        return JSONResponse({**found, "status": status, "alarms": alarms, "ungoverned": ungoverned})

    async def metrics(self, request: Any) -> Any:
        """Prometheus metrics."""
        from starlette.responses import Response

        governor = self._governor
        gauges = {f"drift_alarm_{name}": 0.0 for name in governor.observer.charts}
        gauges |= {f"drift_alarm_{name}": 1.0 for name in governor.observer.drifting}
        gauges["sessions"] = len(governor.ledger)
        gauges["calibration_age_seconds"] = governor.policy.calibration.age()
        gauges["upstream_up"] = float(await self._relay.health.alive())
        text = governor.metrics.prometheus(gauges)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def rollout(self, request: Any) -> Any:
        """Switches the mode."""

        def switch(data: Mapping[str, Any]) -> dict[str, Any]:
            self._governor.set_rollout(Rollout(**data))
            return {"rollout": self._governor.rollout.label}

        return await self._change(request, switch)

    async def feedback(self, request: Any) -> Any:
        """Tells the quality of a session's last turn."""

        def rate(data: Mapping[str, Any]) -> dict[str, Any]:
            if set(data) != {"session", "quality"} or not isinstance(data["session"], str):
                raise ValueError('The body must be {"session": text, "quality": number in [0, 1]}.')
            session = self._relay.session(data["session"])
            return {"known": self._governor.feedback(session, data["quality"])}

        return await self._change(request, rate)

    async def reset_alarms(self, request: Any) -> Any:
        """Lowers the alarms."""

        def reset(data: Mapping[str, Any]) -> dict[str, Any]:
            self._governor.reset_alarms()
            return {"alarms": self._governor.health()["alarms"]}

        return await self._change(request, reset, empty=True)

    async def reload_policy(self, request: Any) -> Any:
        """Reads the policy's folder again and serves what it holds from the next decision on."""

        def reload(data: Mapping[str, Any]) -> dict[str, Any]:
            if self._reload is None:
                raise ValueError("This proxy has no folder from which a policy can be read again.")
            self._governor.set_policy(self._reload())
            return {
                "fingerprint": {k: v[:12] for k, v in self._governor.policy.fingerprint.items()}
            }

        # Compiling a policy takes seconds: requests are served meanwhile.
        return await self._change(request, reload, empty=True, threaded=True)

    async def _change(
        self, request: Any, change: Any, *, empty: bool = False, threaded: bool = False
    ) -> Any:
        from starlette.responses import JSONResponse

        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            return JSONResponse({"error": "unauthorized"}, status_code=401)
        try:
            if int(request.headers.get("content-length", 0)) > 10_000:
                raise ValueError("The body must be at most 10,000 bytes.")
            content = await request.body()
            data = {} if empty and not content else json.loads(content)
            if not isinstance(data, dict):
                raise ValueError("The body must be a JSON object.")
            made = await asyncio.to_thread(change, data) if threaded else change(data)
            return JSONResponse(made)
        except (ValueError, TypeError, OSError) as error:
            return JSONResponse({"error": str(error)[:200]}, status_code=400)


_UNREACHABLE = "upstream unreachable"
