import dataclasses
import json
import shutil
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recording_upstream import calibration, controller
from synthetic_turns import synthetic_log

from stackjax.agents.game._payoffs import Weights, resource_game
from stackjax.agents.game._state import FIELDS, state_of
from stackjax.agents.log._turns import turn_arrays
from stackjax.runtime import (
    ChatAdapter,
    Governor,
    Limits,
    Policy,
    PolicyMismatch,
    Rollout,
    Usage,
    fingerprint_of,
    load_policy,
    measure_residuals,
    recalibrated,
    save_policy,
)
from stackjax.runtime.gateway._identify import identify_session
from stackjax.runtime.policy._store import PARTS, digest_of
from stackjax.runtime.policy._structure import build, describe

NUMBERS = {
    "task_complexity": 0.4, "context_tokens": 120.0, "turn_index": 2.0, "mean_tokens": 150.0,
    "recent_quality": 0.6, "token_trend": 0.1, "model_condition": 0.9, "budget": 0.7,
}  # fmt: skip


@pytest.fixture(scope="module")
def policy():
    return Policy(controller(), calibration())


@pytest.fixture(scope="module")
def saved(policy, tmp_path_factory):
    return save_policy(policy, tmp_path_factory.mktemp("policies") / "p")


def test_a_policy_is_its_controller_and_is_traced_once(policy):
    decide = jax.jit(policy.controller.__call__)
    for task, previous in (("simple_qa", (0.7, 0.4)), ("code_generation", (0.9, 1.0))):
        found = policy.recommend(NUMBERS, task, previous)
        state = state_of(NUMBERS, task)
        made = decide(state, jnp.asarray(previous, jnp.float32))
        np.testing.assert_allclose(found.signal, made.action, rtol=1e-5)
        np.testing.assert_allclose(found.response, made.response)
        quality, tokens = policy.controller.surrogate.predict(state, made.response)
        np.testing.assert_allclose((found.quality, found.tokens), (quality, tokens), rtol=1e-4)
        assert found.finite and found.converged == bool(made.converged)
    for number in range(20):
        policy.recommend({**NUMBERS, "turn_index": number}, "casual_chat", (0.8, 0.5))
    assert policy.traces == 1
    with pytest.raises(ValueError, match="poetry"):
        policy.recommend(NUMBERS, "poetry", (0.8, 0.5))
    with pytest.raises(KeyError, match="budget"):
        policy.recommend({k: v for k, v in NUMBERS.items() if k != "budget"}, "simple_qa", (1, 1))


def test_a_nan_in_a_feature_is_no_recommendation_to_follow(policy):
    found = policy.recommend({**NUMBERS, "budget": np.nan}, "simple_qa", (0.8, 0.5))
    assert not found.finite or not found.converged


def test_without_a_complexity_only_what_is_allowed_at_either_is_advised():
    """The sets of one task: (0, 0, 0) and (1, 0, 0) if simple, (0, 0, 1) and (1, 0, 0) if not."""
    made = controller()
    reference = jnp.asarray(made.reference)
    simple, shared, demanding = jnp.zeros(3), jnp.eye(3)[0], jnp.eye(3)[2]
    rows = lambda *some: jnp.stack([*some, reference])
    pair = jnp.stack([rows(simple, shared), rows(demanding, shared)])
    made = made.replace(actions=made.actions.replace(actions=jnp.tile(pair, (6, 1, 1))))
    policy = Policy(made, calibration())
    allowed = {tuple(np.asarray(shared)), tuple(np.asarray(reference))}
    for quality in np.linspace(0, 1, 6):
        for budget in np.linspace(-0.5, 1, 6):
            told = NUMBERS | {"recent_quality": quality, "budget": budget}
            found = policy.recommend(told | {"task_complexity": np.nan}, "simple_qa", (0.8, 0.5))
            assert found.finite and found.response in allowed
            middle = policy.recommend(told | {"task_complexity": 0.5}, "simple_qa", (0.8, 0.5))
            assert middle.signal == found.signal
            assert middle.reference_tokens == found.reference_tokens
    assert policy.traces == 1
    unknown = NUMBERS | {"task_complexity": np.nan}
    assert "task_complexity" not in calibration().outside(unknown, 0.0)
    body = {"messages": [{"role": "user", "content": "How many words are in this?"}]}
    with Governor(policy, rollout=Rollout("on"), limits=Limits(deadline=60.0, slack=1e9)) as one:
        made_decision = one.decide(identify_session(body, {}))
        assert made_decision.fallback is None and made_decision.response in allowed
        one.observe(made_decision, Usage(30, 10))
        (account,) = one.ledger._accounts.values()
        assert account.latest is not None
        assert account.latest.state["task_complexity"] == 0.5
        assert account.latest.extra["complexity_known"] is False


