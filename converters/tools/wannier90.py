"""A tight-binding model as Wannier90 writes one: H(R) between orthogonal orbitals, their centres, and the lattice."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.frames.frame import Frame
from converters.frames.to_sisl import cell_with_room
from converters.starts.start import Options, Written
from converters.tools.orthogonal import orthogonal_orbitals


def write(frame: Frame, folder: Path, options: Options) -> Written:
    """slem_hr.dat, slem_centres.xyz and slem.win; for collinear spin a set for each of slem.up and slem.dn."""
    model = orthogonal_orbitals(frame, options.mesh, options.functions)
    R_tc, H_tsMM = model.frame.to_dense("H")
    seeds = {"slem": H_tsMM}
    notes = list(model.notes)
    if frame.spin is Spin.COLLINEAR:
        seeds = {f"slem.{name}": H_tsMM[:, s : s + 1] for s, name in enumerate(("up", "dn"))}
    if frame.spin is Spin.SPINOR:
        seeds = {"slem": alternating(H_tsMM)}
        notes.append("orbitals alternate between up and down, as in Wannier90 2 and later")
    written = []
    for seed, H_tsNN in seeds.items():
        files = {
            "_hr.dat": elements(R_tc, H_tsNN[:, 0]),
            "_centres.xyz": centres(model.frame),
            ".win": lattice(model.frame),
        }
        for suffix, lines in files.items():
            written.append(folder / f"{seed}{suffix}")
            with written[-1].open("w") as file:
                file.writelines(f"{line}\n" for line in lines)
    return Written(tuple(written), {}, tuple(notes))


def alternating(H_tsMM: Array) -> Array:
    """A spinor matrix with the spin as the faster index: up and down of one orbital after the other."""
    cells, _, norb, _ = H_tsMM.shape
    return H_tsMM.reshape(cells, 2, 2, norb, norb).transpose(0, 3, 1, 4, 2).reshape(cells, 1, 2 * norb, 2 * norb)


def elements(R_tc: Array, H_tNN: Array) -> Iterator[str]:
    """The lines of _hr.dat: each lattice vector counts once, its elements column by column (eV)."""
    size = H_tNN.shape[-1]
    yield "H(R) in eV, written by slem"
    yield f"{size:12d}"
    yield f"{len(R_tc):12d}"
    for start in range(0, len(R_tc), 15):
        yield "    1" * len(R_tc[start : start + 15])
    column, row = (part.ravel() + 1 for part in np.indices((size, size)))
    places = [f"@{m:5d}{n:5d} %17.12f %17.12f" for m, n in zip(row.tolist(), column.tolist(), strict=True)]
    form = "\n".join(places)  # of all elements at once: there may be millions of lines
    for R_c, H_NN in zip(R_tc.tolist(), H_tNN, strict=True):
        values = np.ascontiguousarray(H_NN.T, dtype=complex).view(float)
        yield form.replace("@", "".join(f"{x:5d}" for x in R_c)) % tuple(values.ravel().tolist())


def centres_of(frame: Frame) -> Array:
    """Where each function of the model is centred: on its atom."""
    atoms = [orbital.atom for orbital in frame.orbitals]
    return np.repeat(frame.positions_av[atoms], 2 if frame.spin is Spin.SPINOR else 1, axis=0)


def centres(frame: Frame) -> Iterator[str]:
    """The lines of _centres.xyz: the functions as X, then the atoms (Angstrom)."""
    points = [("X", point) for point in centres_of(frame)]
    points += list(zip(frame.atoms.get_chemical_symbols(), frame.positions_av, strict=True))
    yield f"{len(points):6d}"
    yield "centres of the orbitals, written by slem"
    yield from (f"{symbol:<3s}" + "".join(f"{x:17.10f}" for x in point) for symbol, point in points)


def lattice(frame: Frame) -> Iterator[str]:
    """The lines of the input of Wannier90 that its readers look at: functions, cell and atoms."""
    yield f"num_wann = {len(centres_of(frame))}"
    yield f"spinors = {'true' if frame.spin is Spin.SPINOR else 'false'}"
    yield from ("write_hr = true", "write_xyz = true", "translate_home_cell = false", "")
    yield from ("begin unit_cell_cart", "Ang")
    yield from ("".join(f"{x:17.10f}" for x in vector) for vector in cell_with_room(frame.atoms))
    yield from ("end unit_cell_cart", "", "begin atoms_cart", "Ang")
    for symbol, point in zip(frame.atoms.get_chemical_symbols(), frame.positions_av, strict=True):
        yield f"{symbol:<3s}" + "".join(f"{x:17.10f}" for x in point)
    yield "end atoms_cart"
