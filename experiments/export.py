"""Export a run as a folder that needs nothing of this project, and check that it predicts the same.

    ./launch.sh export --workdir=runs/lstm --output=exported
    ./launch.sh export --workdir=runs/lstm --output=exported_onnx --format=onnx
    ./launch.sh export --workdir=runs/bert/bert-minilm/fold0-repeat0 --output=my_bert --format=huggingface

The folder holds the model, model.json (classes, tokens), the tokenizer, requirements.txt, run.py (a short program) and
card.md (data, protocol, scores with intervals, limits). `stablehlo` runs with jax on CPU, GPU and TPU, `onnx` with
onnxruntime. The first --format=onnx installs a converter into a separate environment in the per-user cache.
`huggingface` writes the encoder of a `bert` run in the layout of HuggingFace's libraries, with its classifier if that
reads [CLS]. `--config=bert:my_bert` reads such a folder.
"""

from pathlib import Path

from absl import flags

from experiments import program
from experiments.printing import say_unfinished
from research.parallel import device_setup

flags.DEFINE_string("workdir", None, "The run's folder.")
flags.DEFINE_string("output", None, "The folder to make.")
flags.DEFINE_enum("format", "stablehlo", ["stablehlo", "onnx", "huggingface"], "Format of the model.")
FLAGS = flags.FLAGS


def main() -> None:
    program.required("workdir", "output")
    device_setup.use_devices()
    from research.serving.export import SENTENCES, export
    from research.serving.huggingface import write_encoder

    if FLAGS.format == "huggingface":
        print(f"encoder: {write_encoder(FLAGS.workdir, FLAGS.output)}")
        return
    difference = export(FLAGS.workdir, FLAGS.output, FLAGS.format)
    say_unfinished(Path(FLAGS.workdir))
    print(f"{FLAGS.output}: on {SENTENCES:,} texts, its probabilities are within {difference:.1e} of those of the run")


if __name__ == "__main__":
    program.launch(main, trains=None)
