"""The analysis of a common pool, on logs whose truth is known."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.common.results import plain
from experiments.pool import analysis, arms, choose, demand, dry_run, main_part, take, tuning
from experiments.pool.predictors import PSI, concave, cross_fitted, fit_predictor, log_loss
from experiments.pool.replay import Played, replay
from experiments.pool.sessions import CELLS
from experiments.pool.table import CHEAPEST, MENU, Table, table_of
from stackjax.agents.executor._adapter import executed_action
from stackjax.agents.executor._executor import Executor, TurnOutcome
from stackjax.agents.game import PoolLeader
from stackjax.agents.log import TurnLog, read_log
from stackjax.agents.tasks import make_research_session

K = len(CELLS)
RIDGE = (10.0, 10.0)
LEARNED = {"multipliers": dict.fromkeys(arms.LOADS, 0.0)}


def log(sessions, seed, in_text=True, tried=5):
    """Turns of two needs: half are right under any cell, half from top-1 on; n-gram 0 or 1 says it.

    Context costs tokens, so that an executor that reads the text needs them in half of the turns.
    """
    rng = np.random.default_rng(seed)
    count = 10 * sessions
    need = rng.integers(2, size=count)
    context = np.array([c for c, _, _ in CELLS])
    right = ((context[None] >= 0.25 * need[:, None]) & (rng.random((count, 1)) < 0.95)).astype(
        float
    )
    length = rng.uniform(100, 900, count)
    tokens = 40 + context * length[:, None] + 10 * np.arange(K) / K
    chosen = np.argsort(rng.random((count, K)), axis=1) < tried
    text = np.zeros((count, 512), bool)
    text[np.arange(count), need if in_text else rng.integers(2, size=count)] = True
    return Table(
        seen=chosen,
        correct=right * chosen,
        tokens=tokens * chosen,
        session=np.repeat(np.arange(sessions), 10),
        names=tuple(f"s{i:03d}" for i in range(sessions)),
        turn=np.tile(np.arange(10), sessions),
        task=rng.integers(5, size=count),
        length=length,
        text=text,
        numbers=np.zeros((count, 7)),
        item=("x",) * count,
    )


def stub(tuned, base_tokens, pools, *, seed, steps):
    """A leader whose price rises with the load, without a floor; quick instead of learned."""
    zero = {"inner_kernel": np.zeros((11, 2)), "inner_bias": np.zeros(2)}
    outer = {"outer_kernel": np.zeros((2, 2)), "outer_bias": np.zeros(2)}
    outer["outer_bias"] = np.array([-30.0, 2.0])
    return {**zero, **outer, "start": np.zeros(2)}, LEARNED


@pytest.fixture(scope="module")
def known():
    """Frozen arms and turns under all cells, where only the text says what is needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arms, "learn_leader", stub)
        tuned = tuning.tune_table(log(24, 1), seed=0, penalty=RIDGE)
        return tuned, arms.freeze(tuned, seed=0), log(24, 2, tried=K)


def test_the_truth_is_estimated_from_five_cells(known):
    tuned, _, _ = known
    loss = tuned.report()
    assert loss["executor"] < loss["leader"] - 0.05 and loss["executor"] < loss["cells"] - 0.02
    whole = log(24, 1, tried=K)
    for k in (CHEAPEST, CELLS.index((0.25, 0.5, 0.5))):
        right, tokens = tuned.value(np.full(len(whole), k))
        assert right == pytest.approx(whole.correct[:, k].mean(), abs=0.05)
        assert tokens == pytest.approx(whole.tokens[:, k].mean(), rel=0.05)
    base = tuning.conservative(tuned)
    assert CELLS[base][0] > 0, "half of the turns need context"
    allowed = tuning.action_sets(tuned, base)
    assert allowed[:, base].all() and not allowed[:, CHEAPEST].all()


def test_h1_is_met_where_the_text_tells_and_not_where_it_does_not(known):
    tuned, policies, table = known
    found = analysis.analyse(table, policies, seed=0, tuning=tuned)
    h1 = found["tests"]["H1"]
    assert h1["met"] and h1["low_95"] > 0.02 and h1["low"] < h1["estimate"] < h1["high"]
    assert not found["falsifiers"]["the state tells all"]
    assert found["prices"]["information"]["low"] > 0
    for arm in ("main", "rule", "direct", "planner"):
        truth = found["estimates"][arm]
        assert truth["right"] == pytest.approx(truth["right_truth"], abs=0.08)
    other = dry_run.without_information(tuned.table, table, seed=0, penalty=RIDGE)
    assert not other["met"] and abs(other["estimate"]) < 0.06, "text of other turns tells nothing"
    json.dumps(plain(found), allow_nan=False)


