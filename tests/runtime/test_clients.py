"""Agents of the usual libraries, with two tools to be called one after another, in mode `on`.

Each library has its own way to write requests, to read streams and to name what it sends. The
upstream asks for both tools and then answers; an agent must end as it does without a proxy. The
libraries are those of the extra `clients`.
"""

import asyncio
import importlib
import importlib.metadata
from typing import Any

import pytest
from full_upstream import FullUpstream
from proxy_stand import Stand
from recording_upstream import StubPolicy

WIDE = {"token_spread": 50.0, "high": (1.0, 1e6, 1e3, 1e6, 1.0, 2.0, 1.0, 1.0)}
DONE = "w0 w1 w2 w3"
MODEL = "tools:2+words:4"
TASK = "Look it up, then add. " * 40
CALLED: list[str] = []

for _package in ("starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra llm)")

# The libraries' own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


def needs(distribution, *modules) -> Any:
    """Modules of a library; skips without it, by its distribution: a folder may have its name."""
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed (extra clients)")
    found = [importlib.import_module(module) for module in modules]
    return found if len(found) > 1 else found[0]


@pytest.fixture(params=[(0.0, 0.0, 0.0), (0.5, 0.5, 0.5)], ids=["lean", "middle"])
def place(request):
    with Stand(FullUpstream(), StubPolicy(request.param, **WIDE), "on") as stand:
        CALLED.clear()
        yield stand


def search(query: str) -> str:
    """Looks something up."""
    CALLED.append("search")
    return "found " * 900


def add(number: int) -> str:
    """Adds one."""
    CALLED.append("add")
    return str(number + 1)


def finished(place, text, calls=3, cut=True):
    """The agent called both tools and answered, and each of its calls was governed and counted."""
    assert text.strip() == DONE and CALLED == ["search", "add"]
    assert place.finished(calls)
    value = place.governor.metrics.value
    assert place.answered == calls and value("turns", "governed", "answered") > 0
    assert value("tokens", "governed", "completion") == 4 * calls, "exact counts"
    assert place.governor.metrics.by_label("ungoverned") == {}
    assert len(place.governor.ledger) == 1, "one session"
    lean = place.governor.policy.recommend({}, "", ()).response == (0.0, 0.0, 0.0)
    assert (value("rewrites", "context") > 0) == (lean and cut), "the older result is cut"


@pytest.mark.parametrize("streamed", [False, True])
def test_langchain(place, streamed):
    langchain = needs("langchain", "langchain.agents")
    openai = needs("langchain-openai", "langchain_openai")
    model = openai.ChatOpenAI(
        model=MODEL, base_url=f"{place.url}/v1", api_key="k", streaming=streamed
    )
    agent = langchain.create_agent(model, [search, add], system_prompt="Be kind.")
    made = agent.invoke({"messages": [{"role": "user", "content": TASK}]})
    finished(place, made["messages"][-1].text)


@pytest.mark.parametrize("kind", ["chat", "responses"])
@pytest.mark.parametrize("streamed", [False, True])
def test_openai_agents(place, kind, streamed):
    agents, openai = needs("openai-agents", "agents", "openai")
    agents.set_tracing_disabled(True)

    async def run():
        async with openai.AsyncOpenAI(base_url=f"{place.url}/v1", api_key="k") as client:
            kinds = {
                "chat": agents.OpenAIChatCompletionsModel,
                "responses": agents.OpenAIResponsesModel,
            }
            model = kinds[kind](model=MODEL, openai_client=client)
            tools = [agents.function_tool(search), agents.function_tool(add)]
            agent = agents.Agent("helper", instructions="Be kind.", model=model, tools=tools)
            if not streamed:
                return (await agents.Runner.run(agent, TASK)).final_output
            result = agents.Runner.run_streamed(agent, TASK)
            async for _ in result.stream_events():
                pass
            return result.final_output

    finished(place, asyncio.run(run()))


