"""The picture of docs/transport.md, drawn from docs/benchmarks/transport.json: `python -m tests.transport_page`."""

from tests.benchmark_tables import DOCS, read

PICTURE = DOCS / "pictures" / "transport.png"


def draw(path):
    """Transmission of the ribbons: of the self-consistent H beside the predicted one, and of longer ones that were only predicted."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    curves = read("transport")["curves"]
    energies = [float(energy) for energy in curves["energy"]]
    figure, (short, long) = pyplot.subplots(
        2, 1, figsize=(8, 5.6), sharex=True, height_ratios=[3, 2], layout="constrained"
    )
    for axes, key, label, style in (
        (short, "pristine", "pristine", {"color": "0.8", "lw": 1.2}),
        (short, "run", "56 atoms displaced, self-consistent", {"color": "#1a1a1a", "lw": 1.4}),
        (short, "predicted", "the same, predicted", {"color": "tab:blue", "lw": 1.4, "ls": "--"}),
        (long, "predicted", "56 atoms displaced, predicted", {"color": "tab:blue", "lw": 1.0, "ls": "--"}),
        (long, "long", "476 atoms displaced, predicted", {"color": "tab:orange", "lw": 1.0}),
        (long, "longest", "2,016 atoms displaced, predicted", {"color": "tab:red", "lw": 1.0}),
    ):
        axes.plot(energies, [float(T) for T in curves[key]], label=label, **style)
    long.set_xlabel("energy from the Fermi level (eV)")
    long.set_yscale("log")
    long.set_ylim(1e-10, 5)
    short.set_xlim(energies[0], energies[-1])
    short.set_ylim(0)
    for axes in (short, long):
        axes.set_ylabel("transmission")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(
            frameon=False,
            fontsize=8,
            loc="upper center" if axes is short else "lower center",
            ncols=1 if axes is short else 3,
        )
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


if __name__ == "__main__":
    draw(PICTURE)
