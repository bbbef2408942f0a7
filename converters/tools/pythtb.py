"""A tight-binding model for pythtb: a script that makes one of arrays that lie beside it."""

from pathlib import Path

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.errors import Kind, Refused
from converters.frames.blocks import is_canonical, unpack_elements
from converters.frames.frame import Frame
from converters.frames.to_sisl import cell_with_room
from converters.starts.start import Options, Written
from converters.tools.orthogonal import orthogonal_orbitals

SCRIPT = '''"""A model of pythtb (1.8 or 2): from slem_pythtb import model; tb = model()"""

from pathlib import Path

import numpy as np
import pythtb

DATA = Path(__file__).with_suffix(".npz")


def model(smallest=0.0, spin=0):
    """The tb_model (pythtb 1.8) or TBModel (2); hoppings below `smallest` (eV) are left out.

    `spin` is 0 for up and 1 for down where the spin is collinear; spinors make a model with spin.
    """
    with np.load(DATA) as file:
        data = dict(file)
    periodic = np.flatnonzero(data["pbc"]).tolist()
    spinful = bool(data["spinor"])
    if hasattr(pythtb, "TBModel"):
        lattice = pythtb.Lattice(data["cell"], data["orbitals"], periodic_dirs=periodic)
        tb = pythtb.TBModel(lattice, spinful=spinful)
    else:
        tb = pythtb.tb_model(len(periodic), 3, data["cell"], data["orbitals"], per=periodic, nspin=1 + spinful)
    onsite = data["onsite"] if spinful else data["onsite"][:, spin, spin].real
    tb.set_onsite(list(onsite))
    hopping = data["hopping"] if spinful else data["hopping"][:, spin, spin]
    kept = np.abs(hopping).reshape(len(hopping), -1).max(axis=1) > smallest
    for amplitude, i, j, R in zip(hopping[kept], data["i"][kept], data["j"][kept], data["R"][kept]):
        tb.set_hop(amplitude, int(i), int(j), [int(x) for x in R] if periodic else None, allow_conjugate_pair=False)
    return tb
'''


def write(frame: Frame, folder: Path, options: Options) -> Written:
    """slem_pythtb.py and slem_pythtb.npz: one of each two conjugate hoppings, and the orbitals in fractions of the cell."""
    if np.linalg.det(cell_with_room(frame.atoms)) < 0:
        found = "has a left-handed cell, which pythtb does not take"
        raise Refused(Kind.UNSUPPORTED, frame.place, found, "two cell vectors exchanged, or another format")
    model = orthogonal_orbitals(frame, options.mesh, options.functions)
    matrix = unpack_elements(model.frame.pairs, model.frame.operators["H"], frame.spin)
    R_ec, cell_cv = matrix.R_tc[matrix.t_e], cell_with_room(frame.atoms)
    values_ess = spin_matrices(matrix.values_se, frame.spin)
    onsite_e = ~R_ec.any(axis=1) & (matrix.row_e == matrix.column_e)
    first_e = is_canonical(matrix.row_e, matrix.column_e, R_ec) & ~onsite_e
    first_e &= np.abs(matrix.values_se).max(axis=0) > 0
    atoms = [orbital.atom for orbital in model.frame.orbitals]
    arrays = {
        "cell": cell_cv,
        "pbc": frame.pbc_c,
        "orbitals": frame.positions_av[atoms] @ np.linalg.inv(cell_cv),
        "spinor": np.array(frame.spin is Spin.SPINOR),
        "onsite": values_ess[onsite_e],
        "hopping": values_ess[first_e],
        "i": matrix.row_e[first_e],
        "j": matrix.column_e[first_e],
        "R": R_ec[first_e],
    }
    files = folder / "slem_pythtb.py", folder / "slem_pythtb.npz"
    files[0].write_text(SCRIPT)
    np.savez(files[1], allow_pickle=False, **arrays)
    notes = [*model.notes, f"{int(first_e.sum())} hoppings"]
    if frame.spin is Spin.COLLINEAR:
        notes.append("model(spin=0) is that of spin up, model(spin=1) of spin down")
    return Written(files, {}, tuple(notes))


def spin_matrices(values_se: Array, spin: Spin) -> Array:
    """An element as a matrix between spins: 2 x 2 with spin, 1 x 1 without."""
    if spin is Spin.SPINOR:
        return values_se.T.reshape(-1, 2, 2)
    return np.asarray(np.eye(len(values_se)) * values_se.T[:, None, :])
