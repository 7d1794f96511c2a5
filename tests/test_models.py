"""The contract that every variant in configs/ keeps, see research/models/__init__.py. New variants are found."""

import dataclasses
import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.variants import load_config
from research.data.batches import Batch, choose_widths, gather
from research.models import build
from research.models.kernels.options import Kernels
from research.runs.texts import RunSpec, prepare_texts
from research.settings import is_rate
from research.training.initial_state import Start, init_state
from research.training.metric_sums import summarise
from research.training.programs import Programs
from research.training.step import apply_in_dtype
from tests.variant_cases import PROBE, variant_cases

VOCAB_SIZE, LONGEST = 50, 12
LENGTHS = np.array([12, 5, 1, 0, 7, 12], np.int32)
# Fields of these names are made small, so that compiling and training a new variant takes seconds here.
SMALL = {"embedding_size": 6, "hidden_size": 8, "features": 4, "buckets": 64, "width": LONGEST, "heads": 2}
SMALL |= {"stages": (1, 1)}  # halves and doubles once, with a shortcut over it


def small_config(name):
    config = load_config(name)
    small = {field.name: SMALL[field.name] for field in dataclasses.fields(config.model) if field.name in SMALL}
    config.model = dataclasses.replace(config.model, **small)
    config.data.vocab_size = VOCAB_SIZE
    return config


@pytest.fixture(scope="module", params=variant_cases())
def variant(request):
    """A small module with random variables, compiled once: `(config, module, variables, apply)`."""
    config = small_config(request.param)
    module = build(config.model, vocab_size=VOCAB_SIZE, num_outputs=3)

    @jax.numpy_dtype_promotion("strict")
    def apply(variables, token_ids, lengths):
        return module.apply(variables, token_ids, lengths, deterministic=True)

    return config, module, random_variables(module, batch_of_ids(), LENGTHS), jax.jit(apply)


def random_variables(module, ids, lengths):
    """Random values, so that nothing cancels and word vectors make a difference. No initialisation is compiled."""
    random = np.random.default_rng(0)

    def drawn(path, leaf):
        spread = 0.5 if path[-1].key == "embedding" else 0.2
        return jnp.asarray((path[-1].key == "scale") + spread * random.standard_normal(leaf.shape, np.float32))

    shapes = jax.eval_shape(functools.partial(module.init, deterministic=True), jax.random.key(0), ids, lengths)
    return jax.tree_util.tree_map_with_path(drawn, shapes)


def batch_of_ids(width=LONGEST, seed=1):
    """int32 [6, width] with random tokens everywhere, padding too, because tokens there must not matter."""
    return np.random.default_rng(seed).integers(2, VOCAB_SIZE, (len(LENGTHS), width), dtype=np.int32)


def test_logits_have_a_column_a_class(variant):
    config, _, variables, apply = variant
    assert apply(variables, batch_of_ids(), LENGTHS).shape == (len(LENGTHS), 3)
    module = build(config.model, vocab_size=VOCAB_SIZE, num_outputs=1)
    shape = jax.eval_shape(
        lambda: module.init_with_output(jax.random.key(0), batch_of_ids(), LENGTHS, deterministic=True)
    )
    assert shape[0].shape == (len(LENGTHS), 1)
    assert shape[0].dtype == jnp.float32


def test_padding_changes_nothing(variant):
    _, _, variables, apply = variant
    ids = batch_of_ids()
    expected = apply(variables, ids, LENGTHS)
    wider = np.pad(ids, ((0, 0), (0, 9)), constant_values=7)
    remedy = "what looks at neighbours or sums over positions must leave out padding: see layers/masks.py"
    np.testing.assert_allclose(apply(variables, wider, LENGTHS), expected, rtol=1e-5, atol=1e-6, err_msg=remedy)
    other = np.where(np.arange(LONGEST)[None, :] < LENGTHS[:, None], ids, batch_of_ids(seed=2))
    np.testing.assert_allclose(apply(variables, other, LENGTHS), expected, rtol=1e-5, atol=1e-6, err_msg=remedy)