def test_h1_is_not_met_where_nobody_knows_the_need(monkeypatch):
    monkeypatch.setattr(arms, "learn_leader", stub)
    tuned = tuning.tune_table(log(24, 3, in_text=False), seed=0, penalty=RIDGE)
    policies = arms.freeze(tuned, seed=0)
    found = analysis.analyse(log(24, 4, in_text=False, tried=K), policies, seed=0)
    assert not found["tests"]["H1"]["met"] and found["tests"]["met"] == [False] * 3
    assert abs(found["tests"]["H1"]["estimate"]) < 0.05


def test_the_same_arm_differs_by_exactly_nothing(known):
    _, policies, table = known
    assert dry_run.nothing(table, policies.base) == {"saved": 0.0, "lost": 0.0}
    plays = analysis.play_all(table, policies)
    same = analysis.right_of(plays["planner"]) - analysis.right_of(plays["rule"])
    assert (same == 0).all(), "at stake 1 the rule's executor is the planner"
    nothing = analysis.compare(same, table.session, seed=0)
    assert nothing["estimate"] == 0.0 and not nothing["met"]


def test_savings_need_tokens_correctness_and_every_type(known):
    _, policies, table = known
    base = replay(table, np.full(len(table), policies.base), None)
    cheaper = dataclasses.replace(base, tokens=0.6 * base.tokens)

    def judged(main: Played):
        return analysis.savings(table, {"main": {8: main}, "conservative": {8: base}}, seed=0)

    assert judged(cheaper)["met"] and judged(cheaper)["tokens"].estimate == pytest.approx(0.6)
    assert not judged(dataclasses.replace(base, tokens=0.71 * base.tokens))["met"]
    worse = np.where(np.arange(len(table)) % 20 == 0, 0.0, base.correct)
    assert not judged(dataclasses.replace(cheaper, correct=worse))["met"]
    one_type = np.where((table.task == 3) & (np.arange(len(table)) % 6 == 0), 0.0, base.correct)
    lost = judged(dataclasses.replace(cheaper, correct=one_type))
    assert min(lost["by_type"].values()) < -0.10 and not lost["met"]


def test_an_empty_pool_is_charged():
    table = log(2, 5, tried=K)
    k = CELLS.index((0.0, 0.5, 0.0))
    each = table.tokens[0, k]
    played = replay(table, np.full(20, k), each / 2)
    assert played.charged.sum() == 10 and played.charged[10:].all()
    assert (played.cells[10:] == CHEAPEST).all() and (played.free_tokens == each).all()
    assert not replay(table, np.full(20, k), each).charged.any()
    with pytest.raises(ValueError, match="must have every turn's cell; got"):
        replay(log(2, 5), np.full(20, k), each)


def test_prices_meet_the_pool_and_choices_follow_them():
    quality = np.tile(np.linspace(0.3, 0.9, K), (4, 1))
    tokens = np.tile(np.linspace(0.2, 1.2, K), (4, 1))
    last = np.flatnonzero(MENU)[-1]
    assert (choose.best_cell(quality, tokens, 0.0) == last).all()
    assert (choose.best_cell(quality, tokens, 3.0) == 0).all()
    at = choose.best_cell(quality, tokens, 0.9, floor=0.6)
    assert (quality[0, at] >= 0.55).all() and (choose.best_cell(quality, tokens, 0.9) == 0).all()
    assert (tokens[0, choose.capped_cell(quality, tokens, 0.6)] <= 0.6).all()
    assert (choose.capped_cell(quality, tokens, 0.1) == 0).all()
    used = lambda price: 1 / (1 + price)
    assert choose.least_price(used, 0.5, 10.0) == pytest.approx(1.0, abs=1e-6)
    assert choose.least_price(used, 1.0, 10.0) == 0.0


def test_frozen_arms_come_back_as_they_were(known):
    _, policies, table = known
    again = arms.restore(json.loads(json.dumps(plain(policies))))
    assert again.digest() == policies.digest()
    for load in arms.LOADS:
        chosen, other = policies.choose(table, load), again.choose(table, load)
        assert all((chosen[name] == other[name]).all() for name in chosen)
    needed = arms.needed_cells(policies, table)
    direct = policies.choose(table, 14)["direct"]
    assert all(CHEAPEST in row and k in row for row, k in zip(needed, direct))


def test_predictors_are_free_and_their_ablation_is_concave():
    table = log(12, 6, tried=K)
    fitted = fit_predictor(table, text=True, seed=0, penalty=(3.0, 3.0))
    quality, tokens = fitted(table)
    assert log_loss(table, quality) < 0.3 and np.abs(tokens - table.tokens).mean() < 15
    assert PSI.shape[0] == K and np.linalg.matrix_rank(PSI) == K
    crossed = cross_fitted(table, text=True, seed=0, penalty=(3.0, 3.0))[0]
    assert log_loss(table, crossed) > log_loss(table, quality), "other sessions' turns are harder"
    dent = np.full((1, K), 0.5)
    dent[0, CELLS.index((0.25, 0.0, 0.0))] = 0.1
    flat = concave(dent)[0]
    rows = [CELLS.index((c, 0.0, 0.0)) for c in (0.0, 0.25, 0.5, 0.75)]
    assert (np.diff(flat[rows], 2) <= 1e-8).all() and (np.diff(dent[0, rows], 2) > 0).any()


