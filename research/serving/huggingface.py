"""Export of a fine-tuned encoder as a folder that HuggingFace's libraries open."""

import shutil
from pathlib import Path

import numpy as np

from research.atomic_files import whole_folder
from research.errors import UserError
from research.models import bert_files
from research.runs import run_files
from research.runs.restore import restore


def write_encoder(run_folder: Path | str, folder: Path | str) -> Path:
    """Write the encoder of a run in the layout of HuggingFace's libraries, which `bert:FOLDER` reads too.

    With `pooling="cls"` this is a model for sequence classification of the run's family, such as
    BertForSequenceClassification, whose softmax gives the run's probabilities. If there are two classes, the first has
    logit 0. With `pooling="mean"` it is a bare encoder, such as a BertModel without pooler, because this format has no
    place for a classifier of the mean.

    Args:
      run_folder: the folder of a run of a `bert` variant.
      folder: the folder to make; it must not exist.

    Returns:
      the folder, with `config.json`, `model.safetensors`, `tokenizer.json` and `tokenizer_config.json`. Its
      `pretraining.json` and `seen_texts.npy` say what the encoder was trained on.

    Raises:
      UserError: the run is of another variant, or the folder exists.
    """
    run, folder = restore(run_folder), Path(folder)
    model, params = run.config.model, run.variables["params"]
    if not model.module.startswith("bert."):
        raise UserError(f"{run_folder} is a run of {model.module}, expected one of bert")
    task, settings, classifier = "Model", {}, None
    if model.pooling == "cls":
        task, names = "ForSequenceClassification", run.class_names
        settings = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
        settings["problem_type"] = "single_label_classification"
        kernel, bias = (np.asarray(params["head"][name], np.float32) for name in ("kernel", "bias"))
        if len(names) == 2:
            kernel, bias = np.pad(kernel, ((0, 0), (1, 0))), np.pad(bias, (1, 0))
        classifier = kernel, bias
    tensors = bert_files.tensors_of(params, model.family, classifier)
    architecture = bert_files.architecture_of(run.config, task)
    tokenizer = (Path(run_folder) / run_files.TOKENIZER).read_text("utf-8")
    with whole_folder(folder) as unfinished:
        bert_files.write_folder(unfinished, run.config, architecture, tensors, tokenizer, run.description, settings)
        if (Path(run_folder) / run_files.SEEN).exists():  # runs of earlier versions have none
            shutil.copyfile(Path(run_folder) / run_files.SEEN, unfinished / run_files.SEEN)
    return folder
