"""Two blocks of the Transformer's encoder with sinusoidal positions (Vaswani et al. 2017).

`transformer:pre` normalises before each sublayer, `transformer:post` after it as the paper does.
"""

from research.models import settings_for
from research.settings import Config

ARGUMENTS = ("pre", "post")


def get_config(norm: str = "pre") -> Config:
    return Config(model=settings_for("transformer.Transformer", norm=norm))
