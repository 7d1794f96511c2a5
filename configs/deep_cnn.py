"""Very deep convolutional networks.

`vdcnn` (Conneau et al. 2017) over words, `vdcnn_characters` over characters, `dpcnn` (Johnson & Zhang 2017) over words.

    ./launch.sh compare --variants=deep_cnn:vdcnn,deep_cnn:vdcnn_characters,deep_cnn:dpcnn --workdir=runs/deep_cnn

Test accuracy on rotten_tomatoes, 5 folds, 2026-11-24 (experiments/results/): vdcnn 71.9 [70.9, 73.0],
vdcnn_characters 61.0 [59.7, 62.4], dpcnn 69.2 [68.0, 70.5].
"""

from research.models import settings_for
from research.settings import Config, Data

ARGUMENTS = ("vdcnn", "vdcnn_characters", "dpcnn")


def get_config(kind: str = "vdcnn") -> Config:
    if kind == "vdcnn_characters":
        model = settings_for("deep_cnn.DeepCNN", kind="vdcnn", embedding_size=16)
        return Config(model=model, data=Data(tokens="characters", vocab_size=1000, max_length=256))
    return Config(model=settings_for("deep_cnn.DeepCNN", kind=kind))
