"""A comparison whose predictions are made up, so that tests know what its report must say."""

import re

import numpy as np

from experiments.variants import load_config
from research.data.corpora import load
from research.json_files import write_json
from research.runs import run_files
from research.runs.record import environment
from research.settings import config_hash, to_dict

RECORD = {"status": "done", "parameters": 1234, "best_epoch": 1, "peak_memory_bytes": 5}
RECORD["seconds"] = {"prepare": 1.0, "compile": 2.0, "train": 3.0, "evaluate": 0.5}
ACCURACY = {"linear:tfidf": 0.8, "lstm": 0.8, "cnn[seed=1]": 0.55}
FOLDS = 2


def write_comparison(folder, corpus_path):
    """Write three variants on two folds and two repeats. One run of cnn failed; one of lstm was never finished."""
    corpus = load(corpus_path)
    random = np.random.default_rng(0)
    plan = {
        "corpus": {"name": corpus.name, "checksum": corpus.checksum, "texts": len(corpus), "source": corpus.source},
        "classes": list(corpus.class_names),
        "folds": FOLDS,
        "repeats": 2,
        "command": "./launch.sh compare --variants=lstm",
        "variants": {},
    } | environment()
    fold_of = np.arange(len(corpus)) % FOLDS
    for variant, accuracy in ACCURACY.items():
        config = load_config(variant.partition("[")[0])
        variant_folder = run_files.folder_name(variant)
        settings = {"hash": config_hash(config), "settings": to_dict(config)}
        plan["variants"][variant] = {"folder": variant_folder} | settings
        for repeat in range(2):
            for fold in range(FOLDS):
                run = folder / variant_folder / f"fold{fold}-repeat{repeat}"
                run.mkdir(parents=True)
                if (variant, fold, repeat) == ("lstm", 1, 1):
                    continue
                record = RECORD
                if (variant, fold, repeat) == ("cnn[seed=1]", 0, 0):
                    record = {"status": "failed"}
                texts = np.flatnonzero(fold_of == fold)
                right = (random.random(len(texts)) < accuracy) & (texts >= 4)  # the first texts are always wrong
                label = corpus.labels[texts]
                p = np.where(right == (label == 1), 0.9, 0.1).astype(np.float32)
                run_files.write_predictions(
                    run, run_files.Predictions(corpus.ids[texts], label, np.stack([1 - p, p], axis=1))
                )
                run_files.write_metrics(
                    run, [{"step": 1, "epoch": 1, "split": "validation", "accuracy": 0.7}], append=False
                )
                write_json(run / run_files.RECORD, record)
    write_json(folder / run_files.PLAN, plan)


def predict_one_label(run):
    """Replace a run's predictions by ones that give all texts the same label."""
    predictions = run_files.read_predictions(run)
    probabilities = np.tile(np.float32([0.9, 0.1]), (len(predictions.id), 1))
    run_files.write_predictions(run, predictions._replace(probabilities=probabilities))


def write_config(comparison, run, **changes):
    """Write the `config.json` of a run as the plan describes it, with changes."""
    plan = run_files.read_json(comparison / run_files.PLAN)
    variant = next(entry for entry in plan["variants"].values() if entry["folder"] == run.parent.name)
    fold, repeat = map(int, re.findall(r"\d+", run.name))
    of_run = {"settings": variant["settings"], "corpus": plan["corpus"], "fold": fold, "repeat": repeat}
    write_json(run / run_files.CONFIG, of_run | changes)