def test_what_is_saved_is_loaded_bit_for_bit(policy, saved):
    again = load_policy(saved, expect=policy.fingerprint)
    assert again.fingerprint == policy.fingerprint and set(again.fingerprint) == set(PARTS)
    assert again.calibration == policy.calibration
    one, other = (p.recommend(NUMBERS, "simple_qa", (0.8, 0.5)) for p in (policy, again))
    assert one == other
    assert sorted(p.name for p in saved.iterdir()) == ["arrays.npz", "policy.json"]


@pytest.mark.parametrize("part", ["leader", "surrogate", "follower", "actions"])
def test_a_changed_part_is_named(saved, tmp_path, part):
    folder = shutil.copytree(saved, tmp_path / "p")
    with np.load(folder / "arrays.npz") as arrays:
        data = dict(arrays)
    name = next(name for name in data if name.startswith(part))
    data[name] = data[name] + 1e-3
    np.savez(folder / "arrays.npz", **data)
    with pytest.raises(PolicyMismatch, match=f"{part} is") as caught:
        load_policy(folder)
    assert caught.value.parts == (part,)


def test_mismatches_of_the_manifest_are_named(policy, saved, tmp_path):
    manifest = json.loads((saved / "policy.json").read_text())

    def changed(**changes):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(saved, folder)
        (folder / "policy.json").write_text(json.dumps({**manifest, **changes}))
        return folder

    stale = {**manifest["calibration"], "token_mean": 1.0}
    with pytest.raises(PolicyMismatch, match="calibration is"):
        load_policy(changed(calibration=stale))
    with pytest.raises(PolicyMismatch, match="the adapter must be .*; got 'chat-0'"):
        load_policy(changed(adapter="chat-0"))
    with pytest.raises(PolicyMismatch, match="the format must be .*; got 9"):
        load_policy(changed(format=9))
    with pytest.raises(PolicyMismatch, match="follower") as caught:
        load_policy(saved, expect={"follower": "0" * 64, "leader": policy.fingerprint["leader"]})
    assert caught.value.parts == ("follower",)
    other = {**manifest["structure"], "leader": {"kind": "Leader", "inputs": 14, "hidden": 5}}
    with pytest.raises(PolicyMismatch, match="shape"):
        load_policy(changed(structure=other))
    rational = {**manifest["structure"]}
    rational["follower"] = {**rational["follower"], "kind": "rational"}
    with pytest.raises(PolicyMismatch, match="the arrays of follower must be"):
        load_policy(changed(structure=rational))
    for wrong in ({"structure": {}}, {"structure": 3}, {"calibration": {}}, {"fingerprint": None}):
        with pytest.raises(ValueError, match="polic|manifest|controller"):
            load_policy(changed(**wrong))
    with pytest.raises(ValueError, match="`expect` must name parts"):
        load_policy(saved, expect={"soul": "0"})
    with pytest.raises(FileNotFoundError, match="must hold a policy; got .* without policy.json"):
        load_policy(tmp_path / "absent")


