"""Files of radial functions in each code's format, made of analytic functions, so that no file of a code's distribution is needed."""

import numpy as np
from scipy.io import netcdf_file
from scipy.special import gamma

LETTERS = "SPDFG"


def gaussian(l, exponent):
    """R(r) = r^l exp(-a r^2) with norm 1; lengths in Bohr."""
    norm = np.sqrt(2 * (2 * exponent) ** (l + 1.5) / gamma(l + 1.5))
    return lambda r: norm * r**l * np.exp(-exponent * r**2)


def write_orb(path, shells, cutoff=10.0, step=0.01, element="Si"):
    """ABACUS: `shells` lists (l, R); the file's functions need not be normalised."""
    r = np.arange(0, cutoff + step / 2, step)
    counts = [sum(l == degree for l, _ in shells) for degree in range(max(l for l, _ in shells) + 1)]
    head = [
        f"Element                     {element}",
        "Energy Cutoff(Ry)           100",
        f"Radius Cutoff(a.u.)  {cutoff}",
    ]
    head += [f"Lmax                        {len(counts) - 1}"]
    head += [f"Number of {LETTERS[l]}orbital-->       {n}" for l, n in enumerate(counts)]
    lines = [*head, "SUMMARY  END", "", f"Mesh                        {len(r)}", f"dr                          {step}"]
    zetas = dict.fromkeys(range(len(counts)), 0)
    for l, R in sorted(shells, key=lambda shell: shell[0]):
        lines += [
            "                Type                   L                   N",
            f"                   0  {l}  {zetas[l]}",
        ]
        zetas[l] += 1
        values = 3.0 * R(r)
        lines += [" ".join(f"{x:.15e}" for x in values[n : n + 4]) for n in range(0, len(r), 4)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_pao(path, shells, cutoff=10.0, points=1500):
    """OpenMX: a logarithmic grid, one block for each l, all its functions in columns."""
    x = np.linspace(-8.0, np.log(cutoff) + 0.2, points)
    r = np.exp(x)
    blocks = [f"PAO.Lmax   {max(l for l, _ in shells)}", f"radial.cutoff.pao  {cutoff}"]
    for l in range(max(l for l, _ in shells) + 1):
        columns = [np.where(r < cutoff, R(r), 0.0) for degree, R in shells if degree == l]
        rows = np.column_stack([x, r, *columns])
        blocks += [f"<pseudo.atomic.orbitals.L={l}", *(" ".join(f"{value:.15f}" for value in row) for row in rows)]
        blocks += [f"pseudo.atomic.orbitals.L={l}>"]
    path.write_text("\n".join(blocks) + "\n")
    return path


def ion_table(l, R, cutoff, points):
    """R / r^l at even points; the first by going there."""
    r = np.linspace(0, cutoff, points)
    r[0] = 1e-4
    return R(r) / r**l


def write_ion_xml(path, label, number, shells, cutoff=10.0, points=1000):
    """SIESTA: `shells` lists (l, n, zeta, polarisation, R)."""
    parts = [f"<ion version='0.1'>\n<symbol> {label} </symbol>\n<label> {label} </label>\n<z> {number} </z>\n<paos>"]
    for l, n, zeta, polarised, R in shells:
        parts.append(f'<orbital l=" {l}" n=" {n}" z=" {zeta}" ispol=" {int(polarised)}" population=" 0.0">\n<radfunc>')
        parts.append(
            f"<npts> {points} </npts>\n<delta> {cutoff / (points - 1):.12f} </delta>\n<cutoff> {cutoff} </cutoff>\n<data>"
        )
        table = ion_table(l, R, cutoff, points)
        parts += [f"{r:.12e} {value:.12e}" for r, value in zip(np.linspace(0, cutoff, points), table, strict=True)]
        parts.append("</data>\n</radfunc>\n</orbital>")
    path.write_text("\n".join([*parts, "</paos>\n</ion>"]) + "\n")
    return path


def write_ion_nc(path, label, number, shells, cutoff=10.0, points=1000):
    with netcdf_file(path, "w") as file:
        file.Label, file.Atomic_number = label.encode(), np.int32(number)
        file.createDimension("shells", len(shells))
        file.createDimension("points", points)
        for name, values in zip(
            ("l", "n", "z", "ispol"), zip(*(shell[:4] for shell in shells), strict=True), strict=True
        ):
            file.createVariable(f"orbnl_{name}", "i4", ("shells",))[:] = values
        file.createVariable("cutoff", "f8", ("shells",))[:] = cutoff
        file.createVariable("orb", "f8", ("shells", "points"))[:] = [
            ion_table(shell[0], shell[4], cutoff, points) for shell in shells
        ]
    return path
