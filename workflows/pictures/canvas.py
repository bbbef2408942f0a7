"""Empty pictures for reports, with margins that are known: measuring all labels for them would take longer than all drawing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def canvas(
    width: float,
    height: float,
    shares: Sequence[float] = (1,),
    *,
    left: float = 0.75,
    right: float = 0.12,
    bottom: float = 0.5,
    top: float = 0.1,
    between: float = 0.8,
    sharey: bool = False,
) -> tuple["Figure", list["Axes"]]:
    """A picture and its axes side by side, all lengths in inches; `shares` are the relative widths of the axes."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height))
    mean = (width - left - right - between * (len(shares) - 1)) / len(shares)
    axes = drawn.subplots(1, len(shares), squeeze=False, sharey=sharey, width_ratios=list(shares))[0]
    drawn.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height, wspace=between / mean)
    return drawn, list(axes)


def plain_decades(*axes: "Axes") -> None:
    """1e-3 in place of mathematics, which takes long to set, at the decades of logarithmic axes."""
    from matplotlib.ticker import LogFormatter, NullFormatter

    for axis in (axis for one in axes for axis in (one.xaxis, one.yaxis) if axis.get_scale() == "log"):
        axis.set_major_formatter(LogFormatter(labelOnlyBase=True))
        axis.set_minor_formatter(NullFormatter())
