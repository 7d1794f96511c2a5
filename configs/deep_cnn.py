"""Very deep convolutional networks.

`vdcnn` (Conneau et al. 2017) over words, `vdcnn_characters` over characters, `dpcnn` (Johnson & Zhang 2017) over words.
"""

from research.models import settings_for
from research.settings import Config, Data

ARGUMENTS = ("vdcnn", "vdcnn_characters", "dpcnn")


def get_config(kind: str = "vdcnn") -> Config:
    if kind == "vdcnn_characters":
        model = settings_for("deep_cnn.DeepCNN", kind="vdcnn", embedding_size=16)
        return Config(model=model, data=Data(tokens="characters", vocab_size=1000, max_length=256))
    return Config(model=settings_for("deep_cnn.DeepCNN", kind=kind))
