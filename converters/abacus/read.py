"""Frames of ABACUS runs: matrices of each ionic step, with what input, structure and log say."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from basis import Array
from basis.conventions import to_standard
from basis.shells import cell_shells
from basis.spin import Spin
from converters.abacus import csr, text
from converters.abacus.context import MOVING, Context
from converters.abacus.convention import BOHR, LAYOUT, RYDBERG, convention
from converters.abacus.csr import Step
from converters.abacus.faults import doubt_of_density, refuse_broken, refuse_old_sign, refuse_other_spins
from converters.abacus.files import DENSE_FILES, DENSE_NAMES, NAME, per_step_names
from converters.abacus.levels import note_of_levels, read_spectrum
from converters.abacus.spins import join_spins
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.frames.blocks import Elements, Packed, join_packed, pack_elements, reorder_elements
from converters.frames.folding import Images
from converters.frames.frame import Frame, Outcome, Provenance
from converters.frames.orbitals import harmonics_of
from converters.frames.origin import AVERAGED, FOLDED, REORDERED, FileForm, Origin, Parts, origins_read, scaled


def read_run(run: Run) -> Iterator[Frame]:
    """One frame for each ionic step whose matrices the run wrote."""
    own = {path.name: path for path in run.others}
    given = text.read_input(own["INPUT"]) if "INPUT" in own else {}
    for name in ("INPUT", text.files_of(given)[0]):
        if Path(name).name not in own:
            raise Refused(
                Kind.MISSING_FILES, run.main, f"has no {name} beside or above it", "the folder in which ABACUS ran"
            )
    if run.main.name == "INPUT":
        raise Refused(
            Kind.NO_RUN,
            run.folder,
            "holds no matrices; switch on out_mat_hs2 1 and out_dmr 1 (out_dm1 1 before 3.9) and rerun",
        )
    stru = text.read_stru(own[Path(text.files_of(given)[0]).name], given.get("latname", "none"))
    log_path = next((path for path in run.others if path.name.startswith("running_")), None)
    log = text.read_log(log_path) if log_path else text.Log()
    components = text.spin_components(own["INPUT"], given)
    refuse_other_spins(run, components, log)
    basis = text.read_species(run.main, stru, log, text.orbital_places(run.folder, given))
    context = Context(run, given, stru, log, basis, LAYOUT[components])
    steps = read_gamma_only(context) if any(p.name in DENSE_NAMES for p in run.matrices) else read_csr(context)
    for number, (matrices, used) in enumerate(steps):
        yield make_frame(context, number, matrices, used)


def read_csr(context: Context) -> Iterator[tuple[dict[str, list[Step]], dict[str, list[Path]]]]:
    """Matrices of each ionic step: name to one step of each spin, and the files that they are from."""
    present = {path.name: path for path in context.run.matrices}
    spins = 2 if context.spin is Spin.COLLINEAR else 1
    for names in per_step_names(present, spins):
        files = {name: [present[f] for f in wanted if f in present] for name, wanted in names.items()}
        files = {name: paths for name, paths in files.items() if paths}
        for name, paths in files.items():
            if len(paths) != len(names[name]):
                raise Refused(Kind.NO_RUN, paths[0], "is alone", f"{' and '.join(names[name])}")
        if "S" not in files:
            found = next(iter(names.values()))[0]
            raise Refused(
                Kind.MISSING_FILES,
                context.run.main,
                f"has no overlap beside {found}",
                f"{names.get('S', ['srs1_nao.csr'])[0]}",
            )
        read = {name: [csr.read_steps(path) for path in paths] for name, paths in files.items()}
        counts = {name: len(steps[0]) for name, steps in read.items()}
        if len({len(steps) for parts in read.values() for steps in parts}) != 1:
            raise Refused(
                Kind.DAMAGED, context.run.main, f"has different numbers of ionic steps in its files: {counts}"
            )
        if counts["S"] > 1 and context.calculation not in MOVING:
            found = f'has {counts["S"]} ionic steps; INPUT says "calculation {context.calculation}"'
            raise Refused(Kind.DAMAGED, files["S"][0], found, f"one of {', '.join(MOVING)}")
        for n in range(counts["S"]):
            yield {name: [steps[n] for steps in parts] for name, parts in read.items()}, files


def read_gamma_only(context: Context) -> Iterator[tuple[dict[str, list[Step]], dict[str, list[Path]]]]:
    """Dense matrices of a gamma_only run: the sum over all images of each block, given to the closest one.

    Of a run of several ionic steps the first is read: it is that of STRU, and these files do not have the atoms of the others.
    """
    files = dense_files(context)
    stru, norb_a = context.stru, context.norb_a
    images, norb = Images.of(stru.positions_av, stru.cell_cv), int(norb_a.sum())
    row_e, column_e = (index.ravel() for index in np.indices((norb, norb)))
    home_tc = np.zeros((1, 3), dtype=np.int64)
    steps: dict[str, list[Step]] = {}
    for name, paths in files.items():
        steps[name] = []
        for path in paths:
            M_MM = csr.read_dense(path)
            if len(M_MM) != norb:
                raise Refused(Kind.DAMAGED, path, f"has {len(M_MM)} orbitals", f"{norb}")
            dense = Elements(row_e, column_e, np.zeros_like(row_e), home_tc, M_MM.reshape(1, -1))
            steps[name].append(Step(1, norb, images.place(dense, norb_a)))
    yield steps, files


def dense_files(context: Context) -> dict[str, list[Path]]:
    """The dense matrices of a run, one file for each spin."""
    present = {path.name: path for path in context.run.matrices}
    spins = 2 if context.spin is Spin.COLLINEAR else 1
    found = {}
    for generation in DENSE_FILES:
        if len(generation["H"]) == spins:
            for name, names in generation.items():
                if name not in found and all(file in present for file in names):
                    found[name] = [present[file] for file in names]
    if "S" not in found:
        raise Refused(Kind.MISSING_FILES, context.run.main, "has no overlap beside it", "sk_nao.txt (out_mat_hs 1)")
    return found


def make_frame(context: Context, number: int, matrices: dict[str, list[Step]], used: dict[str, list[Path]]) -> Frame:
    spin = context.spin
    positions_av = positions_of(context, matrices, used)
    packed = pack(context, matrices, used)
    refuse_broken(packed, spin, used)
    scale = {"H": RYDBERG, "S": 1.0, "DM": 1.0}
    pairs, operators = join_packed(packed)
    operators = {name: replace(o, values_sx=o.values_sx * scale[name]) for name, o in operators.items()}
    if "DM" in operators and spin is Spin.SPINOR:
        refuse_old_sign(context, operators["DM"].values_sx, used["DM"][0])
    is_single_point = context.calculation not in MOVING
    folded = context.is_gamma_only and has_second_images(context)
    measured = {f"asymmetry of {name}": item.asymmetry * scale[name] for name, item in packed.items()}
    spectrum = read_spectrum(context, is_single_point)
    provenance = provenance_of(context, number, used, measured, origins_of(context, used, folded))
    return Frame(
        cell_cv=context.stru.cell_cv,
        pbc_c=np.ones(3, dtype=bool),
        positions_av=positions_av,
        species_a=context.stru.species_a,
        basis=context.basis,
        pairs=pairs,
        spin=spin,
        operators=operators,
        outcome=outcome_of(context, is_single_point),
        spectrum=spectrum,
        provenance=replace(provenance, notes=(*note_of_levels(context, spectrum), *provenance.notes)),
        folded=folded,
    )


def pack(context: Context, matrices: dict[str, list[Step]], used: dict[str, list[Path]]) -> dict[str, Packed]:
    """Matrices in our convention, energies still in Ry; each is let go of when it is packed."""
    order, signs = to_standard(cell_shells(context.basis, context.stru.species_a), convention)
    packed = {}
    for name in list(matrices):
        steps = matrices.pop(name)
        if any(step.norb != context.dimension for step in steps):
            found = f"has {steps[0].norb} basis functions"
            raise Refused(Kind.DAMAGED, used[name][0], found, f"{context.dimension} of structure and orbitals")
        joined = reorder_elements(join_spins(name, steps, context.spin), order, signs)
        packed[name] = pack_elements(joined, context.norb_a, Spin.NONE if name == "S" else context.spin)
    return packed


def outcome_of(context: Context, is_single_point: bool) -> Outcome:
    """What the log says; of a run with several steps only what holds for all of them."""
    log = context.log
    wanted = text.number(context.given, "nelec", 0)
    electrons = wanted if wanted > 0 else log.electrons
    if not is_single_point:
        return Outcome(electrons=electrons, converged=log.converged)
    moment = log.moment if context.spin is Spin.COLLINEAR else None
    return Outcome(log.energy, log.fermi, electrons, moment, log.converged, log.iterations)


def origins_of(context: Context, used: dict[str, list[Path]], folded: bool) -> dict[str, Origin]:
    """Where each matrix is from; a DM that the code may have written wrong says so."""
    treatments = (REORDERED, AVERAGED, *([FOLDED] if folded else []))
    files = {name: tuple(path.name for path in paths) for name, paths in used.items()}
    origins = origins_read(files, *treatments, energies=scaled(RYDBERG, "eV per Ry"))
    if "DM" in origins:
        parts = Parts.REAL_PAULI if context.spin is Spin.SPINOR else Parts.ALL
        origins["DM"] = replace(origins["DM"], parts=parts, doubt=doubt_of_density(context))
    return origins


def provenance_of(
    context: Context,
    number: int,
    used: dict[str, list[Path]],
    measured: dict[str, float],
    origins: dict[str, Origin],
) -> Provenance:
    run = context.run
    guessed = [species.name for species in context.basis if species.name not in context.log.orbitals]
    note = f"no log has the orbitals; those of {', '.join(guessed)} are from the names of the orbital files"
    return Provenance(
        NAME,
        context.log.version,
        str(run.main),
        run.source,
        number,
        files=run.digests(*(path for paths in used.values() for path in paths), *run.others),
        settings={"calculation": context.calculation, "nspin": context.spin.components},
        measured=measured,
        notes=(note,) if guessed else (),
        origins=origins,
        form=FileForm(harmonics=harmonics_of(context.basis, convention)),
    )


def positions_of(context: Context, matrices: dict[str, list[Step]], used: dict[str, list[Path]]) -> Array:
    """Positions of the step (Angstrom): those in the matrix file where it has them, in the cell of STRU."""
    step, path, stru = matrices["S"][0], used["S"][0], context.stru
    moves = context.calculation in MOVING
    if step.fractional_ac is None or step.cell_cv is None:
        if moves and not context.is_gamma_only:
            raise Refused(
                Kind.UNSUPPORTED,
                path,
                "does not carry the structure of its ionic steps; convert single-point runs of them",
            )
        return stru.positions_av
    if step.fractional_ac.shape != stru.positions_av.shape:
        raise Refused(Kind.DAMAGED, path, f"has {len(step.fractional_ac)} atoms; STRU has {len(stru.positions_av)}")
    if np.abs(step.cell_cv - stru.cell_cv).max() > 2e-5 * max(1.0, np.abs(stru.cell_cv).max()):
        reason = "is of another cell than STRU and has only 6 digits of its own; convert single-point runs of its steps"
        raise Refused(Kind.UNSUPPORTED, path, reason)
    positions_av = step.fractional_ac @ stru.cell_cv
    between_ac = np.linalg.solve(stru.cell_cv.T, (positions_av - stru.positions_av).T).T
    if not moves and np.abs(between_ac - np.round(between_ac)).max() > 1e-5:
        raise Refused(Kind.MISSING_FILES, path, "is of other positions than STRU", "the STRU of the run")
    return positions_av


def has_second_images(context: Context) -> bool:
    """True when the radii in the names of the orbital files (.._6au_..) reach a second image of some atom."""
    names = [re.search(r"_(\d+(?:\.\d+)?)au_", species.radial) for species in context.basis]
    radii = np.array([float(match[1]) * BOHR if match else np.inf for match in names])
    radius_a = radii[context.stru.species_a]
    everywhere_aa = np.zeros((len(radius_a), len(radius_a)), dtype=bool)  # dense matrices do not show how far H reaches
    images = Images.of(context.stru.positions_av, context.stru.cell_cv)
    return images.are_summed(everywhere_aa, np.add.outer(radius_a, radius_a))
