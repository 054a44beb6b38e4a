"""A log of turns made from known surfaces, with the fields and the designs of a real one."""

import numpy as np

from stackjax.agents.log._log import TurnRecord
from stackjax.agents.tasks._tasks import TASK_TYPES

GRID = [(c, p, u) for c in (0.0, 0.5, 1.0) for p in (0.0, 0.5, 1.0) for u in (0.0, 0.5, 1.0)]


def true_quality(task, complexity, response):
    """Probability of a right answer: context helps hard turns, tools help reasoning, and long
    prompts hurt chat a little."""
    c, p, u = response
    kind = TASK_TYPES.index(task)
    tool = 0.45 if kind >= 4 else 0.0
    prompt = 0.1 if kind >= 2 else -0.06
    gain = 0.5 * complexity * (1 - (1 - c) ** 2) + prompt * p + tool * (1 - (1 - u) ** 2)
    return float(np.clip(0.35 + 0.2 * (1 - complexity) + gain - 0.15 * c * u * (kind >= 4), 0, 1))


def true_tokens(task, context_tokens, response):
    """Mean tokens: history and instructions are prompt, tools cost calls."""
    c, p, u = response
    kind = TASK_TYPES.index(task)
    return 40 + 8 * kind + c * context_tokens + 110 * p + 70 * u * (1 + 0.5 * p * u)


def executor(signal, complexity, noise):
    """What the heuristic executor intends: more of everything for more quality and subsidy."""
    q, alpha = signal
    drive = (q - 0.6) / 0.35
    base = np.array([0.25 + 0.5 * complexity, 0.1, 0.1]) + drive * np.array([0.3, 0.4, 0.5])
    return np.clip(base + 0.3 * alpha * np.array([0.4, 1.0, 0.3]) + noise, 0, 1)


def observe(state, outcomes, turns):
    """The part of the state that follows from the outcomes (tokens, correct) so far."""
    tokens = [o[0] for o in outcomes]
    quality = 0.5
    for o in outcomes:
        quality = 0.6 * quality + 0.4 * float(o[1])
    mean = float(np.mean(tokens)) if tokens else 0.0
    return {
        **state,
        "mean_tokens": mean,
        "recent_quality": quality,
        "token_trend": (tokens[-1] - tokens[-2]) / mean if len(tokens) > 1 else 0.0,
        "model_condition": 1.0,
        "budget": 1.0 - sum(tokens) / (400.0 * turns),
    }


def synthetic_log(seed, *, random=120, heuristic=40, factorial=24):
    """Records of as many episodes of each design."""
    rng = np.random.default_rng(seed)
    designs = ["random"] * random + ["heuristic"] * heuristic + ["factorial"] * factorial
    records = []
    for number, design in enumerate(designs):
        outcomes, context = [], 0.0
        turns = int(rng.integers(3, 8))
        for turn in range(turns):
            task = str(rng.choice(TASK_TYPES))
            complexity = float(rng.uniform(0.1, 0.9))
            context += float(rng.uniform(10, 60))
            state = observe(
                {"task_complexity": complexity, "context_tokens": context, "turn_index": turn},
                outcomes,
                turns,
            )
            signal = float(rng.uniform(0.6, 0.95)), float(rng.uniform(0, 1))
            if design == "factorial":
                chosen = [(cell, cell) for cell in GRID]
            elif design == "random":
                cell = GRID[rng.integers(27)]
                chosen = [(cell, cell)]
            else:
                intended = executor(signal, complexity, 0.05 * rng.normal(size=3))
                chosen = [(intended.tolist(), tuple(np.floor(2 * intended + 0.5) / 2))]
            luck = rng.uniform()
            for intended, cell in chosen:
                noise = np.exp(0.1 * rng.normal())
                tokens = int(true_tokens(task, context, cell) * noise)
                correct = bool(luck < true_quality(task, complexity, cell))
                if design != "factorial" or cell == (0.5, 0.5, 0.5):
                    outcome = (tokens, correct)
                records.append(
                    TurnRecord(
                        episode=f"{design}-{number:04d}",
                        turn=turn,
                        task=task,
                        family=task,
                        item=f"{number}-{turn}",
                        policy=design,
                        design=design,
                        state=state,
                        signal=signal if design == "heuristic" else None,
                        intended=(float(intended[0]), float(intended[1]), float(intended[2])),
                        executed=cell,
                        propensity={"random": 1 / 27, "factorial": 1.0}.get(design),
                        prompt_tokens=tokens - 7,
                        completion_tokens=7,
                        latency=0.1,
                        tool_calls=0,
                        answer="an answer",
                        gold="",
                        correct=correct,
                        fallback=None,
                        replayed=False,
                        model="synthetic",
                        adapter="0",
                        seed=seed,
                        time="2000-01-01T00:00:00Z",
                    )
                )
            outcomes.append(outcome)
    return records
