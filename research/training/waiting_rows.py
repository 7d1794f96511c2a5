"""Let the rows of an embedding wait while no batch reads them, and give them later what Adam would have given them.

A batch reads some hundred of ten thousand rows. Adam (Kingma & Ba 2015) moves the others too, because their moments
m and v are not zero, and that takes longer than all else in a small model. A row whose gradient is zero in the steps
l < i <= t only forgets, so that its state after step t is known without taking the steps one by one:

    m_t = b1^(t-l) m_l,    v_t = b2^(t-l) v_l,    p_t = p_l - sum over i of rate_i m_i' / (sqrt(v_i') + eps)

with m_i' = b1^(i-l) m_l / (1 - b1^i) and v_i' = b2^(i-l) v_l / (1 - b2^i). With a_i and r_i for the factors of m_l and
of sqrt(v_l), and A = sum of rate_i a_i, B = sum of rate_i a_i / r_i, this is

    p_l - p_t = m_l A B / (A sqrt(v_l) + B eps)

which is exact for eps = 0, and where r_i does not change with i. r_i changes by less than one part in a thousand a step
after the first thousand steps. Rows wait at most until the end of a call of a compiled function. So a state that leaves
the function has no waiting rows.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from research.settings import Config, Optimizer
from research.training.optimizers import ADAM_B1, ADAM_B2, ADAM_EPSILON, rate_factor


class Rows(NamedTuple):
    """Rows of the embedding's table and of Adam's moments, float32 [N, E] each."""

    table: jax.Array
    m: jax.Array
    v: jax.Array


class Waiting(NamedTuple):
    """The rows that wait during a call of up to K steps."""

    first: jax.Array  # int32 [], steps before the call
    taken: jax.Array  # int32 [V], steps of the call that each row has taken
    a: jax.Array  # float32 [K + 1, K + 1], A for a row that has taken l steps and is to have taken t
    b: jax.Array  # float32 [K + 1, K + 1], B


def can_wait(config: Config, module: nn.Module) -> bool:
    """Return whether rows may wait: the model only looks tokens up, and a step is nothing but Adam."""
    optimizer, training = config.optimizer, config.training
    is_plain = optimizer.name == "adam" and not (optimizer.weight_decay or optimizer.frozen or training.l2)
    return is_plain and optimizer.layer_decay == 1 and getattr(module, "only_looks_up", False)


def begin(settings: Optimizer, state: Any, steps: int) -> Waiting:
    """Return what `read` and `write` need in a call of up to `steps` steps, K; no row waits.

    Args:
      settings: the optimizer's settings.
      state: the state before the call.
      steps: K.
    """
    before = state.step + jnp.arange(steps)[None, :]  # the steps before each step of the call, [1, K]
    waited = jnp.arange(1, steps + 1)[None, :] - jnp.arange(steps + 1)[:, None]  # [K + 1, K]
    forgets_m, forgets_v = (jnp.power(decay, jnp.maximum(waited, 0)) for decay in (ADAM_B1, ADAM_B2))
    counts = (before + 1).astype(jnp.float32)
    rate = state.rates.learning_rate * rate_factor(settings, before, state.num_steps)
    a = jnp.where(waited > 0, rate * forgets_m / (1.0 - jnp.power(ADAM_B1, counts)), 0.0)
    r = jnp.sqrt(forgets_v / (1.0 - jnp.power(ADAM_B2, counts)))
    sums = (jnp.pad(jnp.cumsum(terms, axis=1), ((0, 0), (1, 0))) for terms in (a, a / r))
    return Waiting(state.step, jnp.zeros(len(_rows_of(state).table), jnp.int32), *sums)


def read(state: Any, waiting: Waiting, token_ids: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
    """Return a state whose embedding has only the rows of a batch, which wait no more.

    Args:
      state: the state before the step.
      waiting: the rows that wait.
      token_ids: int32 [B, W].

    Returns:
      the state with N = B W rows; the token ids [B, W] of these rows; and for each the token that `write` gives it to,
      int32 [N], V for a row that another one repeats.
    """
    ids = token_ids.reshape(-1)
    number, vocab_size = jnp.arange(len(ids), dtype=jnp.int32), len(waiting.taken)
    last = jnp.zeros(vocab_size, jnp.int32).at[ids].max(number)[ids]  # where the token stands last in the batch
    rows = jax.tree.map(lambda leaf: leaf[ids], _rows_of(state))
    rows = _catch_up(rows, waiting, waiting.taken[ids], state.step)
    return _with_rows(state, rows), last.reshape(token_ids.shape), jnp.where(last == number, ids, vocab_size)


def write(state: Any, waiting: Waiting, after: Any, owners: jax.Array) -> tuple[Any, Waiting]:
    """Return the state after a step with all its rows, and the rows that wait now.

    Args:
      state: the state before the step.
      waiting: the rows that waited before it.
      after: what `read` returned, after the step.
      owners: int32 [N], as from `read`.
    """
    put = jax.tree.map(
        lambda leaf, rows: leaf.at[owners].set(rows, mode="drop", unique_indices=True),
        _rows_of(state),
        _rows_of(after),
    )
    taken = waiting.taken.at[owners].set(after.step - waiting.first, mode="drop", unique_indices=True)
    return _with_rows(after, put), waiting._replace(taken=taken)


def end(state: Any, waiting: Waiting) -> Any:
    """Return the state without waiting rows."""
    return _with_rows(state, _catch_up(_rows_of(state), waiting, waiting.taken, state.step))


def _catch_up(rows: Rows, waiting: Waiting, taken: jax.Array, step: jax.Array) -> Rows:
    """Return N rows that have taken `taken` int32 [N] steps of the call, as they are before this step."""
    steps = step - waiting.first
    a, b = waiting.a[taken, steps][:, None], waiting.b[taken, steps][:, None]
    waited = jnp.arange(len(waiting.a))
    divisor = a * jnp.sqrt(rows.v) + b * ADAM_EPSILON
    moved = rows.m * a * b / jnp.maximum(divisor, jnp.finfo(jnp.float32).tiny)
    forget_m, forget_v = (jnp.power(base, waited)[steps - taken][:, None] for base in (ADAM_B1, ADAM_B2))
    return Rows(rows.table - moved, rows.m * forget_m, rows.v * forget_v)


def _rows_of(state: Any) -> Rows:
    trees = state.params, *(optax.tree_utils.tree_get(state.opt_state, name) for name in ("mu", "nu"))
    return Rows(*(tree["embedding"]["embedding"] for tree in trees))


def _with_rows(state: Any, rows: Rows) -> Any:
    def put(tree: Any, leaf: jax.Array) -> Any:
        return tree | {"embedding": {"embedding": leaf}}

    mu, nu = (optax.tree_utils.tree_get(state.opt_state, name) for name in ("mu", "nu"))
    opt_state = optax.tree_utils.tree_set(state.opt_state, mu=put(mu, rows.m), nu=put(nu, rows.v))
    return state.replace(params=put(state.params, rows.table), opt_state=opt_state)
