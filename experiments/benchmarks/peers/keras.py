"""The article's program: Keras, 100 tokens padded in front; the benchmark runs it on TensorFlow (`KERAS_BACKEND`)."""

import time
from typing import Any

import keras

from experiments.benchmarks import peers


def _model() -> keras.Model:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((peers.PADDED,), dtype="int32"),
            layers.Embedding(peers.VOCAB_SIZE, peers.EMBEDDING_SIZE),
            layers.LSTM(peers.HIDDEN_SIZE),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(peers.LEARNING_RATE), "binary_crossentropy", metrics=["accuracy"])
    return model


def step(threads: int) -> dict[str, Any]:
    """Time the article's padded step."""
    _set_threads(threads)
    model, (ids, labels) = _model(), peers.example_batch()
    return {"seconds": peers.time_calls(lambda: model.train_on_batch(ids, labels))}


def epochs(data: str, folds: list[int], epochs: int, threads: int) -> dict[str, Any]:
    """Train the folds one after the other; return the seconds of each epoch and the last validation accuracies."""
    _set_threads(threads)
    ends, accuracies, start = [], [], time.perf_counter()
    for fold in folds:
        keras.utils.set_random_seed(fold)
        texts, model = peers.read_fold(data, fold), _model()
        note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter()))
        validation = (peers.pad_left(texts.validation), texts.validation.labels)
        history = model.fit(
            peers.pad_left(texts.train),
            texts.train.labels,
            batch_size=peers.BATCH_SIZE,
            epochs=epochs,
            validation_data=validation,
            verbose=0,
            callbacks=[note],
        )
        accuracies.append(history.history["val_accuracy"][-1])
    seconds = [end - begin for begin, end in zip([start, *ends], ends, strict=False)]
    return {"epoch_seconds": seconds, "validation_accuracy": accuracies}


def _set_threads(threads: int) -> None:
    if keras.backend.backend() != "tensorflow":
        return  # other backends use the cores that the process has
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


if __name__ == "__main__":
    peers.answer({"step": step, "epochs": epochs})
