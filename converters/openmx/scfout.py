"""OpenMX's .scfout file: binary H, S, DM, positions, cell and the input text of a run, versions 0 to 3 of both byte orders.

All matrices are blocks of neighbours: for each atom itself first, then every atom within the sum of the cut-off radii. Units
are Hartree and Bohr. H of a noncollinear run has real sets H[0..3] and imaginary ones iH[0..2].
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from basis import Array
from converters.codes.binary import Binary

# Sets of blocks of each matrix, by SpinP_switch.
SETS = {0: 1, 1: 2, 3: 4}
SKIPPED = ("position", "momentum")  # matrices that a frame does not hold
LATEST = 3  # version of the layout
FIELD = 256  # bytes of a line of the input text


@dataclass(frozen=True, eq=False)
class ScfOut:
    """A file as it is stored. `values[name]` is (set, element): blocks of the neighbours, row-major, one after the other."""

    path: Path
    byte_order: str
    version: int
    spin_switch: int
    norb_a: Array
    neighbours_a: Array
    i_q: Array
    j_q: Array
    R_qc: Array
    cell_cv: Array
    positions_av: Array
    values: dict[str, Array]
    places: dict[str, int]
    solver: int
    fermi: float
    temperature: float
    electrons: float
    moment: float
    text: str


def read_scfout(path: Path) -> ScfOut:
    file = Binary(path)
    file.require(24, "the header")
    order = "<" if 0 <= int(np.frombuffer(file.data, "<i4", 1, 4)[0]) < 4096 else ">"
    integer, real = f"{order}i4", f"{order}f8"
    natoms, switch, *ends, cells = (int(n) for n in file.take(integer, 6, "the header"))
    version, spin_switch = divmod(switch, 4)
    if not 0 <= switch < 4096 or spin_switch not in SETS or natoms < 1 or cells < 0 or min(ends) < 0:
        raise file.refuse("does not begin like a .scfout file")
    if version > LATEST:
        raise file.refuse(f"has layout {version}, of an OpenMX newer than those that are known", f"0 to {LATEST}")
    order_max = int(file.take(integer, 1, "the order of position matrices")[0]) if version else 1
    if not 1 <= order_max <= 10:
        raise file.refuse(f"has position matrices up to order {order_max}", "1 to 10")
    file.take(real, 4 * (cells + 1), "lattice translations")
    R_tc = file.take(integer, 4 * (cells + 1), "lattice vectors").reshape(-1, 4)[:, 1:].astype(np.int64)
    if np.abs(R_tc).max() > 10_000:
        raise file.refuse(f"has a lattice vector of {np.abs(R_tc).max()} cells", "at most 10000")
    norb_a = file.take(integer, natoms, "numbers of orbitals").astype(np.int64)
    neighbours_a = file.take(integer, natoms, "numbers of neighbours").astype(np.int64)
    if norb_a.min() < 1 or norb_a.max() > 10_000 or neighbours_a.min() < 0:
        raise file.refuse("has an atom with an impossible number of orbitals or neighbours")
    total = int(neighbours_a.sum()) + natoms
    j_q = file.take(integer, total, "neighbours").astype(np.int64) - 1
    t_q = file.take(integer, total, "cells of neighbours").astype(np.int64)
    if j_q.min() < 0 or j_q.max() >= natoms or t_q.min() < 0 or t_q.max() > cells:
        raise file.refuse("has a neighbour that does not exist")
    i_q = np.repeat(np.arange(natoms), neighbours_a + 1)
    cell_cv = file.take(real, 12, "lattice vectors").reshape(3, 4)[:, 1:]
    file.take(real, 12, "reciprocal vectors")
    positions_av = file.take(real, 4 * natoms, "positions").reshape(-1, 4)[:, 1:]

    elements = int((norb_a[i_q] * norb_a[j_q]).sum())
    sets = {"H": SETS[spin_switch], "iH": 3 if spin_switch == 3 else 0, "S": 1, "position": 3 * order_max}
    sets |= {"momentum": 3 if version == 3 else 0, "DM": SETS[spin_switch], "iDM": 2 if version == 3 else 0}
    values, places = {}, {}
    for name, count in sets.items():
        places[name] = file.at
        if name in SKIPPED:
            file.skip(8 * count * elements, f"{count} sets of {name}")
        else:
            values[name] = file.take(real, count * elements, f"{count} sets of {name}").reshape(count, elements)
    solver = int(file.take(integer, 1, "the solver")[0])
    energies = file.take(real, 10, "chemical potential, temperature and electrons")
    lines = int(file.take(integer, 1, "the number of input lines")[0])
    text = file.take("u1", FIELD * max(lines, 0), "the input text").tobytes()
    file.require_end()
    fields = (text[at : at + FIELD].split(b"\0")[0] for at in range(0, len(text), FIELD))
    return ScfOut(
        path=path,
        byte_order=order,
        version=version,
        spin_switch=spin_switch,
        norb_a=norb_a,
        neighbours_a=neighbours_a,
        i_q=i_q,
        j_q=j_q,
        R_qc=R_tc[t_q],
        cell_cv=cell_cv.astype(float),
        positions_av=positions_av.astype(float),
        values={name: array.astype(float, copy=False) for name, array in values.items()},
        places=places,
        solver=solver,
        fermi=float(energies[0]),
        temperature=float(energies[1]),
        electrons=float(energies[8]),
        moment=2 * float(energies[9]),
        text="".join(field.decode("utf-8", "replace").rstrip("\n") + "\n" for field in fields),
    )


def replace_values(template: ScfOut, values: dict[str, Array]) -> bytes:
    """The bytes of the template with other matrices in the same places."""
    content = bytearray(template.path.read_bytes())
    for name, array in values.items():
        raw = np.ascontiguousarray(array, dtype=f"{template.byte_order}f8").tobytes()
        at = template.places[name]
        content[at : at + len(raw)] = raw
    return bytes(content)
