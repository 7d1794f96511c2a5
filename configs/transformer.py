"""Two blocks of the Transformer's encoder with sinusoidal positions (Vaswani et al. 2017).

`transformer:pre` normalises before each sublayer, `transformer:post` after it, as in the paper. The learning rate warms
up over the first of at most 60 epochs. Then it falls with the square root of the number of steps (section 5.3).

    ./launch.sh compare --variants=transformer:pre,transformer:post --workdir=runs/transformer

Test accuracy on rotten_tomatoes, 5 folds, 2026-11-28 (experiments/results/): pre 74.9 [73.6, 76.3], post 74.4 [73.1,
75.7].
"""

from research.models import settings_for
from research.settings import Config, Optimizer

ARGUMENTS = ("pre", "post")


def get_config(norm: str = "pre") -> Config:
    model = settings_for("transformer.Transformer", norm=norm)
    return Config(model=model, optimizer=Optimizer(schedule="rsqrt", warmup=1 / 60))
