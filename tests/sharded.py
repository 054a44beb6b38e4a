"""Run by `test_devices`: a batch over eight devices, and a training step over two processes."""

import contextlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import stackjax as sj

CONTEXTS, DEVICES = 1024, 8
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def leader_utility(action, response, x):
    return jnp.sum(jnp.log1p(4 * response)) - 0.1 * action @ action - x @ response


def follower_utility(action, response, x):
    gain = jax.nn.softplus(4 * (action[0] - jnp.sum(jnp.log1p(response)))) / 4
    return jnp.log1p(x @ response) - gain - (1 - action[1]) * jnp.sum(response**2)


game = sj.Game(leader_utility, follower_utility, response_set=sj.Box(0.0, 1.0))


def total(action, x):
    """The leader's utility; its gradient goes through the best response."""
    answer = sj.best_response(game, action, x, response=jnp.full(3, 0.5))
    return leader_utility(action, answer.value, x), answer.converged


batched = jax.vmap(jax.value_and_grad(total, has_aux=True))


def plays():
    keys = jax.random.split(jax.random.key(0))
    return (
        jax.random.uniform(keys[0], (CONTEXTS, 2), minval=0.1, maxval=0.8),
        jax.random.uniform(keys[1], (CONTEXTS, 3), minval=0.1, maxval=3.0),
    )


def eight_devices():
    mesh = jax.make_mesh((DEVICES,), ("contexts",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("contexts")
    arrays = jax.device_put(plays(), NamedSharding(mesh, rows))
    spread = jax.shard_map(
        batched, mesh=mesh, in_specs=(rows, rows), out_specs=rows, check_vma=False
    )
    sharded = jax.jit(spread)
    compiled = sharded.lower(*arrays).compile()
    text = compiled.as_text() or ""
    found = [word for word in COLLECTIVES if word in text]
    assert text
    assert not found, f"the solve talks to other devices: {found}"
    (value, converged), slope = compiled(*arrays)
    assert len(slope.sharding.device_set) == DEVICES
    (wanted, _), wanted_slope = jax.jit(batched)(*plays())
    assert bool(converged.all())
    np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slope, wanted_slope, rtol=1e-4, atol=1e-5)
    # without shard_map too: the compiler then places some collectives of its own
    (value, _), slope = jax.jit(batched)(*arrays)
    np.testing.assert_allclose(slope, wanted_slope, rtol=1e-4, atol=1e-5)


def loss(arrays, structure, x):
    policy = nnx.merge(structure, arrays)
    value, converged = jax.vmap(lambda x: total(nnx.sigmoid(policy(x)), x))(x)
    return -jnp.sum(value * converged)


def two_processes(rank, address):
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, num_processes=2, process_id=rank)
    structure, arrays = nnx.split(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    _, x = plays()
    alone = jax.jit(lambda arrays: jax.grad(loss)(arrays, structure, x))(arrays)

    mesh = jax.make_mesh((jax.device_count(),), ("contexts",), axis_types=(AxisType.Auto,))
    rows, all_ = PartitionSpec("contexts"), PartitionSpec()
    mine = np.split(np.asarray(x), 2)[rank]
    contexts = jax.make_array_from_process_local_data(NamedSharding(mesh, rows), mine)

    def step(arrays, x):
        return jax.lax.psum(jax.grad(loss)(arrays, structure, x), "contexts")

    spread = jax.shard_map(step, mesh=mesh, in_specs=(all_, rows), out_specs=all_, check_vma=False)
    together = jax.jit(spread)
    slope = together(jax.device_put(arrays, NamedSharding(mesh, all_)), contexts)
    assert len(jax.local_devices()) == 1 and jax.process_count() == 2
    for one, both in zip(jax.tree.leaves(alone), jax.tree.leaves(slope)):
        np.testing.assert_allclose(both.addressable_data(0), one, rtol=1e-4, atol=1e-3)


def programs():
    """Of actions and contexts; what a user would write, without `shard_map`."""
    shares = sj.Game(leader_utility, follower_utility, response_set=sj.Simplex())
    led = sj.Game(
        leader_utility,
        follower_utility,
        action_set=sj.Box(0.1, 0.9),
        response_set=sj.Box(0.0, 1.0),
    )

    def respond(game, start):
        answer = lambda a, x: sj.best_response(game, a, x, response=jnp.full(3, start)).value
        return jax.jit(jax.vmap(answer))

    def solve(action, x):
        return sj.solve(led, action=action, response=jnp.full(3, 0.5), context=x).action

    def fit(_, x):
        options = {"response": jnp.full(3, 0.5), "key": jax.random.key(0), "steps": 5}
        return sj.fit_leader(Policy(), led, x, **options, batch_size=64)[1].utility

    return {
        "box": respond(game, 0.5),
        "simplex": respond(shares, 1 / 3),
        "solve": jax.jit(jax.vmap(solve)),
        "fit": fit,
    }


class Policy(nnx.Module):
    def __init__(self):
        self.linear = nnx.Linear(3, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return nnx.sigmoid(self.linear(x))


def meshes():
    """With and without `jax.set_mesh`: the same numbers, or an error that names the right mesh."""
    plain = jax.tree.map(lambda x: x[:64], plays())
    wanted = {name: program(*plain) for name, program in programs().items()}
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(kind,))
        arrays = jax.device_put(plain, NamedSharding(mesh, PartitionSpec("x")))
        for entered in (False, True):
            for name, program in programs().items():
                with jax.set_mesh(mesh) if entered else contextlib.nullcontext():
                    if kind == AxisType.Auto:
                        if entered and name != "box":  # each compiles anew
                            continue
                        found = program(*arrays)
                        np.testing.assert_allclose(found, wanted[name], rtol=1e-4, atol=1e-5)
                        continue
                    try:
                        program(*arrays)
                    except ValueError as error:
                        assert "'x' of a mesh with Explicit axes" in str(error), error
                        assert "axis_types=(jax.sharding.AxisType.Auto,)" in str(error), error
                    else:
                        raise AssertionError(f"{name}: no error on explicit axes")


if __name__ == "__main__":
    if sys.argv[1] == "devices":
        eight_devices()
    elif sys.argv[1] == "meshes":
        meshes()
    else:
        two_processes(int(sys.argv[2]), sys.argv[3])
    print("the same")