def test_padding_changes_no_dropout(variant):
    """A run that is trained beside others is padded to their width and must not differ from the run alone."""
    config, _, variables, _ = variant
    rates = {field.name: 0.5 for field in dataclasses.fields(config.model) if is_rate(field)}
    module = build(dataclasses.replace(config.model, **rates), vocab_size=VOCAB_SIZE, num_outputs=3)

    @jax.jit
    def apply(token_ids):
        rngs = {"dropout": jax.random.key(3)}
        return module.apply(variables, token_ids, LENGTHS, deterministic=False, rngs=rngs)

    expected = apply(batch_of_ids())
    wider = np.pad(batch_of_ids(), ((0, 0), (0, 9)), constant_values=7)
    remedy = "a mask must not depend on the padded width: see sequence_mask in layers/dropout.py"
    np.testing.assert_allclose(apply(wider), expected, rtol=1e-5, atol=1e-6, err_msg=remedy)


def test_the_other_texts_of_a_batch_change_nothing(variant):
    _, _, variables, apply = variant
    ids = batch_of_ids()
    expected = apply(variables, ids, LENGTHS)
    order = np.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_allclose(apply(variables, ids[order], LENGTHS[order]), expected[order], rtol=1e-5, atol=1e-6)
    alone = [apply(variables, ids[i : i + 1], LENGTHS[i : i + 1])[0] for i in range(len(ids))]
    np.testing.assert_allclose(np.stack(alone), expected, rtol=1e-5, atol=1e-6)


def test_the_text_matters(variant):
    _, _, variables, apply = variant
    difference = apply(variables, batch_of_ids(seed=1), LENGTHS) - apply(variables, batch_of_ids(seed=2), LENGTHS)
    difference = np.abs(difference).max(axis=1)
    assert (difference[LENGTHS > 0] > 1e-6).all()
    assert difference[LENGTHS == 0].max() == 0, "an empty text must not be read: see layers/masks.py"


def test_values_and_gradients_are_finite_and_every_parameter_has_one(variant):
    _, module, variables, _ = variant
    rest = {name: value for name, value in variables.items() if name != "params"}
    weights = jnp.arange(1.0, 19.0).reshape(6, 3)

    @jax.jit
    @jax.grad
    @jax.numpy_dtype_promotion("strict")
    def gradient(params, ids, lengths):
        logits = module.apply({"params": params, **rest}, ids, lengths, deterministic=True)
        return jnp.sum(jnp.tanh(logits) * weights)

    gradients = gradient(variables["params"], batch_of_ids(), LENGTHS)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), (
            f"{jax.tree_util.keystr(path)}: not finite; divide and exponentiate within masks"
        )
        assert np.abs(leaf).max() > 0, f"{jax.tree_util.keystr(path)}: no gradient reaches it; is it used?"
    for length in (0, 1):
        gradients = gradient(variables["params"], batch_of_ids(), np.full_like(LENGTHS, length))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_it_is_compiled_once_for_batches_of_a_shape(variant):
    _, module, variables, _ = variant
    traces = []

    @jax.jit
    def apply(variables, token_ids, lengths):
        traces.append(1)
        return module.apply(variables, token_ids, lengths, deterministic=True)

    apply(variables, batch_of_ids(), LENGTHS)
    apply(variables, batch_of_ids(seed=3), LENGTHS[::-1].copy())
    assert len(traces) == 1


@pytest.mark.accelerator
def test_runs_trained_together_compute_what_they_compute_alone(variant):
    _, _, variables, apply = variant
    other = jax.tree.map(lambda leaf: leaf * np.float32(0.5), variables)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), variables, other)
    ids = batch_of_ids()
    together = jax.jit(jax.vmap(apply, in_axes=(0, None, None)))(stacked, ids, LENGTHS)
    for logits, alone in zip(together, (variables, other), strict=True):
        np.testing.assert_allclose(logits, apply(alone, ids, LENGTHS), rtol=1e-4, atol=1e-5)


