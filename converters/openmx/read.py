"""Frames of OpenMX's runs, from .scfout and the main output."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from basis import Array
from basis.conventions import to_standard
from basis.shells import Species, cell_shells
from basis.spin import Spin
from basis.units import HARTREE, KELVIN
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements, Packed, Pairs, join_packed, pack_elements, pack_pairs, reorder_elements
from converters.frames.frame import Frame, Outcome, Provenance, Spectrum
from converters.frames.orbitals import harmonics_of
from converters.frames.origin import AVERAGED, REORDERED, FileForm, Origin, Step, Treatment, origins_read, scaled
from converters.openmx.convention import BOHR, LAYOUT, convention
from converters.openmx.missing_neighbours import require_all_neighbours
from converters.openmx.scfout import ScfOut, read_scfout
from converters.openmx.text import PRINTED, Input, Output, parse_input, place_kpoints, read_output, read_species
from converters.physics.kspace import tolerance_of_levels

NAME = "openmx"

# Between the coarse points of OpenMX's tables its d and f functions are not normalised: S_ii is off by up to 0.015 in its own runs.
OVERLAP_ERROR = 0.03

# Levels (eV) move by this times the root of ten criteria in a mixing step.
MIXED = 0.3

CRITERION = "1e-6"  # what OpenMX takes where the input has no scf.criterion

CLUSTER = 2  # the solver that works at Gamma alone


# Keywords of the input that a frame keeps.
NOTED = (
    "scf.XcType",
    "scf.Kgrid",
    "scf.EigenvalueSolver",
    "scf.SpinPolarization",
    "scf.SpinOrbit.Coupling",
    "DATA.PATH",
    "1DFFT.EnergyCutoff",
)


def find_runs(folder: Path, files: list[Path]) -> Iterator[Run]:
    """One run for each .scfout file; its main output has the same name."""
    for path in files:
        if path.suffix == ".scfout":
            yield Run(NAME, folder, (path,), tuple(other for other in files if other == path.with_suffix(".out")))


def read_run(run: Run) -> Iterator[Frame]:
    stored = read_scfout(run.main)
    given = parse_input(stored.text, run.main)
    basis, species_a = read_species(run.main, given, stored.norb_a)
    require_all_neighbours(stored, basis, species_a)
    spin = LAYOUT[stored.spin_switch]
    output = read_output(run.others[0], given, spin is Spin.SPINOR) if run.others else Output()
    packed = packed_of(stored, given, basis, species_a)
    pairs, operators = join_packed(packed)
    spectrum = spectrum_of(stored, output, given, spin)
    yield Frame(
        cell_cv=stored.cell_cv * BOHR,
        pbc_c=np.ones(3, dtype=bool),
        positions_av=stored.positions_av * BOHR,
        species_a=species_a,
        basis=basis,
        pairs=pairs,
        spin=spin,
        operators=operators,
        outcome=outcome_of(stored, output, spin),
        spectrum=spectrum,
        provenance=Provenance(
            NAME,
            output.version or {0: "3.8 or older", 3: "3.9"}.get(stored.version, "3.7 to 3.9"),
            str(run.main),
            run.source,
            files=run.digests(run.main, *run.others),
            settings={word: given.words.get(word.lower()) for word in NOTED} | {"scfout version": stored.version},
            notes=notes_of(given, spectrum),
            origins=origins_of(run, tuple(operators), spin),
            form=FileForm(harmonics=harmonics_of(basis, convention)),
            measured={f"asymmetry of {name}": item.asymmetry for name, item in packed.items()},
        ),
    )


def notes_of(given: Input, spectrum: Spectrum | None) -> tuple[str, ...]:
    """What a person should know of the levels."""
    if spectrum is None:
        return ()
    notes = []
    if "scf.criterion" not in given.words:
        notes += [f"the input has no scf.criterion; OpenMX's default, {CRITERION}, was taken"]
    if not spectrum.smearing:
        count = len(spectrum.weights_k)
        notes += [f"the {count} k-points in the output are not those of scf.Kgrid; how levels were filled is not known"]
    return tuple(notes)


def packed_of(stored: ScfOut, given: Input, basis: Sequence[Species], species_a: Array) -> dict[str, Packed]:
    """The matrices in our orbitals, units and normalisation, each on its own pairs."""
    spin, pairs = LAYOUT[stored.spin_switch], Pairs(stored.i_q, stored.j_q, stored.R_qc, stored.norb_a)
    uses_imaginary = given.is_on("scf.spinorbit.coupling") or given.is_on("scf.hubbard.u")
    values = {
        "H": hamiltonian_of(stored, pairs, uses_imaginary) * HARTREE,
        "S": stored.values["S"],
        "DM": density_of(stored, pairs),
    }
    if not values["H"].any():
        raise Refused(Kind.UNFINISHED_SCF, stored.path, "holds H = 0", "a finished SCF")
    layouts = {"H": spin, "S": Spin.NONE, "DM": spin}
    return {
        name: pack_elements(elements_of(pairs, M_se, basis, species_a), stored.norb_a, layouts[name])
        for name, M_se in values.items()
    }


def outcome_of(stored: ScfOut, output: Output, spin: Spin) -> Outcome:
    return Outcome(
        energy=None if output.energy is None else output.energy * HARTREE,
        fermi=stored.fermi * HARTREE,
        electrons=stored.electrons,
        moment=stored.moment if spin is Spin.COLLINEAR else None,
        converged=output.converged,
        iterations=output.iterations,
    )


def origins_of(run: Run, names: tuple[str, ...], spin: Spin) -> dict[str, Origin]:
    """Where each matrix is from."""
    files = dict.fromkeys(names, (run.main.name,))
    origins = origins_read(files, REORDERED, AVERAGED, energies=scaled(HARTREE, "eV per Ha"))
    origins["S"] = replace(origins["S"], error=OVERLAP_ERROR)
    density = {Spin.NONE: scaled(2, "one spin is stored"), Spin.SPINOR: Treatment(Step.CONJUGATED)}.get(spin)
    if density is not None:
        origins["DM"] = replace(origins["DM"], treatments=(density, *origins["DM"].treatments))
    return origins


def hamiltonian_of(stored: ScfOut, pairs: Pairs, uses_imaginary: bool) -> Array:
    """H of each spin component: (up), (up, down) or (uu, ud, du, dd)."""
    H_sx = stored.values["H"]
    if stored.spin_switch != 3:
        return H_sx
    iH_sx = stored.values["iH"] if uses_imaginary else np.zeros((3, H_sx.shape[1]))
    ud_x = H_sx[2] + 1j * (H_sx[3] + iH_sx[2])
    du_x = ud_x[partners(pairs, stored.path)].conj()
    return np.stack([H_sx[0] + 1j * iH_sx[0], ud_x, du_x, H_sx[1] + 1j * iH_sx[1]])


def density_of(stored: ScfOut, pairs: Pairs) -> Array:
    """DM in our normalisation: both spins, (up, down), or the projector's (uu, ud, du, dd)."""
    DM_sx = stored.values["DM"]
    if stored.spin_switch != 3:
        return 2 * DM_sx if stored.spin_switch == 0 else DM_sx
    if not len(stored.values["iDM"]):
        found = "lacks the imaginary part of DM, as noncollinear files of OpenMX 3.8 do"
        raise Refused(Kind.FAULTY_VERSION, stored.path, found, "a run of OpenMX 3.9")
    iDM_sx = stored.values["iDM"]
    ud_x = DM_sx[2] - 1j * DM_sx[3]
    du_x = ud_x[partners(pairs, stored.path)].conj()
    return np.stack([DM_sx[0] - 1j * iDM_sx[0], ud_x, du_x, DM_sx[1] - 1j * iDM_sx[1]])


