"""Rows of an embedding that wait end where Adam's steps of all rows end."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct
from hypothesis import given
from hypothesis import strategies as st

from experiments.variants import load_config
from research.data.batches import epoch_order, gather
from research.models import build
from research.runs.texts import RunSpec, prepare_texts
from research.training import waiting_rows
from research.training.initial_state import Start, init_state
from research.training.loop import of_run, stack
from research.training.optimizers import ADAM_B1, ADAM_B2, ADAM_EPSILON
from research.training.programs import programs_for
from research.training.step import pad_texts


@struct.dataclass
class _Rates:
    learning_rate: jax.Array


@struct.dataclass
class _State:
    """What `waiting_rows` reads of a state."""

    step: jax.Array
    rates: _Rates
    num_steps: jax.Array
    params: dict
    opt_state: tuple


WAIT = ("lstm", "cnn:rand", "mlp", "transformer:pre", "lstm:variational")
DO_NOT_WAIT = ("article", "cnn:static", "cnn:multichannel", "bert:tiny", "linear")


@pytest.mark.accelerator
@pytest.mark.parametrize("name", WAIT)
def test_a_call_takes_the_steps_of_adam(name, small_corpus):
    """Against single steps, which move all rows, with a schedule and behind a thousand steps that set the moments."""
    settings = ("--config.optimizer.schedule=cosine", "--config.optimizer.warmup=0.1", "--config.data.vocab_size=3000")
    config = load_config(name, settings)
    prepared = prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))
    programs, widths = programs_for(config, 2), (16, prepared.shapes.widths[-1])
    state = init_state(programs, config, prepared.train, widths, Start(num_steps=1100))
    state = jax.tree.map(np.array, state.replace(step=np.int32(1000)))
    noise = [np.random.default_rng(0).normal(size=leaf.shape) for leaf in jax.tree.leaves(state.params)]
    noise = jax.tree.unflatten(jax.tree.structure(state.params), noise)
    m = jax.tree.map(lambda leaf: np.float32(1e-3 * leaf), noise)
    v = jax.tree.map(lambda leaf: np.float32(1e-6 * (1 + leaf**2)), noise)
    state = state.replace(opt_state=optax.tree_utils.tree_set(state.opt_state, mu=m, nu=v, count=np.int32(1000)))

    order = epoch_order(prepared.train.lengths, 8, 0, 0)[:10]
    index, width = np.full((1, 12, 8), -1, np.int32), np.full(12, -1, np.int32)
    for step, texts in enumerate(order):
        index[0, step, : len(texts)] = texts
        width[step] = prepared.train.lengths[texts].max() > 16
    assert set(width[:10]) == {0, 1}
    texts = stack([pad_texts(prepared.train, prepared.shapes.capacity)])
    states, _ = programs.train_steps(stack([state]), texts, index, width, widths=widths)
    found = of_run(states, 0)

    expected = jax.tree.map(jnp.array, state)
    for texts in order:
        expected, _ = programs.train(expected, gather(prepared.train, texts, 8, widths[-1:]))
    assert waiting_rows.can_wait(config, programs.module)
    assert found.step == expected.step == 1010
    for one, other in zip(jax.tree.leaves(found.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)
    for one, other in zip(jax.tree.leaves(found.opt_state), jax.tree.leaves(expected.opt_state), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-8)


@given(
    st.integers(0, 5000),
    st.lists(st.booleans(), min_size=1, max_size=16),
    st.floats(-8, 0),
    st.floats(-3, 3),
)
def test_a_row_that_waited_is_where_adam_would_have_moved_it(first, reads, log_scale, ratio):
    """A row of one number: it is read in some steps and waits in others. `ratio` is m / sqrt(v)."""
    config = load_config("lstm", ["--config.model.embedding_size=1", "--config.data.vocab_size=3"])
    optimizer = optax.scale_by_adam(ADAM_B1, ADAM_B2, ADAM_EPSILON)
    scale = 10.0**log_scale

    def tree(value):
        return {"embedding": {"embedding": jnp.full((3, 1), value, jnp.float32)}}

    adam = optax.ScaleByAdamState(jnp.int32(first), tree(ratio * scale), tree(scale**2))
    state = _State(jnp.int32(first), _Rates(jnp.float32(1e-3)), jnp.float32(1.0), tree(0.0), (adam,))
    waiting = waiting_rows.begin(config.optimizer, state, 16)
    exact, exact_adam, gradient = 0.0, adam, tree(0.3 * scale)
    for is_read in reads:
        updates, exact_adam = optimizer.update(gradient if is_read else tree(0.0), exact_adam)
        exact -= 1e-3 * float(updates["embedding"]["embedding"][2, 0])
        if is_read:
            few, ids, owners = waiting_rows.read(state, waiting, jnp.array([[2, 2]]))
            assert ids.tolist() == [[1, 1]] and owners.tolist() == [3, 2]
            moved, opt_state = optimizer.update(
                {"embedding": {"embedding": jnp.array([[0.0], [0.3 * scale]], jnp.float32)}}, few.opt_state[0]
            )
            params = jax.tree.map(lambda p, u: p - 1e-3 * u, few.params, moved)
            few = few.replace(step=few.step + 1, params=params, opt_state=(opt_state,))
            state, waiting = waiting_rows.write(state, waiting, few, owners)
        else:
            counted = state.opt_state[0]._replace(count=state.opt_state[0].count + 1)
            state = state.replace(step=state.step + 1, opt_state=(counted,))
    state = waiting_rows.end(state, waiting)
    # Where epsilon is as large as sqrt(v), r_i is taken for a constant: 2 % of the largest move after few steps.
    tolerance = 1e-6 + (2e-2 if first < 1000 else 1e-3) * 1e-3 * abs(ratio)
    assert float(state.params["embedding"]["embedding"][2, 0]) == pytest.approx(exact, abs=tolerance)
    after = state.opt_state[0]
    assert float(after.mu["embedding"]["embedding"][2, 0]) == pytest.approx(
        float(exact_adam.mu["embedding"]["embedding"][2, 0]), rel=1e-4, abs=1e-30
    )
    assert float(after.nu["embedding"]["embedding"][2, 0]) == pytest.approx(
        float(exact_adam.nu["embedding"]["embedding"][2, 0]), rel=1e-4, abs=1e-30
    )


@pytest.mark.parametrize("name", DO_NOT_WAIT)
def test_rows_of_a_model_that_reads_them_otherwise_do_not_wait(name):
    config = load_config(name)
    assert not waiting_rows.can_wait(config, build(config.model, vocab_size=config.data.vocab_size, num_outputs=1))


@pytest.mark.parametrize(
    "setting",
    [
        "optimizer.name=adamw",
        "optimizer.weight_decay=0.1",
        "optimizer.frozen=1",
        "optimizer.layer_decay=0.5",
        "training.l2=1",
    ],
)
def test_rows_that_move_by_more_than_adam_do_not_wait(setting):
    config = load_config("lstm", [f"--config.{setting}"])
    assert not waiting_rows.can_wait(config, build(config.model, vocab_size=10_000, num_outputs=1))
