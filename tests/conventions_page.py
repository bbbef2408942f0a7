"""What docs/conventions.md shows: `python -m tests.conventions_page` draws its picture and writes its table anew."""

from pathlib import Path

import numpy as np

from basis.conventions import standard
from basis.harmonics import solid_harmonics
from converters.abacus.convention import convention as abacus
from converters.aims.convention import convention as aims
from converters.openmx.convention import convention as openmx
from converters.pyscf.orders import ORDERS
from converters.siesta.convention import convention as siesta

PAGE = Path(__file__).parent.parent / "docs" / "conventions.md"
PICTURE = PAGE.parent / "pictures" / "harmonics.png"
BEGIN, END = "<!-- table of orders: begin -->\n", "<!-- table of orders: end -->"
NAMES = {
    1: {"s1": "y", "c0": "z", "c1": "x"},
    2: {"s2": "xy", "s1": "yz", "c0": "z2", "c1": "xz", "c2": "x2-y2"},
}
CODES = {"slem": standard, "ABACUS": abacus, "FHI-aims": aims, "OpenMX": openmx, "SIESTA": siesta}
CODES |= {"PySCF": ORDERS["pyscf"], "Psi4, ORCA": ORDERS["psi4"], "Gaussian": ORDERS["gaussian"]}


def table():
    """The order and the signs of p and d shells in each code."""
    rows = ["| code | p | d |", "|---|---|---|"]
    for code, convention in CODES.items():
        cells = [", ".join(sign_and_name(label, NAMES[l]) for label in convention(l)) for l in (1, 2)]
        rows.append(f"| {code} | {cells[0]} | {cells[1]} |")
    return "\n".join(rows) + "\n"


def sign_and_name(label, names):
    return ("-" if label.startswith("-") else "") + names[label.lstrip("-")]


def draw():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    polar, azimuth = np.meshgrid(np.linspace(0, np.pi, 60), np.linspace(0, 2 * np.pi, 120))
    directions = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=-1)
    harmonics = solid_harmonics(2, directions)
    figure = plt.figure(figsize=(10, 4.2), dpi=110)
    for l in (1, 2):
        for column, label in enumerate(standard(l)):
            axes = figure.add_subplot(2, 5, 5 * (l - 1) + column + (2 if l == 1 else 1), projection="3d")
            values = harmonics[l][..., column]
            x, y, z = np.moveaxis(np.abs(values)[..., None] * directions, -1, 0)
            colours = np.where(values[..., None] > 0, (0.84, 0.19, 0.15, 1), (0.19, 0.39, 0.75, 1))
            axes.plot_surface(x, y, z, facecolors=colours, rstride=1, cstride=1, linewidth=0, shade=True)
            for axis, name in enumerate("xyz"):
                end = 0.75 * np.eye(3)[axis]
                axes.plot(*zip(-end, end, strict=True), color="0.5", linewidth=0.6)
                axes.text(*(1.12 * end), name, fontsize=7, color="0.4")
            axes.set(xlim=(-0.5, 0.5), ylim=(-0.5, 0.5), zlim=(-0.5, 0.5), box_aspect=(1, 1, 1))
            axes.view_init(22, 35)
            axes.set_axis_off()
            axes.set_title(f"{'p' if l == 1 else 'd'} {NAMES[l][label]}, m = {column - l}", fontsize=9)
    figure.tight_layout(pad=0.3, rect=(0, 0, 1, 0.96))
    figure.savefig(PICTURE)


def main():
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.split(END)[1])
    draw()


if __name__ == "__main__":
    main()
