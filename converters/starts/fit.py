"""Making a frame fit the run that it is to start: its k-points and filling, the order of its atoms, a density without magnetism."""

from dataclasses import replace

import numpy as np

from basis import Array
from basis.radial import Functions
from basis.shells import Species
from basis.spin import TRANSPOSED, Spin
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements, join_packed, make_pairs, pack_elements, unpack_elements
from converters.frames.frame import Frame
from converters.physics.kspace import Filling
from converters.starts.density import Sampling, electrons_of
from converters.starts.start import Target

# Atoms of a prediction and of a run are the same when they are this close (Angstrom).
SAME_PLACE = 1e-3


def sampling_of(frame: Frame, target: Target | None, electrons: float | None) -> Sampling:
    """k-points and filling of the run to be started: of its input, else of the run that the frame is from; no k-points where neither says."""
    found = electrons if electrons is not None else (target.electrons if target is not None else None)
    if found is None:
        found = electrons_of(frame)
    if target is not None and target.kpoints_kc is not None and target.weights_k is not None:
        filling = Filling(found, target.smearing or "fixed", target.width, target.moment)
        return Sampling(target.kpoints_kc, target.weights_k, filling, frame.spin)
    spectrum = frame.spectrum
    if spectrum is None:
        known = 0 if frame.pbc_c.any() else 1  # a molecule has Gamma alone
        return Sampling(np.zeros((known, 3)), np.ones(known), Filling(found), frame.spin)
    moment = frame.outcome.moment if spectrum.fixed_moment else None
    filling = Filling(found, spectrum.smearing or "fixed", spectrum.width, moment)
    return Sampling(spectrum.kpoints_kc, spectrum.weights_k, filling, frame.spin)


def fit_to_target(frame: Frame, target: Target) -> Frame:
    """The frame with the atoms in the order, cells and names of a run; refused when it is of something else."""
    place = target.path
    if len(target.labels_a) != frame.natoms:
        raise Refused(Kind.OTHER_MODEL, place, f"has {len(target.labels_a)} atoms; the matrices are of {frame.natoms}")
    strained = np.abs(target.cell_cv - frame.cell_cv).max() if frame.pbc_c.any() else 0.0
    if strained > SAME_PLACE:
        raise Refused(
            Kind.OTHER_STRUCTURE, place, f"has another cell than the matrices: they differ by {strained:.2g} Angstrom"
        )
    if frame.spin is not target.spin:
        raise Refused(
            Kind.OTHER_MODEL,
            place,
            f"needs matrices with the spin layout {target.spin}; these have {frame.spin}, and would start another state",
        )
    frame = replace(frame, cell_cv=target.cell_cv, pbc_c=np.ones(3, dtype=bool))
    moved = reorder_atoms(frame, *match_atoms(frame, target))
    labels = list(dict.fromkeys(target.labels_a))
    basis: list[Species] = []
    functions: list[Functions | None] = []
    for label in labels:
        own = {s: replace(moved.basis[s], name=label) for s in species_named(moved, target, label)}
        if len(set(own.values())) != 1:
            raise Refused(
                Kind.OTHER_STRUCTURE, place, f"has atoms {label} whose matrices are of {len(own)} different bases"
            )
        s, species = next(iter(own.items()))
        wanted = target.radials.get(label, "")
        if wanted and species.radial and frame.provenance.code == target.code and wanted != species.radial:
            raise Refused(
                Kind.OTHER_MODEL, place, f"has the orbitals {wanted} for {label}; the matrices are of {species.radial}"
            )
        basis.append(species)
        functions.append(moved.functions[s] if moved.functions else None)
    species_a = np.array([labels.index(label) for label in target.labels_a])
    return replace(
        moved, basis=tuple(basis), species_a=species_a, functions=tuple(functions) if moved.functions else ()
    )


def species_named(frame: Frame, target: Target, label: str) -> list[int]:
    """The species that atoms of one name in a run have in a frame of the same atoms: one species may have several names there, and several one."""
    return sorted({int(s) for s, name in zip(frame.species_a, target.labels_a, strict=True) if name == label})


def match_atoms(frame: Frame, target: Target) -> tuple[Array, Array]:
    """Which atom of the frame each atom of the run is, and in which cell."""
    inverse_vc = np.linalg.inv(target.cell_cv)
    order, shifts = [], []
    for a, position_v in enumerate(target.positions_av):
        between_bc = (position_v - frame.positions_av) @ inverse_vc
        cells_bc = np.round(between_bc)
        distance_b = np.linalg.norm((between_bc - cells_bc) @ target.cell_cv, axis=1)
        b = int(distance_b.argmin())
        if distance_b[b] > SAME_PLACE or frame.numbers_a[b] != target.numbers_a[a] or b in order:
            raise Refused(
                Kind.OTHER_STRUCTURE,
                target.path,
                f"has atom {a + 1} ({target.labels_a[a]}) where the matrices have none; the closest is {distance_b[b]:.3g} Angstrom away",
            )
        order.append(b)
        shifts.append(cells_bc[b])
    return np.array(order), np.array(shifts, dtype=int)


