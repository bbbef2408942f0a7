"""A small code that knows nothing of the rest, so that adding a code has something to add: `python plain_program.py FOLDER`.

Extended Hueckel theory of a periodic structure with a self-consistent field on each atom, collinear spin, NumPy and PySCF's integrals.
It reads plain.in, writes matrices.txt, plain.log and a file of radial functions for each element, and starts from the file that
the input names. Hartree and Bohr, p = x, y, z; an element "R1 R2 R3 i j value" is that of orbital i in cell 0 and j in cell R, from 1.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
from pyscf import gto
from scipy import linalg, optimize, special

BASIS = {
    "C": [[0, [1.2, 0.3], [0.3, 0.8]], [1, [1.4, 0.4], [0.35, 0.7]]],
    "H": [[0, [1.0, 0.5], [0.25, 0.8]]],
}
LEVELS = {"C": {0: -0.75, 1: -0.42}, "H": {0: -0.5}}
VALENCE = {"C": 4, "H": 1}
HUBBARD, STONER, WOLFSBERG = 0.2, 0.05, 1.75
WIDTH, MIXING, TOLERANCE, REACH = 0.01, 0.5, 1e-9, 3


def sections(path):
    """Rows of words below each line "# name"."""
    found, rows = {}, []
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            found[line[1:].strip()] = rows = []
        elif line.split():
            rows.append(line.split())
    return found


def molecule(symbols, positions):
    atoms = list(zip(symbols, positions, strict=True))
    return gto.M(atom=atoms, basis=BASIS, unit="Bohr", verbose=0, spin=None, charge=0)


def overlaps(symbols, positions, cell, reach):
    here = molecule(symbols, positions)
    return np.array([gto.intor_cross("int1e_ovlp", here, molecule(symbols, positions + R @ cell)) for R in reach])


def fill(levels, weights, electrons):
    """Occupations and Fermi level of one spin."""

    def excess(fermi):
        return np.einsum("kn,k->", special.expit((fermi - levels) / WIDTH), weights) - electrons

    fermi = optimize.brentq(excess, levels.min() - 1, levels.max() + 1, xtol=1e-14)
    return special.expit((fermi - levels) / WIDTH), fermi


def solve(H, S, kpoints, weights, reach, electrons):
    """DM(R), levels and energy of one spin in H(R)."""
    phases = np.exp(2j * np.pi * kpoints @ reach.T)
    solved = [linalg.eigh(np.tensordot(p, H, 1), np.tensordot(p, S, 1)) for p in phases]
    levels = np.array([e for e, _ in solved])
    filled, fermi = fill(levels, weights, electrons)
    rho = [w * (c * f) @ c.conj().T for w, f, (_, c) in zip(weights, filled, solved, strict=True)]
    DM = np.einsum("kR,kij->Rij", phases.conj(), np.array(rho)).real
    return DM, levels, np.einsum("kn,kn,k->", filled, levels, weights), fermi


def matrix_rows(reach, M):
    return [
        f"{' '.join(map(str, R))} {i + 1} {j + 1} {value:.15e}"
        for R, block in zip(reach.tolist(), M, strict=True)
        for (i, j), value in np.ndenumerate(block)
    ]


def populations(DM, S, atom_of):
    """Mulliken populations of the atoms."""
    return np.bincount(atom_of, weights=np.einsum("Rij,Rij->i", DM, S))


def starting_populations(folder, given, symbols, moment, S, atom_of, log):
    if "start" not in given:
        valence = np.array([VALENCE[s] for s in symbols], dtype=float)
        return np.array([valence + moment / len(valence), valence - moment / len(valence)]) / 2
    path = folder / given["start"][0][0]
    stored = sections(path)
    log.append(f"starting from {path.name}")
    cells = {tuple(R): n for n, R in enumerate(cells_of(sections(folder / "plain.in")).tolist())}
    found = []
    for name in ("DM up", "DM down"):
        DM = np.zeros_like(S)
        for *R, i, j, value in stored[name]:
            if tuple(map(int, R)) in cells:
                DM[cells[tuple(map(int, R))], int(i) - 1, int(j) - 1] = float(value)
        found.append(populations(DM, S, atom_of))
    return np.array(found)


def cells_of(given):
    """Cells whose orbitals are reached: along the axes with more than one k-point."""
    mesh = [int(n) for n in given["mesh"][0]]
    return np.array(list(itertools.product(*(range(-REACH, REACH + 1) if n > 1 else (0,) for n in mesh))))


def run(folder):
    given, log = sections(folder / "plain.in"), ["plain 1.0"]
    cell = np.array(given["cell"], dtype=float)
    symbols = [row[0] for row in given["atoms"]]
    positions = np.array([row[1:] for row in given["atoms"]], dtype=float)
    mesh, moment, reach = [int(n) for n in given["mesh"][0]], float(given["moment"][0][0]), cells_of(given)
    kpoints = np.array(list(itertools.product(*(np.arange(n) / n for n in mesh))))
    weights = np.full(len(kpoints), 1 / len(kpoints))
    S = overlaps(symbols, positions, cell, reach)
    mol = molecule(symbols, positions)
    atom_of = np.array([int(label.split()[0]) for label in mol.ao_labels()])
    onsite = np.concatenate([np.repeat(LEVELS[s][l], 2 * l + 1) for s in symbols for l in LEVELS[s]])
    factor = np.full(S.shape, WOLFSBERG)
    factor[[not R.any() for R in reach]] = np.where(np.equal.outer(atom_of, atom_of), 1.0, WOLFSBERG)
    bare = factor * S * np.add.outer(onsite, onsite) / 2
    valence = np.array([VALENCE[s] for s in symbols], dtype=float)
    electrons = [(valence.sum() + moment) / 2, (valence.sum() - moment) / 2]
    held = starting_populations(folder, given, symbols, moment, S, atom_of, log)
    residual, iterations = 1.0, 0
    while residual > TOLERANCE and iterations < 100:
        iterations += 1
        charge, spin = held.sum(axis=0) - valence, held[0] - held[1]
        fields = [HUBBARD * charge - STONER * spin, HUBBARD * charge + STONER * spin]
        H = [bare + S * np.add.outer(v[atom_of], v[atom_of]) / 2 for v in fields]
        solved = [solve(h, S, kpoints, weights, reach, n) for h, n in zip(H, electrons, strict=True)]
        new = np.array([populations(one[0], S, atom_of) for one in solved])
        residual = np.abs(new - held).max()
        log.append(f"iteration {iterations} residual {residual:.6e}")
        held = held + MIXING * (new - held)
    double = (HUBBARD * charge**2 - STONER * spin**2).sum() / 2 + HUBBARD * (charge * valence).sum()
    energy = sum(one[2] for one in solved) - double
    log.append(f"{'converged' if residual <= TOLERANCE else 'not converged'} energy {energy:.12f}")
    facts = [f"energy {energy:.12f}", f"electrons {valence.sum():g}", f"moment {moment:g}", f"iterations {iterations}"]
    facts += [f"converged {int(residual <= TOLERANCE)}", f"width {WIDTH}", f"fermi {solved[0][3]:.12f}"]
    parts = {
        "plain": ["1.0"],
        "cell": rows_of(cell),
        "atoms": [f"{s} {r}" for s, r in zip(symbols, rows_of(positions), strict=True)],
    }
    parts["shells"] = [f"{s} {' '.join('spd'[l] for l in LEVELS[s])}" for s in dict.fromkeys(symbols)]
    parts |= {"H up": matrix_rows(reach, H[0]), "H down": matrix_rows(reach, H[1]), "S": matrix_rows(reach, S)}
    parts |= {"DM up": matrix_rows(reach, solved[0][0]), "DM down": matrix_rows(reach, solved[1][0])}
    parts["kpoints"] = rows_of(np.column_stack([kpoints, weights]))
    parts |= {"levels up": rows_of(solved[0][1]), "levels down": rows_of(solved[1][1]), "facts": facts}
    (folder / "matrices.txt").write_text(text_of(parts))
    (folder / "plain.log").write_text("\n".join(log) + "\n")
    for symbol in dict.fromkeys(symbols):
        write_functions(folder / f"{symbol}.radial", mol, symbols.index(symbol))


def write_functions(path, mol, atom):
    """Exponents and coefficients of r^l exp(-a r^2), normalised."""
    parts = {"element": [mol.atom_symbol(atom)]}
    for b in range(mol.nbas):
        if mol.bas_atom(b) == atom:
            parts["spd"[mol.bas_angular(b)]] = rows_of(
                np.column_stack([mol.bas_exp(b), mol._libcint_ctr_coeff(b)[:, 0]])
            )
    path.write_text(text_of(parts))


def rows_of(table):
    return [" ".join(f"{x:.15e}" for x in row) for row in table]


def text_of(parts):
    return "".join(f"# {name}\n" + "".join(f"{row}\n" for row in rows) for name, rows in parts.items())


if __name__ == "__main__":
    run(Path(sys.argv[1]))
