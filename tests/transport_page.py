"""The picture of docs/transport.md, drawn from docs/benchmarks/transport.json: `python -m tests.transport_page`."""

from tests.benchmark_tables import DOCS, read

PICTURE = DOCS / "pictures" / "transport.png"


def draw(path):
    """Transmission of the ribbons: of the self-consistent H, of the predicted one, and of the long ribbon that was only predicted."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    curves = read("transport")["curves"]
    energies = [float(energy) for energy in curves["energy"]]
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    for key, label, style in (
        ("pristine", "pristine", {"color": "0.8", "lw": 1.2}),
        ("run", "56 atoms displaced, self-consistent", {"color": "#1a1a1a", "lw": 1.4}),
        ("predicted", "the same, predicted", {"color": "tab:blue", "lw": 1.4, "ls": "--"}),
        ("long", "476 atoms displaced, predicted", {"color": "tab:orange", "lw": 1.0}),
    ):
        if key in curves:
            axes.plot(energies, [float(T) for T in curves[key]], label=label, **style)
    axes.set_xlabel("energy from the Fermi level (eV)")
    axes.set_ylabel("transmission")
    axes.set_xlim(energies[0], energies[-1])
    axes.set_ylim(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


if __name__ == "__main__":
    draw(PICTURE)
