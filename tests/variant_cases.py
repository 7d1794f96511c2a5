"""The variants as test parameters: a module's default variant runs always, its other variants with `--all`."""

import pytest

from experiments.variants import every_variant, load_config
from research.models import settings_for
from tests.bert_encoder import DATA

PROBE = f"probe:{DATA / 'tiny_bert'}"


def contract_variants():
    """Return the names of the repository's variants, and one of each module that starts from a user's encoder."""
    return [*every_variant(), PROBE]


def variant_cases():
    """Return a `pytest.param` for each variant; those that are not their module's default are marked `extra`.

    The default variant has the module's own default settings. If there is none, the first variant stands for it.
    """
    models = {name: load_config(name).model for name in contract_variants()}
    defaults = {}
    for name, model in models.items():
        if vars(model) == vars(settings_for(model.module)):
            defaults[model.module] = name
    for name, model in models.items():
        defaults.setdefault(model.module, name)
    marks = {name: () if name in defaults.values() else pytest.mark.extra for name in models}
    return [pytest.param(name, id=name.replace(f"{DATA}/", ""), marks=marks[name]) for name in models]