@pytest.mark.parametrize("kind", ["chat", "responses", "anthropic"])
def test_pydantic_ai(place, kind):
    pydantic_ai, openai = needs("pydantic-ai-slim", "pydantic_ai", "openai")

    async def run():
        if kind == "anthropic":
            names = ("anthropic", "pydantic_ai.models.anthropic", "pydantic_ai.providers.anthropic")
            anthropic, models, providers = needs("anthropic", *names)
            client = anthropic.AsyncAnthropic(base_url=place.url, api_key="k")
            provider = providers.AnthropicProvider(anthropic_client=client)
            model = models.AnthropicModel(MODEL, provider=provider)
        else:
            names = ("pydantic_ai.models.openai", "pydantic_ai.providers.openai")
            models, providers = needs("pydantic-ai-slim", *names)
            client = openai.AsyncOpenAI(base_url=f"{place.url}/v1", api_key="k")
            made = models.OpenAIChatModel if kind == "chat" else models.OpenAIResponsesModel
            model = made(MODEL, provider=providers.OpenAIProvider(openai_client=client))
        async with client:
            agent = pydantic_ai.Agent(model, instructions="Be kind.", tools=[search, add])
            return (await agent.run(TASK)).output

    finished(place, asyncio.run(run()))


@pytest.mark.parametrize("streamed", [False, True])
def test_anthropic(place, streamed):
    anthropic = needs("anthropic", "anthropic")
    with anthropic.Anthropic(base_url=place.url, api_key="k") as client:
        tools = [
            {"name": name, "input_schema": {"type": "object", "properties": properties}}
            for name, properties in (
                ("search", {"query": {"type": "string"}}), ("add", {"number": {"type": "integer"}}),
            )
        ]  # fmt: skip
        messages: list[Any] = [{"role": "user", "content": TASK}]
        for _ in range(3):
            asked = {"model": MODEL, "max_tokens": 99, "system": "Be kind.", "tools": tools}
            if streamed:
                with client.messages.stream(messages=messages, **asked) as events:
                    answer = events.get_final_message()
            else:
                answer = client.messages.create(messages=messages, **asked)
            messages.append(
                {"role": "assistant", "content": [b.model_dump() for b in answer.content]}
            )
            used = [block for block in answer.content if block.type == "tool_use"]
            results = [
                {"type": "tool_result", "tool_use_id": block.id,
                 "content": {"search": search, "add": add}[block.name](**block.input)}
                for block in used
            ]  # fmt: skip
            if used:
                messages.append({"role": "user", "content": results})
        finished(place, answer.content[0].text)


def test_openai_responses(place):
    """The client itself, with the history at the server: each request names the one before."""
    openai = needs("openai", "openai")
    takes = {"search": {"query": {"type": "string"}}, "add": {"number": {"type": "integer"}}}
    tools = [
        {"type": "function", "name": n, "parameters": {"type": "object", "properties": p}}
        for n, p in takes.items()
    ]
    with openai.OpenAI(base_url=f"{place.url}/v1", api_key="k") as client:
        asked: dict[str, Any] = {"input": TASK}
        for _ in range(3):
            answer = client.responses.create(model=MODEL, tools=tools, **asked)
            outputs = [
                {"type": "function_call_output", "call_id": item.call_id,
                 "output": search("x") if item.name == "search" else add(3)}
                for item in answer.output if item.type == "function_call"
            ]  # fmt: skip
            asked = {"input": outputs, "previous_response_id": answer.id}
        finished(place, answer.output_text, cut=False)


def test_azure_openai(place):
    openai = needs("openai", "openai")
    with openai.AzureOpenAI(
        azure_endpoint=place.url, api_key="k", api_version="2024-10-21"
    ) as client:
        messages = [{"role": "user", "content": TASK}]
        answer = client.chat.completions.create(model="words:4", messages=messages)
        assert answer.choices[0].message.content == DONE
        assert place.finished()
    line = place.upstream.received[0].head.split(b"\r\n")[0]
    assert line.startswith(b"POST /openai/deployments/words:4/chat/completions?api-version=")
