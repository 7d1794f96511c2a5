"""Writes the encoder of a run of `bert` as a folder that HuggingFace's libraries open.

    ./launch.sh export --workdir=runs/bert --output=my_bert
    ./launch.sh train --config=bert:my_bert --corpus=other.tsv --workdir=runs/other

The folder holds `config.json`, `model.safetensors`, `tokenizer.json` and `tokenizer_config.json`: a
BertForSequenceClassification with the run's own classifier, or a BertModel where the run takes the mean of the states.
"""

from absl import flags

from experiments import program

flags.DEFINE_string("workdir", None, "The run's folder.")
flags.DEFINE_string("output", None, "The folder to be written; made where it does not exist.")
FLAGS = flags.FLAGS


def main(overrides: list[str]) -> None:
    program.no_overrides(overrides)
    program.required("workdir", "output")
    program.use_devices(side_by_side=False)
    from research.serving.export import export

    print(f"encoder: {export(FLAGS.workdir, FLAGS.output)}")


if __name__ == "__main__":
    program.launch(main)
