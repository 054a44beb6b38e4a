"""The status of a result: the word for what happened, and one line that can be read."""

import jax
import jax.numpy as jnp

import stackjax as sj

ONE = jnp.array(1.0)
DUOPOLY = sj.Game(lambda a, r, x: a * (x - a - r - 1), lambda a, r, x: r * (x - a - r - 1))


def nothing(action, response, context):
    return 0.0


def status_of(utility, start=ONE, response_set=None, **options):
    game = sj.Game(nothing, utility, response_set=response_set)
    answer = jax.jit(lambda r: sj.best_response(game, 1.0, None, response=r, **options))
    return answer(start).status


def test_words_of_a_response():
    assert status_of(lambda a, r, x: -((r - 2) ** 2)) == "converged"
    assert status_of(lambda a, r, x: 0.0 * r, response_set=sj.Box(0.0, 1.0)) == "several"
    assert status_of(lambda a, r, x: jnp.log(-1 - r**2)) == "not finite"
    assert status_of(lambda a, r, x: -jnp.abs(r - 1 / 3)) == "flat"
    steep = sj.Newton(max_steps=2)
    assert status_of(lambda a, r, x: r - jnp.exp(5 * r), jnp.array(9.0), solver=steep) == (
        "unfinished"
    )


def test_words_of_an_equilibrium():
    far, near = lambda a, r, x: (r[0] - r[1]) ** 2, lambda a, r, x: -((r[0] - r[1]) ** 2)
    game = sj.Game(nothing, (far, near), response_set=(sj.Box(-1.0, 1.0),) * 2)
    found = sj.best_response(game, None, None, response=(0.4, 0.4))
    assert found.status == "beaten" and "beaten: ask for" in str(found)


def test_words_of_a_solution():
    solve = lambda x: sj.solve(DUOPOLY, action=ONE, response=ONE, context=x)
    assert solve(13.0 * ONE).status == "converged"
    assert str(solve(13.0 * ONE)).endswith("): converged")
    lost = sj.Game(lambda a, r, x: -((a - r) ** 2), lambda a, r, x: -(jnp.abs(r - a) ** 1.0))
    failed = jax.jit(lambda a: sj.solve(lost, action=a, response=ONE, context=None))(ONE * 3)
    assert not failed.converged and failed.status != "converged"


def test_a_batch_is_counted():
    utility = lambda a, r, x: jnp.log(x) - (r - a) ** 2
    game = sj.Game(nothing, utility)
    answer = jax.vmap(lambda x: sj.best_response(game, 1.0, x, response=ONE))
    found = jax.jit(answer)(jnp.array([1.0, -1.0, 2.0]))
    assert found.status.tolist() == ["converged", "not finite", "converged"]
    line = str(found)
    assert "of 3, 2 converged; 1 not finite (start elsewhere" in line and "\n" not in line
    many = jax.jit(answer)(jnp.linspace(1.0, 2.0, 1000))
    assert len(str(many)) < 200 and "1000 converged" in str(many)


def test_every_word_has_advice_and_is_in_the_table():
    for status in sj.solvers.Status:
        assert status.advice and f"| '{status}' |" in (sj.solvers.Status.__doc__ or "")


def test_printing_a_traced_result_does_not_fail():
    printed = []
    jax.jit(lambda x: printed.append(str(sj.best_response(DUOPOLY, 6.0, x, response=ONE))))(13.0)
    assert "Response(" in printed[0] and "Tracer" in printed[0]
