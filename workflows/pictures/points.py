"""Points over whole numbers as SVG: the library that draws the other pictures takes longer to import than a short run."""

from collections.abc import Iterator, Mapping, Sequence

from workflows.pictures.report_page import escape

# The picture and its margins; the legend is in the right one.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 800, 300, 55, 190, 12, 42
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
MOST_TICKS = 8


def points_figure(groups: Mapping[str, Sequence[tuple[int, int]]], x_label: str, y_label: str, caption: str) -> str:
    """Groups of points, a colour for each, with both axes from zero on."""
    everywhere = [point for points in groups.values() for point in points]
    most_x, most_y = (1.04 * max((point[axis] for point in everywhere), default=1) for axis in (0, 1))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + wide * x / most_x, HEIGHT - BOTTOM - high * y / most_y

    (left, bottom), (right, top) = at(0, 0), at(most_x, most_y)
    parts = [f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#000"/>']
    for n in ticks(most_x):
        parts.append(text(at(n, 0)[0], bottom + 16, str(n), "middle"))
    for n in ticks(most_y):
        parts.append(text(left - 6, at(0, n)[1] + 4, str(n), "end"))
    parts.append(text((left + right) / 2, HEIGHT - 6, x_label, "middle"))
    parts.append(f'<g transform="translate(14 {(top + bottom) / 2}) rotate(-90)">{text(0, 0, y_label, "middle")}</g>')
    for n, (name, points) in enumerate(groups.items()):
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in (at(*point) for point in points))
        key = f'<circle cx="{right + 16}" cy="{top + 12 + 18 * n}" r="3.5"/>'
        parts.append(f'<g fill="{COLOURS[n % len(COLOURS)]}">{dots}{key}</g>')
        parts.append(text(right + 26, top + 16 + 18 * n, name, "start"))
    drawn = f'<svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="13"><title>{escape(caption)}</title>{"".join(parts)}</svg>'
    return f"<figure>{drawn}<figcaption>{escape(caption)}</figcaption></figure>"


def ticks(most: float) -> Iterator[int]:
    """Whole numbers from 0 to some number, a 1, 2 or 5 with zeros apart."""
    step = next(one * 10**power for power in range(20) for one in (1, 2, 5) if most / (one * 10**power) < MOST_TICKS)
    return iter(range(0, int(most) + 1, step))


def text(x: float, y: float, said: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#000">{escape(said)}</text>'