def reorder_atoms(frame: Frame, order_a: Array, shift_ac: Array) -> Frame:
    """The same structure with its atoms in another order, atom a being the old order_a[a] moved by shift_ac[a] cells."""
    if np.array_equal(order_a, np.arange(frame.natoms)) and not shift_ac.any():
        return frame
    if np.array_equal(order_a, np.arange(frame.natoms)):
        return shift_atoms(frame, shift_ac)
    place_a, moved_ac = np.empty_like(order_a), np.empty_like(shift_ac)
    place_a[order_a], moved_ac[order_a] = np.arange(frame.natoms), shift_ac
    norb_a = frame.pairs.norb_a[order_a]
    start_old = frame.pairs.orbital_start_a
    place_M = np.concatenate([np.arange(start_old[old], start_old[old + 1]) for old in order_a.tolist()]).argsort()
    atom_M = np.repeat(np.arange(frame.natoms), frame.pairs.norb_a)
    packed = {}
    for name, operator in frame.operators.items():
        layout = frame.layout(name)
        old = unpack_elements(frame.pairs, operator, layout)
        # The old atom i in cell 0 is the new one in cell -shift_i.
        R_ec = old.R_tc[old.t_e] + moved_ac[atom_M[old.row_e]] - moved_ac[atom_M[old.column_e]]
        R_tc, t_e = np.unique(R_ec, axis=0, return_inverse=True)
        new = Elements(place_M[old.row_e], place_M[old.column_e], t_e.ravel(), R_tc, old.values_se)
        packed[name] = pack_elements(new, norb_a, layout, whole_blocks=False)
    pairs, operators = join_packed(packed)
    return replace(
        frame,
        positions_av=frame.positions_av[order_a] + shift_ac @ frame.cell_cv,
        species_a=frame.species_a[order_a],
        pairs=pairs,
        operators=operators,
    )


def shift_atoms(frame: Frame, shift_ac: Array) -> Frame:
    """The same structure with its atoms moved by some cells; only R of its blocks is another one."""
    old = frame.pairs
    R_pc = old.R_pc + shift_ac[old.i_p] - shift_ac[old.j_p]
    pairs = make_pairs(old.i_p, old.j_p, R_pc, old.norb_a)
    place_p = pairs.find(old.i_p, old.j_p, R_pc)
    new_x = (pairs.start_p[place_p] - old.start_p[:-1])[old.pair_x] + np.arange(old.elements)
    operators = {}
    for name, operator in frame.operators.items():
        values_sx = np.empty_like(operator.values_sx)
        values_sx[:, new_x] = operator.values_sx
        known_x = None
        if operator.known_x is not None:
            known_x = np.empty_like(operator.known_x)
            known_x[new_x] = operator.known_x
        operators[name] = replace(operator, values_sx=values_sx, known_x=known_x)
    positions_av = frame.positions_av + shift_ac @ frame.cell_cv
    return replace(frame, positions_av=positions_av, pairs=pairs, operators=operators)


def without_magnetism(frame: Frame) -> Frame:
    """The frame with a spinor DM that has no spin density: what remains is even under time reversal."""
    DM = frame.operators["DM"]
    if frame.spin is not Spin.SPINOR:
        return frame
    uu, ud, du, dd = DM.values_sx
    # Time reversal takes (uu, ud, du, dd) to (dd*, -du*, -ud*, uu*).
    even_sx = np.stack([uu + dd.conj(), ud - du.conj(), du - ud.conj(), dd + uu.conj()]) / 2
    return replace(frame, operators={**frame.operators, "DM": replace(DM, values_sx=even_sx)})


def hermitian_part(frame: Frame) -> Frame:
    """The frame with onsite blocks that equal their adjoints; the others are stored as one half and are so by themselves."""
    onsite_x, mirrored_x = frame.pairs.onsite_transposed
    operators = {}
    for name, operator in frame.operators.items():
        partners = TRANSPOSED[frame.layout(name)]
        adjoint = np.stack([operator.values_sx[s, mirrored_x].conj() for s in partners])
        if np.array_equal(operator.values_sx[:, onsite_x], adjoint):  # a prediction; a copy may be large
            operators[name] = operator
            continue
        values_sx = operator.values_sx.copy()
        values_sx[:, onsite_x] = (values_sx[:, onsite_x] + adjoint) / 2
        operators[name] = replace(operator, values_sx=values_sx)
    return replace(frame, operators=operators)
