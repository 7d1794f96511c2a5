"""Exports a run as a folder that needs nothing of this project, and checks that it predicts what the run does.

    ./launch.sh export --workdir=runs/lstm --output=exported
    ./launch.sh export --workdir=runs/lstm --output=exported_onnx --format=onnx
    ./launch.sh export --workdir=runs/bert/bert-minilm/fold0-repeat0 --output=my_bert --format=huggingface

The folder holds the model, model.json (classes, tokens), its tokenizer, requirements.txt, run.py (a page, to be read)
and card.md (data, protocol, scores with intervals, limits). `stablehlo` runs with jax on CPU, GPU and TPU, `onnx`
with onnxruntime. The first --format=onnx installs a converter into an environment of its own, in the per-user cache.
`huggingface` is the encoder of a run of `bert`, and its classifier where that reads [CLS], as HuggingFace's libraries
lay them out and as `--config=bert:my_bert` reads it.
"""

from pathlib import Path

from absl import flags

from experiments import devices, program
from experiments.progress import say_unfinished

flags.DEFINE_string("workdir", None, "The run's folder.")
flags.DEFINE_string("output", None, "The folder to make.")
flags.DEFINE_enum("format", "stablehlo", ["stablehlo", "onnx", "huggingface"], "What the model is written as.")
FLAGS = flags.FLAGS


def main() -> None:
    program.required("workdir", "output")
    devices.use_devices(side_by_side=False)
    from research.serving.export import SENTENCES, export
    from research.serving.huggingface import write_encoder

    if FLAGS.format == "huggingface":
        print(f"encoder: {write_encoder(FLAGS.workdir, FLAGS.output)}")
        return
    difference = export(FLAGS.workdir, FLAGS.output, FLAGS.format)
    say_unfinished(Path(FLAGS.workdir))
    print(f"{FLAGS.output}: on {SENTENCES:,} texts no probability is further than {difference:.1e} from the run's own")


if __name__ == "__main__":
    program.launch(main, trains=None)
