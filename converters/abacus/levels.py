"""The k-points of an ABACUS run and the eigenvalues that it printed at some of them."""

from pathlib import Path

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.abacus import text
from converters.abacus.context import Context
from converters.abacus.convention import BOHR, RYDBERG
from converters.abacus.files import LEVELS
from converters.frames.frame import Spectrum
from converters.physics.kspace import tolerance_of_levels

# Fractions of printed k-points that are those of the mesh.
SAME_POINT = 1e-4

# Levels (eV) move by this times the root of the density error in a mixing step.
MIXED = 0.1


def read_spectrum(context: Context, is_single_point: bool) -> Spectrum | None:
    """k-points of the whole mesh, with the eigenvalues that the code printed at some of them (NaN elsewhere)."""
    own = {path.name: path for path in context.run.others}
    given, stru = context.given, context.stru
    files = [own[name] for name in LEVELS if name in own] if is_single_point else []
    levels = text.read_levels(files[0]) if files else None
    mesh = None
    if context.is_gamma_only:
        mesh = np.zeros((1, 3)), np.ones(1)
    elif (kpoints := Path(text.files_of(given)[1]).name) in own and "kspacing" not in given:
        mesh = text.read_mesh(own[kpoints])
    printed_kc, error = None, 0.0
    if levels is not None:
        to_fractions_vc = stru.cell_cv.T / (stru.lattice_constant * BOHR)
        printed_kc, error = levels.kpoints_k @ to_fractions_vc, float((levels.error_k @ np.abs(to_fractions_vc)).max())
        if mesh is not None and on_mesh(levels.kpoints_k, mesh[0]):  # older versions print fractional ones
            printed_kc = levels.kpoints_k
    if mesh is not None and (printed_kc is None or on_mesh(printed_kc, mesh[0], error)):
        (kpoints_kc, weights_k), error = mesh, 0.0
    elif levels is not None and printed_kc is not None:
        # The lowest level is full: its occupation is the weight.
        full_k = levels.occupations_skn[0, :, 0]
        kpoints_kc, weights_k = printed_kc, full_k / full_k.sum()
    else:
        return None
    channels = 2 if context.spin is Spin.COLLINEAR else 1
    energies_skn = np.empty((channels, len(weights_k), 0))
    if levels is not None and printed_kc is not None:
        energies_skn = np.full((channels, len(weights_k), levels.energies_skn.shape[2]), np.nan)
        place_k = closest_kpoint(printed_kc, kpoints_kc)
        energies_skn[:, place_k] = levels.energies_skn
    smearing = text.SMEARINGS.get(given.get("smearing_method", "gauss").lower(), "")
    width = text.number(given, "smearing_sigma", 0.015) * RYDBERG
    tolerance = tolerance_of_levels(text.number(given, "scf_thr", 1e-7), MIXED)
    return Spectrum(kpoints_kc, weights_k, energies_skn, tolerance, smearing, width, "nupdown" in given, error)


def closest_kpoint(printed_kc: Array, mesh_kc: Array) -> Array:
    """Index of the mesh point that each printed k-point is, up to a reciprocal lattice vector."""
    between = printed_kc[:, None] - mesh_kc
    return np.abs(between - np.round(between)).max(axis=-1).argmin(axis=1)


def on_mesh(printed_kc: Array, mesh_kc: Array, error: float = 0.0) -> bool:
    between = printed_kc - mesh_kc[closest_kpoint(printed_kc, mesh_kc)]
    return bool(np.abs(between - np.round(between)).max(initial=0) <= max(SAME_POINT, error))
