"""Files as FHI-aims writes them, from matrices of other codes: what is known of the format, with nothing of our reader."""

import math

import numpy as np

HARTREE = 27.2113845
LETTERS = "spdfg"
CONTROL = """  xc                 pbe
  relativistic       atomic_zora scalar   # as most people have it
  spin               {spin}
  occupation_type    gaussian 0.01
  k_grid             3 3 3
  output_rs_matrices plain
"""
SPECIES = """  species        {name}
    nucleus      {number}
    mass         1.0
    l_hartree    4
#     hydro 9 h 9.9
    valence      1  s   1.
{functions}
"""
LOG = """------------------------------------------------------------
          Invoking FHI-aims ...
  FHI-aims version      : 250730
  The structure contains        2 atoms,  and a total of         {electrons:.3f} electrons.
  Writing Kohn-Sham eigenvalues.
  State    Occupation    Eigenvalue [Ha]    Eigenvalue [eV]
      1       2.00000         -99.000000        -2693.92707
  | Total energy                  :         -1.00000000 Ha       -27.21138450 eV
  | Total energy                  :       {hartree:14.8f} Ha    {energy:14.8f} eV
{table}
  What follows are estimated values for band gap, HOMO, LUMO, etc.
  | Chemical Potential                          :    {fermi:.8f} eV
  Self-consistency cycle converged.
          | Number of self-consistency cycles          :           {iterations}
          Have a nice day.
"""


def orbitals(symbols, shells):
    """(atom, kind, n, l, m) of each orbital; `shells` has the l of each shell of a symbol."""
    found = []
    for atom, symbol in enumerate(symbols, start=1):
        for place, l in enumerate(shells[symbol]):
            n = l + 1 + list(shells[symbol][:place]).count(l)
            found += [(atom, "atomic" if n == l + 1 else "hydro", n, l, m) for m in range(-l, l + 1)]
    return found


def write_inputs(folder, symbols, numbers, positions, cell, shells, collinear=False):
    """geometry.in, control.in and basis-indices.out."""
    folder.mkdir(parents=True)
    lines = [f"lattice_vector {x!r} {y!r} {z!r}" for x, y, z in np.asarray(cell).tolist()] if cell is not None else []
    lines += ["# a comment"]
    lines += [f"atom {x!r} {y!r} {z!r} {name}" for (x, y, z), name in zip(positions.tolist(), symbols, strict=True)]
    (folder / "geometry.in").write_text("\n".join(lines) + "\n    initial_moment 1.0\n")
    text = CONTROL.format(spin="collinear" if collinear else "none")
    for name, number in dict(zip(symbols, numbers, strict=True)).items():
        functions = "\n".join(f"     hydro {l + 2} {LETTERS[l]} 1.{n}" for n, l in enumerate(shells[name]))
        text += SPECIES.format(name=name, number=number, functions=functions)
    (folder / "control.in").write_text(text)
    rows = ["", "  fn.   type   at.   n   l   m"]
    for number, (atom, kind, n, l, m) in enumerate(orbitals(symbols, shells), start=1):
        rows.append(f"{number:5d} {kind:8s} {atom:3d} {n:3d} {l:3d} {m:3d}")
    (folder / "basis-indices.out").write_text("\n".join(rows) + "\n")


def write_crystal(folder, frame, given=(), lower=()):
    """Real-space files of a frame of another code, its atoms moved by the lattice vectors `given` in geometry.in.

    `lower`: (atom, axis) of those on a face of the cell that rounding puts on the lower side.
    """
    symbols = [frame.basis[s].name for s in frame.species_a]
    shells = {species.name: [shell.l for shell in species.shells] for species in frame.basis}
    moves = np.array(given).reshape(-1, 3) if len(given) else np.zeros((len(symbols), 3))
    positions, collinear = frame.positions_av + moves @ frame.cell_cv, len(frame["H"].values_sx) == 2
    write_inputs(folder, symbols, frame.numbers_a.tolist(), positions, frame.cell_cv, shells, collinear)
    # The lattice vector of the cell about the origin's copy, in which the frame has each atom.
    home = [
        [math.floor(x + 0.5) if abs(x % 1 - 0.5) > 1e-6 else math.floor(x) + ((a, c) in lower) for c, x in enumerate(f)]
        for a, f in enumerate((frame.positions_av @ np.linalg.inv(frame.cell_cv)).tolist())
    ]
    (R_tc, H_tsMM), (_, S_tsMM) = frame.to_dense("H"), frame.to_dense("S")
    kinds, elements = orbitals(symbols, shells), {}
    sign_M = np.array([-1 if m in (1, 3) else 1 for *_, m in kinds])
    for R, H_sMM, S_sMM in zip(R_tc.tolist(), H_tsMM, S_tsMM, strict=True):
        values_xMM = np.concatenate([S_sMM, H_sMM / HARTREE]) * np.outer(sign_M, sign_M)
        rows, columns = np.nonzero(np.tril(values_xMM.any(axis=0)))
        cells = [
            [[home[a][c] - home[b][c] - R[c] for c in range(3)] for b in range(len(home))] for a in range(len(home))
        ]
        for row, column, values in zip(rows, columns, values_xMM[:, rows, columns].T.tolist(), strict=True):
            cell = tuple(cells[kinds[row][0] - 1][kinds[column][0] - 1])
            elements[cell, int(row), int(column)] = values
    write_real_space(folder, elements, len(kinds), ("_up", "_dn") if collinear else ("",))


