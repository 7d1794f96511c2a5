"""Names that plots can show: what no installed font can draw is replaced by short codes, which a key explains.

Without a font for Chinese, say, Matplotlib would draw empty boxes. The report has the key beside the picture, because a
browser or an editor has such fonts.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from matplotlib import font_manager

from research.reporting.results import Results

# Matplotlib's own font, then installed ones with the letters that it lacks (class names in Chinese).
_WITH_CHINESE = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "Noto Serif CJK SC"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "AR PL UMing CN", "PingFang SC", "Hiragino Sans GB"),
    *("Microsoft YaHei", "SimHei", "Arial Unicode MS", "Droid Sans Fallback"),
)
FONTS = ["DejaVu Sans", *(font for font in _WITH_CHINESE if font in font_manager.get_font_names())]


class DrawableNames(NamedTuple):
    """The codes of what cannot be drawn."""

    codes: Mapping[str, str]  # part of a name -> its code, such as "#1"

    def show(self, name: str) -> str:
        """Return a name as plots show it."""
        for part in sorted(self.codes, key=len, reverse=True):
            name = name.replace(part, self.codes[part])
        return name

    def key(self, texts: Iterable[str]) -> str:
        """Return what the codes in the texts of a plot stand for, such as "#1 is 差评"; empty without codes."""
        used = set(re.findall(r"#\d+", "\n".join(texts)))
        return ", ".join(f"{code} is {part}" for part, code in self.codes.items() if code in used)


def names_of(results: Results) -> DrawableNames:
    """Return the codes for the classes and variants of a comparison."""
    return drawable_names([*results.plan["classes"], *results.variants])


def drawable_names(names: Iterable[str]) -> DrawableNames:
    """Return codes for the parts of names that no font of `FONTS` can draw."""
    parts = itertools.chain.from_iterable(map(_undrawable_parts, names))
    return DrawableNames({part: f"#{number}" for number, part in enumerate(dict.fromkeys(parts), 1)})


def rename(results: Results, names: DrawableNames) -> Results:
    """Return results whose variants and classes have the names that plots show."""
    show = names.show
    plan = results.plan | {
        "classes": list(map(show, results.plan["classes"])),
        "variants": {show(variant): entry for variant, entry in results.plan["variants"].items()},
    }
    of_variants = {
        field: {show(variant): value for variant, value in getattr(results, field).items()}
        for field in ("estimates", "curves", "outcomes", "untrained")
    }
    rows = [row | {"variant": show(row["variant"])} for row in results.rows]
    pairs = [pair | {side: show(pair[side]) for side in ("a", "b")} for pair in results.pairs]
    claims = results.claims._replace(baseline=show(results.claims.baseline))
    return results._replace(plan=plan, claims=claims, rows=rows, pairs=pairs, **of_variants)


def _undrawable_parts(name: str) -> list[str]:
    """Return the longest parts of a name in which no character can be drawn, with the blanks between them."""
    drawable = _drawable_characters(tuple(FONTS))
    mask = "".join(" " if character.isspace() else "-x"[ord(character) in drawable] for character in name)
    return [name[match.start() : match.end()] for match in re.finditer(r"-(?:[- ]*-)?", mask)]


@functools.cache
def _drawable_characters(fonts: tuple[str, ...]) -> frozenset[int]:
    """Return the code points that the fonts have."""
    paths = [font_manager.findfont(font_manager.FontProperties(family=font)) for font in fonts]
    return frozenset(itertools.chain.from_iterable(font_manager.get_font(path).get_charmap() for path in paths))