def test_sizes_are_checked_before_anything_is_built(saved, tmp_path, monkeypatch):
    """A forged manifest could ask for 10^9 hidden units, and a manifest of any length be read."""
    manifest = json.loads((saved / "policy.json").read_text())

    def built(structure):
        raise AssertionError("nothing may be built of these sizes")

    monkeypatch.setattr("stackjax.runtime.policy._store.build", built)
    for part, change in (
        ("leader", {"hidden": 10**9}),
        ("leader", {"hidden": -4}),
        ("leader", {"inputs": 10**9}),
        ("leader", {"hidden": 1e9}),
        ("surrogate", {"quality": {"hidden": 10**5, "members": 10**5}}),
        ("follower", {"hidden": 10**12}),
        ("actions", {"shape": [12, 10**9, 3]}),
    ):
        folder = shutil.copytree(saved, tmp_path / str(len(list(tmp_path.iterdir()))))
        told = {**manifest["structure"], part: {**manifest["structure"][part], **change}}
        (folder / "policy.json").write_text(json.dumps({**manifest, "structure": told}))
        with pytest.raises(ValueError, match=f"size.*{part}"):
            load_policy(folder)
    folder = shutil.copytree(saved, tmp_path / "long")
    (folder / "policy.json").write_text(json.dumps({**manifest, "note": "x" * (1 << 20)}))
    with pytest.raises(ValueError, match="at most 1048576 bytes"):
        load_policy(folder)
    (folder / "policy.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="not a policy"):
        load_policy(folder)


def test_one_digest_covers_every_part(policy, saved):
    digest = digest_of(policy.fingerprint)
    assert load_policy(saved, expect=digest[:12].upper()).fingerprint == policy.fingerprint
    for part in PARTS:
        assert digest_of({**policy.fingerprint, part: "0" * 64}) != digest
    for wrong in (policy.fingerprint["leader"][:12], ""):
        with pytest.raises(PolicyMismatch, match="`expect` must begin the digest of all parts"):
            load_policy(saved, expect=wrong)


def test_another_adapter_is_refused_by_the_loader_and_by_the_governor(saved):
    class Other(ChatAdapter):
        @property
        def version(self):
            return "mine-3"

    with pytest.raises(PolicyMismatch, match=r"the adapter must be 'mine-3'; got 'chat-\d'"):
        load_policy(saved, adapter="mine-3")
    with pytest.raises(PolicyMismatch, match="`adapter` must be that of the policy.*mine-3"):
        Governor(load_policy(saved), adapter=Other())


def test_pickled_arrays_are_refused(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "p")
    with np.load(folder / "arrays.npz") as arrays:
        data = dict(arrays)
    name = next(iter(data))
    data[name] = np.array([object()], dtype=object)
    np.savez(folder / "arrays.npz", **data)
    with pytest.raises(ValueError, match="allow_pickle"):
        load_policy(folder)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" * 9])
def test_a_damaged_file_is_named(saved, tmp_path, damage):
    folder = shutil.copytree(saved, tmp_path / "p")
    path = folder / "arrays.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PolicyMismatch, match="arrays.npz: damaged"):
        load_policy(folder)


def test_a_turn_that_nobody_rated_is_not_wrong(policy):
    rows = synthetic_log(1, random=12, heuristic=0, factorial=0)
    told = [1.0 if i % 3 == 0 else None for i in range(len(rows))]
    rows = [
        dataclasses.replace(r, design="runtime", correct=False, fallback=None,
                            extra={"exact_tokens": i != 1, "quality": q})
        for i, (r, q) in enumerate(zip(rows, told))
    ]  # fmt: skip
    rows[2] = dataclasses.replace(rows[2], fallback="disconnected")
    rows[4] = dataclasses.replace(rows[4], state={})
    again = recalibrated(policy, rows)
    assert again._program is policy._program, "nothing is compiled again"
    found = again.calibration
    kept = [r for i, r in enumerate(rows) if i not in (1, 2, 4)]
    assert found.turns == len(kept)
    turns = turn_arrays([r for r in kept if r.extra["quality"] is not None])
    quality, _ = jax.vmap(policy.controller.surrogate.predict)(turns.state, turns.executed)
    assert found.quality_mean == pytest.approx(float((1.0 - quality).mean()), abs=1e-5)
    bare = [dataclasses.replace(r, extra={**r.extra, "quality": None}) for r in rows]
    unrated = recalibrated(policy, bare).calibration
    assert (unrated.rated, unrated.quality_mean) == (0, 0.0), "ratings are optional"
    assert unrated.token_mean == found.token_mean and unrated.turns == found.turns
    with pytest.raises(TypeError, match="got Turns"):
        recalibrated(policy, turns)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="of a runtime"):
        recalibrated(policy, synthetic_log(1, random=2, heuristic=0, factorial=0))
    with pytest.raises(ValueError, match="`records` must hold at least 2 complete turns"):
        recalibrated(policy, [])


