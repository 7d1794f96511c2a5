"""Fine-tuned encoders, out of a run's folder and into one that other libraries open."""

import shutil
from pathlib import Path

import numpy as np

from research.atomic_files import whole_folder
from research.errors import UserError
from research.models import bert_files
from research.runs import run_files
from research.runs.restore import restore


def write_encoder(run_folder: Path | str, folder: Path | str) -> Path:
    """Writes the encoder of a run as HuggingFace's libraries lay it out, and as `bert:FOLDER` reads it.

    With `pooling="cls"` this is a BertForSequenceClassification whose softmax gives the run's probabilities: of two
    classes, the first has logit 0. With `pooling="mean"` it is a BertModel without pooler; there is no place in this
    format for a classifier of the mean.

    Args:
      run_folder: of a `bert` variant.
      folder: to be made; there must be none.

    Returns:
      the folder, with `config.json`, `model.safetensors`, `tokenizer.json`, `tokenizer_config.json` and
      `pretraining.json` and `seen_texts.npy`, which say what it was trained on.

    Raises:
      UserError: the run is of another variant, or the folder is there.
    """
    run, folder = restore(run_folder), Path(folder)
    model, params = run.config.model, run.variables["params"]
    if not model.module.startswith("bert."):
        raise UserError(f"{run_folder} is a run of {model.module}, expected one of bert")
    architecture, settings, tensors = "BertModel", {}, bert_files.tensors_of(params)
    if model.pooling == "cls":
        architecture, names = "BertForSequenceClassification", run.class_names
        settings = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
        settings["problem_type"] = "single_label_classification"
        kernel, bias = (np.asarray(params["head"][name], np.float32) for name in ("kernel", "bias"))
        if len(names) == 2:
            kernel, bias = np.pad(kernel, ((0, 0), (1, 0))), np.pad(bias, (1, 0))
        tensors = {f"bert.{name}": tensor for name, tensor in tensors.items()}
        tensors |= {"classifier.weight": kernel.T, "classifier.bias": bias}
    tokenizer = (Path(run_folder) / run_files.TOKENIZER).read_text("utf-8")
    with whole_folder(folder) as unfinished:
        bert_files.write_folder(unfinished, run.config, architecture, tensors, tokenizer, run.described, settings)
        if (Path(run_folder) / run_files.SEEN).exists():  # else an earlier version trained the run
            shutil.copyfile(Path(run_folder) / run_files.SEEN, unfinished / run_files.SEEN)
    return folder
