"""A small pretrained encoder, `tests/data/tiny_bert`, and ways to start from it and to change its files."""

import json
from pathlib import Path

import jax
import numpy as np

from experiments.variants import load_config
from research.data.pretrained_encoders import read_weights
from research.data.safetensors import read_tensors, write_tensors
from research.models import build

DATA = Path(__file__).parent / "data"
TENSORS = "model.safetensors"


def config_of(folder, *overrides):
    """Return the config of `bert:FOLDER` with `FIELD=VALUE` on top."""
    return load_config(f"bert:{folder}", [f"--config.{override}" for override in overrides])


def started(config):
    """Return the module and its parameters, started from the weights that the config names."""
    module = build(config.model, vocab_size=config.data.vocab_size, num_outputs=1)
    ids, lengths = np.zeros((1, 8), np.int32), np.full(1, 8, np.int32)
    params = module.init(jax.random.key(0), ids, lengths, deterministic=True)["params"]
    return module, module.start_from(params, read_weights(config.data.weights), config.data.weights)


def rewrite(folder, change):
    """Replace the folder's tensors by `change(tensors)`."""
    tensors = {name: np.array(tensor) for name, tensor in read_tensors(folder / TENSORS).items()}
    write_tensors(folder / TENSORS, change(tensors), {})


def edit(path, **changes):
    """Replace entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
