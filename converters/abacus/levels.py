"""The k-points of an ABACUS run and the eigenvalues that it printed at some of them."""

from pathlib import Path

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.abacus import text
from converters.abacus.context import Context
from converters.abacus.convention import BOHR, RYDBERG
from converters.abacus.faults import leaves_out_kpoints
from converters.abacus.files import LEVELS
from converters.abacus.log import Levels, read_levels
from converters.abacus.structures import Geometry
from converters.frames.frame import Spectrum
from converters.physics.kspace import tolerance_of_levels

# Fractions of printed k-points that are those of the mesh.
SAME_POINT = 1e-4

# What ABACUS takes where INPUT says nothing; its versions differ in it.
DEFAULTS = {"smearing_method": "gauss", "smearing_sigma": "0.015", "scf_thr": "1e-7"}

# Levels (eV) of an nscf run are those of the density that the SCF wrote with four digits; silicon's are 1e-5 from those of H.
WRITTEN_DENSITY = 1e-3

OF_NSCF = "INPUT is of a run for bands (nscf): how the SCF before it filled its levels is not known, so DM can neither be compared with H nor be built"

# Levels (eV) move by this times the root of the density error in a mixing step.
MIXED = 0.1


def read_spectrum(context: Context, number: int, geometry: Geometry) -> Spectrum | None:
    """k-points of the whole mesh, with the eigenvalues that the code printed at some of them in a step (NaN elsewhere)."""
    own = {path.name: path for path in context.run.others}
    given = context.given
    files = [own[name] for name in LEVELS if name in own]
    points = context.log.kept_kpoints or context.log.kpoints
    levels = read_levels(files[0], number if context.moves else None, points) if files else None
    mesh = mesh_of_run(context, own)
    printed_kc, error = (None, 0.0) if levels is None else fractions_of(context, geometry, levels)
    is_whole = True
    if mesh is not None and (printed_kc is None or on_mesh(printed_kc, mesh[0], error)):
        (kpoints_kc, weights_k), error = mesh, 0.0
    elif levels is not None and printed_kc is not None:
        # The lowest level is full: its occupation is the weight.
        full_k = levels.occupations_skn[0, :, 0]
        kpoints_kc, weights_k = printed_kc, full_k / full_k.sum()
        is_whole = not leaves_out_kpoints(context)
    else:
        return None
    channels = 2 if context.spin is Spin.COLLINEAR else 1
    energies_skn = np.empty((channels, len(weights_k), 0))
    if levels is not None and printed_kc is not None:
        energies_skn = np.full((channels, len(weights_k), levels.energies_skn.shape[2]), np.nan)
        place_k = closest_kpoint(printed_kc, kpoints_kc)
        energies_skn[:, place_k] = levels.energies_skn
    smearing = text.SMEARINGS.get(given.get("smearing_method", DEFAULTS["smearing_method"]).lower(), "")
    sigma, threshold = (text.number(given, word, float(DEFAULTS[word])) for word in ("smearing_sigma", "scf_thr"))
    width, tolerance = sigma * RYDBERG, tolerance_of_levels(threshold, MIXED)
    if context.is_nscf and levels is not None and len(levels.kpoints_k) != points:
        tolerance = max(tolerance, WRITTEN_DENSITY)
    return Spectrum(
        kpoints_kc,
        weights_k,
        energies_skn,
        tolerance,
        smearing if is_whole and not context.is_nscf else "",
        width,
        "nupdown" in given,
        error,
    )


def mesh_of_run(context: Context, own: dict[str, Path]) -> tuple[Array, Array] | None:
    """The k mesh of kspacing or of KPT, the one that has as many points as the log says; where no log says it, KPT may be of before kspacing."""
    if context.is_gamma_only:
        return np.zeros((1, 3)), np.ones(1)
    if context.is_nscf:
        return None
    name = Path(text.files_of(context.given)[1]).name
    count, has_spacing = context.log.kpoints, text.number(context.given, "kspacing", 0) > 0
    meshes = [text.mesh_of_spacing(own["INPUT"], context.stru.cell_cv)]
    if name in own and (count is not None or not has_spacing):
        meshes.append(text.read_mesh(own[name]))
    known = [mesh for mesh in meshes if mesh is not None]
    return next((mesh for mesh in known if count in (None, len(mesh[1]))), None)


def fractions_of(context: Context, geometry: Geometry, levels: Levels) -> tuple[Array, float]:
    """The fractions of printed k-points, and how far their digits are off."""
    if levels.fractional:
        return levels.kpoints_k, float(levels.error_k.max())
    to_fractions_vc = geometry.cell_cv.T / (context.stru.lattice_constant * BOHR)
    return levels.kpoints_k @ to_fractions_vc, float((levels.error_k @ np.abs(to_fractions_vc)).max())


def note_of_levels(context: Context, spectrum: Spectrum | None) -> tuple[str, ...]:
    """What a person should know of the levels: what INPUT does not say, and k-points that are not whole."""
    if spectrum is None:
        return ()
    if context.is_nscf:
        return (OF_NSCF,)
    notes = defaults_taken(context.given)
    if not spectrum.smearing and leaves_out_kpoints(context):
        wanted = "the KPT of the run and its log" if "kspacing" in context.given else "the KPT of the run"
        notes += (f"symmetry left out some k-points, and DM cannot be compared or built without {wanted}",)
    return notes


def defaults_taken(given: dict[str, str]) -> tuple[str, ...]:
    """A note on what INPUT does not say about levels."""
    needed = [word for word in DEFAULTS if word != "smearing_sigma" or given.get("smearing_method", "") != "fixed"]
    missing = [f"{word} ({DEFAULTS[word]})" for word in needed if word not in given]
    return (f"INPUT has no {', '.join(missing)}: ABACUS's defaults were taken",) if missing else ()


def closest_kpoint(printed_kc: Array, mesh_kc: Array) -> Array:
    """Index of the mesh point that each printed k-point is, up to a reciprocal lattice vector."""
    between = printed_kc[:, None] - mesh_kc
    return np.abs(between - np.round(between)).max(axis=-1).argmin(axis=1)


def on_mesh(printed_kc: Array, mesh_kc: Array, error: float = 0.0) -> bool:
    between = printed_kc - mesh_kc[closest_kpoint(printed_kc, mesh_kc)]
    return bool(np.abs(between - np.round(between)).max(initial=0) <= max(SAME_POINT, error))
