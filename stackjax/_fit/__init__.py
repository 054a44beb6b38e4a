"""Learning: a follower from observed play, and a leader's policy through its best response.

Every fit is deterministic for a key, and can itself be `jax.jit`ted or `jax.vmap`ped (over keys,
say) when no progress bar, callback or checkpoint is asked for.
"""

from stackjax._fit.follower import Observations, fit_follower
from stackjax._fit.leader import fit_leader
from stackjax._fit.training import History

__all__ = ["History", "Observations", "fit_follower", "fit_leader"]