def partners(pairs: Pairs, path: Path) -> Array:
    """Place of the transposed element of each element, in the block (j, i, -R)."""
    order = np.argsort(pairs.key_p)
    wanted_p = pack_pairs(pairs.j_p, pairs.i_p, -pairs.R_pc, len(pairs.norb_a), pairs.reach)
    place_p = order[np.minimum(np.searchsorted(pairs.key_p[order], wanted_p), len(order) - 1)]
    if (pairs.key_p[place_p] != wanted_p).any():
        p = int(np.argmax(pairs.key_p[place_p] != wanted_p))
        pair = f"({pairs.i_p[p] + 1}, {pairs.j_p[p] + 1}, {pairs.R_pc[p].tolist()})"
        raise Refused(Kind.DAMAGED, path, f"has the pair {pair} and lacks its partner", "both")
    inside_x = np.arange(pairs.elements) - pairs.start_p[pairs.pair_x]
    row_x, column_x = np.divmod(inside_x, pairs.norb_a[pairs.j_p][pairs.pair_x])
    return pairs.start_p[place_p][pairs.pair_x] + column_x * pairs.norb_a[pairs.i_p][pairs.pair_x] + row_x


def elements_of(pairs: Pairs, values_sx: Array, basis: Sequence[Species], species_a: Array) -> Elements:
    """Both halves of a matrix as elements in our orbital order."""
    row_x, column_x = pairs.row_column_x
    R_tc, t_p = np.unique(pairs.R_pc, axis=0, return_inverse=True)
    order, signs = to_standard(cell_shells(basis, species_a), convention)
    return reorder_elements(Elements(row_x, column_x, t_p.ravel()[pairs.pair_x], R_tc, values_sx), order, signs)


def spectrum_of(stored: ScfOut, output: Output, given: Input, spin: Spin) -> Spectrum | None:
    """The run's k-points and printed eigenvalues, with their filling at the electronic temperature."""
    if output.kpoints_kc is None or output.energies_skn is None:
        return None
    mesh, criterion = given.words.get("scf.kgrid", "4 4 4"), given.words.get("scf.criterion", CRITERION)
    try:
        mesh_c = np.array([int(n) for n in mesh.split()[:3]]).reshape(3)
        tolerance = tolerance_of_levels(10 * float(criterion.split()[0]), MIXED)
    except ValueError as error:
        found = f'has "scf.Kgrid {mesh}" and "scf.criterion {criterion}" in its input'
        raise Refused(Kind.DAMAGED, stored.path, found, "three numbers and one") from error
    if given.is_cluster or stored.solver == CLUSTER:  # in a cell a cluster is stored as a band calculation
        mesh_c = np.ones(3, dtype=int)
    energies_skn = output.energies_skn[: 2 if spin is Spin.COLLINEAR else 1] * HARTREE
    placed, width = place_kpoints(output.kpoints_kc, mesh_c), stored.temperature * KELVIN
    if placed is None:
        equal_k = np.full(len(output.kpoints_kc), 1 / len(output.kpoints_kc))
        return Spectrum(output.kpoints_kc, equal_k, energies_skn, tolerance, width=width, kpoint_error=PRINTED)
    whole = abs(placed[1].sum() - 1) < 1e-9
    return Spectrum(*placed, energies_skn, tolerance, "fermi" if whole else "", width)