def write_real_space(folder, elements, norb, spins):
    """rs_indices.out, rs_overlap.out and the rs_hamiltonian of each spin; elements by (cell of the row, row, column)."""
    cells = sorted({cell for cell, *_ in elements}, key=lambda cell: (cell != (0, 0, 0), cell))
    place = {cell: number for number, cell in enumerate(cells)}
    keys = sorted(elements, key=lambda key: (place[key[0]], key[1:]))
    first, last = {}, {}
    for number, (cell, row, _) in enumerate(keys, start=1):
        first.setdefault((cell, row), number)
        last[cell, row] = number
    rows = [f"n_hamiltonian_matrix_size: {len(keys) + 1:12d}", f"n_cells_in_hamiltonian: {len(cells) + 1:12d}"]
    rows += [f"n_basis: {norb:12d}", "cell_index", *("".join(f"{x:10d} " for x in cell) for cell in cells)]
    rows.append("999999999  999999999  999999999")
    for name, table, empty in (("(1,:,:)", first, 0), ("(2,:,:)", last, -1)):
        rows.append(f"index_hamiltonian{name}")
        rows += ["".join(f"{table.get((cell, row), empty):10d} " for row in range(norb)) for cell in cells]
        rows.append("********** " * norb)
    rows += ["column_index_hamiltonian", *(f"{column + 1:10d}" for *_, column in keys), f"{0:10d}"]
    (folder / "rs_indices.out").write_text("\n".join(rows) + "\n")
    names = ["rs_overlap.out", *(f"rs_hamiltonian{spin}.out" for spin in spins)]
    for name, column in zip(names, zip(*(elements[key] for key in keys), strict=True), strict=True):
        (folder / name).write_text("".join(f" {value:.15E}\n" for value in (*column, 0.0)))


def write_bands(folder, kpoints, levels, fermi):
    """One band file: number, k and pairs of occupation and level above the Fermi level."""
    rows = []
    for number, (k, energies) in enumerate(zip(kpoints, levels, strict=True), start=1):
        pairs = " ".join(f"{2 * (e < fermi):.5f} {e - fermi:15.5f}" for e in energies)
        rows.append(f"{number:4d} " + " ".join(f"{x:15.9f}" for x in k) + f" {pairs}")
    (folder / "band1001.out").write_text("\n".join(rows) + "\n")


def write_log(folder, levels, outcome, head=""):
    """aims.out with a table of levels (eV), at Gamma of a crystal where the head says so."""
    rows = [f"{n:7d} {2.0:13.5f} {e / HARTREE:17.6f} {e:18.5f}" for n, e in enumerate(levels, start=1)]
    table = "\n".join(["  Writing Kohn-Sham eigenvalues.", head, "  State    Occupation", *rows])
    hartree = outcome.energy / HARTREE
    text = LOG.format(table=table, hartree=hartree, **{name: value or 0 for name, value in vars(outcome).items()})
    (folder / "aims.out").write_text(text)


def write_triangle(path, matrix):
    """Rows "i j value" of one triangle, column after column."""
    pairs = [(i, j) for j in range(len(matrix)) for i in range(j + 1)]
    path.write_text("".join(f"{i + 1:6d}{j + 1:6d}  {matrix[i, j]:.14E}\n" for i, j in pairs))