def test_bfloat16_compute_stays_close(variant):
    """bfloat16 has half the bits or fewer, so probabilities may move by a few hundredths and no more."""
    config, module, variables, apply = variant
    half = dataclasses.replace(config, training=dataclasses.replace(config.training, compute_dtype="bfloat16"))
    batch = Batch(batch_of_ids(), LENGTHS, np.zeros(len(LENGTHS), np.int32), np.ones(len(LENGTHS), np.float32))
    traced = jax.jit(functools.partial(apply_in_dtype, module, half)).trace(variables, batch)
    equations = list(every_equation(traced.jaxpr.jaxpr))
    # A silent promotion to float32 on the way would cost what bfloat16 saves.
    products = [e.outvars[0].aval.dtype for e in equations if e.primitive.name == "dot_general"]
    assert set(products) <= {jnp.dtype("bfloat16")}, "a constant or mask of float32 promotes: make it in values.dtype"
    logits = traced.lower().compile()(variables, batch)
    assert logits.dtype == jnp.float32
    expected = apply(variables, batch.token_ids, LENGTHS)
    assert np.abs(logits - expected).max() > 0
    np.testing.assert_allclose(jax.nn.softmax(logits), jax.nn.softmax(expected), atol=0.05)


def test_with_plain_kernels_every_loop_takes_a_known_number_of_steps(variant):
    """Counting FLOPs and exporting need that."""
    config, _, variables, _ = variant
    module = build(config.model, vocab_size=VOCAB_SIZE, num_outputs=3, kernels=Kernels(plain=True))
    apply = functools.partial(module.apply, deterministic=True)
    jaxpr = jax.make_jaxpr(apply)(variables, batch_of_ids(), LENGTHS).jaxpr
    primitives = {equation.primitive.name for equation in every_equation(jaxpr)}
    remedy = "a module with a recurrence has a field `kernels` and passes it to its layers: see models/memory.py"
    assert "while" not in primitives, remedy


def every_equation(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from every_equation(inner)


# A probe is not trained by steps, and 64 sentences need not be separable by the vectors of its encoder. The other forms
# of a module differ from its default in parts that the tests above look at.
@pytest.mark.parametrize("name", [case for case in variant_cases() if not case.marks and case.values != (PROBE,)])
def test_every_variant_learns_64_real_sentences_by_heart(name, small_corpus):
    """By the accuracy that the training steps report, with dropout."""
    config = load_config(name)
    small = {"embedding_size": 32, "hidden_size": 32, "features": 16}
    small = {field.name: small[field.name] for field in dataclasses.fields(config.model) if field.name in small}
    config.model = dataclasses.replace(config.model, **small)
    if config.optimizer.name == "adam":
        config.optimizer.learning_rate = 2e-3
    prepared = prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))
    texts = prepared.train
    index = np.arange(64)
    widths = choose_widths(texts.lengths[index], most=1)
    batch = gather(texts, index, 64, widths)
    programs = Programs(config, 2)
    state = init_state(programs, config, texts, widths, Start(num_steps=300))
    for _ in range(300):
        state, metrics = programs.train(state, batch)
        if summarise(metrics)["accuracy"] == 1.0:
            return
    pytest.fail(f"{name} should know 64 sentences by heart after 300 steps")


def test_attention_weights_can_be_read():
    config = small_config("luong:general")
    module = build(config.model, vocab_size=VOCAB_SIZE, num_outputs=1)
    variables = module.init(jax.random.key(0), batch_of_ids(), LENGTHS, deterministic=True)
    _, sown = module.apply(variables, batch_of_ids(), LENGTHS, deterministic=True, mutable="intermediates")
    weights = np.asarray(sown["intermediates"]["attention_weights"][0])
    assert weights.shape == (len(LENGTHS), LONGEST)
    np.testing.assert_allclose(weights.sum(axis=1), LENGTHS > 0, atol=1e-6)
    assert (weights[np.arange(LONGEST)[None, :] >= LENGTHS[:, None]] == 0).all()


def test_filler_rows_change_no_step(small_corpus):
    """A partial batch filled up with filler rows takes the same step as the partial batch alone."""
    config = load_config("lstm")
    prepared = prepare_texts(RunSpec(config, small_corpus, 5, 0, 0))
    programs = Programs(config, 2)

    def step(rows):
        state = init_state(programs, config, prepared.train, (64,))
        batch = gather(prepared.train, np.arange(5), rows, (64,))
        return programs.train(state, batch)

    (alone, metrics), (filled, metrics_filled) = step(5), step(8)
    assert float(metrics.weight) == float(metrics_filled.weight) == 5
    np.testing.assert_allclose(metrics.loss, metrics_filled.loss, rtol=1e-6)
    for one, other in zip(jax.tree.leaves(alone.params), jax.tree.leaves(filled.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
