"""Very deep convolutional networks.

`vdcnn` (Conneau et al. 2017) reads words, `vdcnn_characters` reads characters, and `dpcnn` (Johnson & Zhang 2017) reads
words.

    ./launch.sh compare --variants=deep_cnn:vdcnn,deep_cnn:vdcnn_characters,deep_cnn:dpcnn --workdir=runs/deep_cnn

Test accuracy on rotten_tomatoes, 5 folds, 2026-11-28 (experiments/results/): vdcnn 71.9 [70.3, 73.5], vdcnn_characters
61.1 [59.1, 63.2], dpcnn 69.9 [68.5, 71.3].
"""

from research.models import settings_for
from research.settings import Config, Data

ARGUMENTS = ("vdcnn", "vdcnn_characters", "dpcnn")


def get_config(kind: str = "vdcnn") -> Config:
    if kind == "vdcnn_characters":
        model = settings_for("deep_cnn.DeepCNN", kind="vdcnn", embedding_size=16)
        return Config(model=model, data=Data(tokens="characters", vocab_size=1000, max_length=256))
    return Config(model=settings_for("deep_cnn.DeepCNN", kind=kind))
