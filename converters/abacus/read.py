"""Frames of ABACUS runs: matrices of each ionic step, with what input, structure and log say."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from basis.conventions import to_standard
from basis.shells import cell_shells
from basis.spin import Spin
from converters.abacus import text
from converters.abacus.context import MOVING, Context
from converters.abacus.convention import BOHR, LAYOUT, RYDBERG, convention
from converters.abacus.csr import Step
from converters.abacus.faults import doubt_of_density, refuse_broken, refuse_old_sign, refuse_other_spins
from converters.abacus.files import NAME, NSCF, log_name, other_files
from converters.abacus.levels import note_of_levels, read_spectrum
from converters.abacus.log import Log, Scf, read_log
from converters.abacus.spins import join_spins
from converters.abacus.steps import IonicStep, read_steps
from converters.abacus.structures import Geometry, geometry_of, structures_of
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.frames.blocks import Packed, join_packed, pack_elements, reorder_elements
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
    log_path = next((path for path in run.others if path.name.startswith("running_")), None)
    if run.main.name == "INPUT":
        raise without_matrices(run, given, log_path)
    stru = text.read_stru(own[Path(text.files_of(given)[0]).name], given.get("latname", "none"))
    log = log_of_run(log_path)
    components = text.spin_components(own["INPUT"], given)
    refuse_other_spins(run, components, log)
    basis = text.read_species(run.main, stru, log, text.orbital_places(run.folder, given))
    yield from read_frames(Context(run, given, stru, log, basis, LAYOUT[components]))


def without_matrices(run: Run, given: dict[str, str], log_path: Path | None) -> Refused:
    """Why a folder with an INPUT has no matrix that is read."""
    wanted = "out_mat_hs2 1 and out_dmr 1 (out_dm1 1 before 3.9)"
    if text.flag(given, "gamma_only") == "1":
        wanted = "out_mat_hs 1 and out_dmk 1 (out_dm 1 before 3.9)"
    place = run.main.parent
    packed, of_kpoint = other_files(run.claimed[0] if run.claimed else place)
    if packed:
        return Refused(
            Kind.NO_RUN, run.folder, f"holds packed matrices ({packed})", "the files themselves; unpack them"
        )
    if of_kpoint:
        found = f"holds matrices of k-points ({of_kpoint}), which are not read; switch on {wanted} and rerun"
        return Refused(Kind.NO_RUN, place, found)
    if log_path is None:
        return Refused(Kind.NO_RUN, place, f"has not run: it has no log of ABACUS; switch on {wanted}")
    return Refused(Kind.NO_RUN, place, f"holds no matrices; switch on {wanted} and rerun")


def log_of_run(path: Path | None) -> Log:
    """What the log of a run says; that of an nscf run has another energy, and calls itself converged whatever the SCF before it was."""
    if path is None:
        return Log()
    log = read_log(path)
    return replace(log, last=Scf(), steps={}, of_nscf=True) if path.name == log_name(NSCF) else log


def read_frames(context: Context) -> Iterator[Frame]:
    """The frames of the steps whose structure is known; the last one says which are not."""
    told = structures_of(context)
    held, left_out = None, []
    for n, step in enumerate(read_steps(context)):
        if n and not context.moves:
            found = f'has several ionic steps; INPUT says "calculation {context.calculation}"'
            raise Refused(Kind.DAMAGED, step.files["S"][0], found, f"one of {', '.join(MOVING)}")
        geometry = geometry_of(context, step.number, step.parts, step.files, told)
        if geometry is None:
            left_out.append(str(step.number))
            continue
        if held is not None:
            yield held
        held = make_frame(context, n, step, geometry)
    if held is None:
        reason = (
            "does not carry the structure of its ionic steps, and no MD_dump has it; convert single-point runs of them"
        )
        raise Refused(Kind.UNSUPPORTED, context.run.main, reason)
    note = f"ionic steps whose structure is in no file are not read: {', '.join(left_out)}"
    provenance = replace(held.provenance, notes=(*held.provenance.notes, *([note] if left_out else [])))
    yield replace(held, provenance=provenance)


def make_frame(context: Context, number: int, step: IonicStep, geometry: Geometry) -> Frame:
    spin = context.spin
    matrices = step.parts
    if context.is_gamma_only:
        images = Images.of(geometry.positions_av, geometry.cell_cv)
        matrices = {name: [at_images(part, images, context) for part in parts] for name, parts in matrices.items()}
    rounding = max((part.rounding for name in ("H", "S") for part in matrices.get(name, ())), default=0.0)
    packed = pack(context, matrices, step.files)
    refuse_broken(packed, spin, step.files)
    scale = {"H": RYDBERG, "S": 1.0, "DM": 1.0}
    pairs, operators = join_packed(packed)
    operators = {name: replace(o, values_sx=o.values_sx * scale[name]) for name, o in operators.items()}
    if "DM" in operators and spin is Spin.SPINOR:
        refuse_old_sign(context, operators["DM"].values_sx, step.files["DM"][0])
    folded = context.is_gamma_only and has_second_images(context, geometry)
    measured = {f"asymmetry of {name}": item.asymmetry * scale[name] for name, item in packed.items()}
    spectrum = read_spectrum(context, step.number, geometry)
    if spectrum is not None:
        spectrum = replace(spectrum, matrix_rounding=rounding)
    provenance = provenance_of(context, number, step.files, measured, origins_of(context, step.files, folded))
    return Frame(
        cell_cv=geometry.cell_cv,
        pbc_c=np.ones(3, dtype=bool),
        positions_av=geometry.positions_av,
        species_a=context.stru.species_a,
        basis=context.basis,
        pairs=pairs,
        spin=spin,
        operators=operators,
        outcome=outcome_of(context, step.number),
        spectrum=spectrum,
        provenance=replace(provenance, notes=(*note_of_levels(context, spectrum), *provenance.notes)),
        folded=folded,
    )


def at_images(step: Step, images: Images, context: Context) -> Step:
    """The sums over all images of blocks, given to the closest ones."""
    if step.norb != context.dimension:
        return step  # `pack` says so
    return replace(step, matrix=images.place(step.matrix, context.norb_a))


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


def outcome_of(context: Context, number: int) -> Outcome:
    """What the log says of the SCF of a step."""
    log = context.log
    wanted = text.number(context.given, "nelec", 0)
    electrons = wanted if wanted > 0 else log.electrons
    if context.moves and number not in log.steps:
        return Outcome(electrons=electrons, converged=log.last.converged)
    scf = log.steps[number] if context.moves else log.last
    moment = scf.moment if context.spin is Spin.COLLINEAR else None
    return Outcome(scf.energy, scf.fermi, electrons, moment, scf.converged, scf.iterations)


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


def has_second_images(context: Context, geometry: Geometry) -> bool:
    """True when the radii in the names of the orbital files (.._6au_..) reach a second image of some atom."""
    names = [re.search(r"_(\d+(?:\.\d+)?)au_", species.radial) for species in context.basis]
    radii = np.array([float(match[1]) * BOHR if match else np.inf for match in names])
    radius_a = radii[context.stru.species_a]
    everywhere_aa = np.zeros((len(radius_a), len(radius_a)), dtype=bool)  # dense matrices do not show how far H reaches
    images = Images.of(geometry.positions_av, geometry.cell_cv)
    return images.are_summed(everywhere_aa, np.add.outer(radius_a, radius_a))
