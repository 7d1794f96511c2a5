"""The figure that plots are drawn on."""

import io

from matplotlib import figure


class Figure(figure.Figure):
    """A figure that a notebook shows as an image, whatever its settings for Matplotlib are."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=100)
        return file.getvalue()