class Scripted(Executor):
    """Answers without a model."""

    def __init__(self):
        pytest.importorskip("openai")
        super().__init__("http://127.0.0.1:9/v1", model="scripted", adapter="3")

    def run_turn(self, question, task, action, **context):
        done = executed_action(action, self.adapter)
        return TurnOutcome("Rome", done, 90, 3, 0.1, 0, None, False, ("Rome",))


def test_confirmatory_turns_are_taken_under_the_arms_cells_and_no_others(known, tmp_path):
    _, policies, _ = known
    sessions = [make_research_session(5, index) for index in range(2)]
    with TurnLog(tmp_path / "log.jsonl") as file:
        cells_of = main_part.cells_of_arms(policies)
        take.take_sessions(Scripted(), sessions, file, cells_of=cells_of)
    table = table_of(read_log(tmp_path / "log.jsonl").records)
    before = [main_part.table_of_session(session) for session in sessions]
    for name in ("turn", "task", "length", "text", "numbers"):
        planned = np.concatenate([getattr(part, name) for part in before])
        np.testing.assert_array_equal(getattr(table, name), planned)
    needed = arms.needed_cells(policies, table)
    assert [np.flatnonzero(row).tolist() for row in table.seen] == needed
    assert max(map(len, needed)) < K
    plays = analysis.play_all(table, policies)  # raises where an arm's cell was not taken
    assert set(plays) >= {"main", "direct", "constant price", "cap", "planner"}


def test_arms_are_frozen_once(known, tmp_path, monkeypatch):
    tuned, policies, _ = known
    monkeypatch.setattr(main_part, "tune", lambda records, seed: tuned)
    monkeypatch.setattr(main_part, "freeze", lambda tuning, seed: policies)
    made, target = tmp_path / "tune.jsonl", tmp_path / "policies.json.gz"
    made.write_text("")
    first = main_part.freeze_file(made, target, seed=0)
    assert main_part.read_frozen(target).digest() == policies.digest()
    monkeypatch.setattr(main_part, "freeze", None)
    assert main_part.freeze_file(made, target, seed=0) == first, "not written again"
    made.write_text("\n")
    with pytest.raises(ValueError, match="must be of the log tune.jsonl; got one of another"):
        main_part.freeze_file(made, target, seed=0)


def test_a_factor_compares_within_turns():
    """Harder turns use more tokens and are right less often; within a turn tokens help by half."""
    rng = np.random.default_rng(0)
    row = np.repeat(np.arange(400), 5)
    hard = rng.random(400)[row]
    worth = 0.6 * hard + 0.4 * rng.random(len(row))
    right = (rng.random(len(row)) < 0.9 - 1.3 * 0.6 * hard + 0.5 * (worth - 0.6 * hard)).astype(
        float
    )
    kind = (row >= 200).astype(int)
    found = demand.judged(worth, right, kind, row)
    assert found[:2] == pytest.approx([0.5, 0.5], abs=0.35) and (found[2:] == 1).all()
    slope = np.polyfit(worth, right, 1)[0]
    assert slope < 0, "what a comparison between turns would say"


def test_the_leader_as_arrays_says_what_its_network_says():
    table = log(3, 7)
    leader = PoolLeader(rngs=nnx.Rngs(3))
    said = demand.signals(demand.arrays_of(leader), table, 8)
    states = demand.states_of(table, 8)
    np.testing.assert_allclose(said, jax.vmap(leader)(states), atol=1e-5)
    other = demand.signals(demand.arrays_of(leader), table, 2)
    assert np.abs(said - other).max() > 1e-3, "the load is read"


def test_what_the_leader_sees_is_what_was_tried(known):
    tuned, _, _ = known
    play = demand.observed_play(tuned, 160.0, seed=0)
    row, price = play["row"], 3 * (1 - play["signal"][:, 1])
    cells = choose.best_cell(
        tuned.quality[row], tuned.tokens[row] / 160.0, price, play["signal"][:, 0]
    )
    assert tuned.table.seen[row, cells].all()
    np.testing.assert_allclose(play["tokens"], tuned.table.tokens[row, cells] / 160.0)
    np.testing.assert_array_equal(play["right"], tuned.table.correct[row, cells])
    share = len(row) / (len(tuned.table) * demand.SIGNALS)
    assert share == pytest.approx(5 / K, abs=0.05)
    assert np.corrcoef(price, play["tokens"])[0, 1] < -0.2, "dear tokens are used less"
