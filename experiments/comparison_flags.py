"""The flags that say which claims a comparison makes: baseline, metric, margin and pairs."""

from typing import TYPE_CHECKING

from absl import flags

from research.evaluation.metrics import METRICS

if TYPE_CHECKING:  # imported where it is used, so that `--help` does not wait for SciPy
    from research.reporting.claims import Claims

flags.disclaim_key_flags()  # the flags that are defined here belong to the program that asks for them


def define_claims() -> None:
    """Define `--baseline`, `--metric`, `--margin` and `--pairs`."""
    text = "The variant that the others are compared with (default: the linear one; with --drop, the complete variant)."
    flags.DEFINE_string("baseline", "", text)
    text = "The metric that decides (default: accuracy; macro_f1 if one class has more than 80 % of the texts)."
    flags.DEFINE_enum("metric", None, METRICS, text)
    text = "A difference within this margin is negligible, in percentage points (of log_loss: in hundredths)."
    flags.DEFINE_float("margin", 1.0, text, lower_bound=0.0)
    text = "baseline compares each variant with the baseline; all compares every two variants."
    flags.DEFINE_enum("pairs", "baseline", ["baseline", "all"], text)


def update_claims(base: "Claims") -> "Claims":
    """Return `base` with the values of the flags that the user gave."""
    values = {
        "baseline": ("baseline", flags.FLAGS.baseline),
        "margin": ("margin", flags.FLAGS.margin / 100),
        "all_pairs": ("pairs", flags.FLAGS.pairs == "all"),
        "metric": ("metric", flags.FLAGS.metric),
    }
    return base._replace(**{field: value for field, (flag, value) in values.items() if flags.FLAGS[flag].present})