def test_structures_are_described_and_built():
    for made in (controller(), controller(learned=False)):
        structure = json.loads(json.dumps(describe(made)))
        assert jax.tree.structure(build(structure)) == jax.tree.structure(made)
        assert [x.shape for x in jax.tree.leaves(build(structure))] == [
            x.shape for x in jax.tree.leaves(made)
        ]
    weighted = controller(learned=False).replace(game=resource_game(weights=Weights(savings=2.0)))
    assert describe(weighted)["follower"]["weights"]["savings"] == 2.0
    a, b = (fingerprint_of(c, calibration(time="2026-01-01T00:00:00+00:00"))
            for c in (controller(learned=False), weighted))  # fmt: skip
    assert [name for name in PARTS if a[name] != b[name]] == ["follower"]
    strange = controller().replace(leader=lambda context: jnp.array([0.8, 0.5]))
    assert describe(strange)["leader"] == {"kind": "custom"}
    with pytest.raises(
        ValueError, match="`like` must be given for leader, not made of the library's modules"
    ):
        build(describe(strange))


def test_like_loads_what_is_not_the_librarys(tmp_path):
    made = controller(learned=False)
    custom = made.replace(leader=jax.tree_util.Partial(_constant, jnp.array([0.8, 0.25])))
    unsaved: Any = SimpleNamespace(controller=custom, calibration=calibration())
    folder = save_policy(unsaved, tmp_path / "p")
    blank = made.replace(leader=jax.tree_util.Partial(_constant, jnp.zeros(2)))
    assert load_policy(folder, like=blank).recommend(NUMBERS, "simple_qa", (0.8, 0.25)).signal == (
        pytest.approx((0.8, 0.25))
    )


def _constant(signal, context):
    return signal


def test_calibration_measures_residuals():
    turns = turn_arrays([r for r in synthetic_log(1, random=30, heuristic=0, factorial=0)])
    surrogate = controller().surrogate
    found = measure_residuals(surrogate, turns)
    quality, tokens = jax.vmap(surrogate.predict)(turns.state, turns.executed)
    ratio = np.log(np.asarray(turns.tokens) / np.maximum(np.asarray(tokens), 1.0))
    assert found.token_mean == pytest.approx(ratio.mean(), rel=1e-4)
    assert found.token_spread == pytest.approx(ratio.std(ddof=1), rel=1e-4)
    assert found.quality_mean == pytest.approx(
        float((np.asarray(turns.correct) - np.asarray(quality)).mean()), abs=1e-5
    )
    inside = {name: (lo + hi) / 2 for name, lo, hi in zip(FIELDS, found.low, found.high)}
    assert found.outside(inside, 0.0) == ()
    far = {**inside, "mean_tokens": found.high[3] + 1.5 * (found.high[3] - found.low[3])}
    assert found.outside(far, 1.0) == ("mean_tokens",) and found.outside(far, 2.0) == ()
    assert 0 <= found.age() < 60
    with pytest.raises(ValueError, match="at least 2"):
        measure_residuals(surrogate, jax.tree.map(lambda leaf: leaf[:1], turns))
    for wrong in ({"token_spread": 0.0}, {"low": (0.0,)}, {"time": "2026-01-01T00:00:00"},
                  {"token_mean": np.nan}, {"time": "yesterday"}):  # fmt: skip
        with pytest.raises(ValueError):
            calibration(**wrong)
