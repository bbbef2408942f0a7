"""The TSHS file of a device or an electrode for tbtrans, which takes all energies from the Fermi level that stands in it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from basis.units import KELVIN
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.physics import kspace
from converters.physics.locality import joined_axes, mesh_of_length
from converters.physics.sparse import Source
from converters.siesta.parts import PatternInParts
from converters.siesta.write import Pattern, write_hamiltonian
from converters.starts.density import LARGEST_DENSE
from converters.starts.start import Options, Written

# For the Fermi level of an H of which no run says it: distance of the k-points (1/Angstrom, with 2 pi), how many there may be, temperature (K).
SPACING, MOST_KPOINTS, TEMPERATURE = 0.1, 400, 300.0


def write(frame: Frame, folder: Path, options: Options) -> Written:
    """slem.TSHS, with the Fermi level that is given, else that of the run, else that of the levels of H."""
    missing = [name for name in ("H", "S") if name not in frame.operators]
    if missing:
        raise Refused(Kind.MISSING_MATRIX, frame.place, f"holds no {' and no '.join(missing)}", "both")
    if frame.folded:
        found = "has blocks that are sums over the images of a k mesh, so that nothing says which of them lead into an electrode"
        raise Refused(Kind.UNSUPPORTED, frame.place, found, "a run with ForceAuxCell true or k-points along the wire")
    return write_pattern(frame, lambda: Pattern.of(frame), folder, options)


def write_source(source: Source, folder: Path, options: Options) -> Written:
    """The same of a large frame, which is not held."""
    return write_pattern(source.outline, lambda: PatternInParts(source), folder, options)


def write_pattern(frame: Frame, make_pattern: Callable[[], Pattern], folder: Path, options: Options) -> Written:
    """The file of a frame, or of the outline of one whose pattern reads the matrices."""
    fermi, note = fermi_level(frame, options)
    path = folder / "slem.TSHS"
    write_hamiltonian(replace(frame, outcome=replace(frame.outcome, fermi=fermi)), make_pattern(), path)
    return Written((path,), {}, (note,))


def fermi_level(frame: Frame, options: Options) -> tuple[float, str]:
    """The Fermi level (eV) that the file gets, and where it is from."""
    if options.fermi is not None:
        return options.fermi, f"the Fermi level is the given one, {options.fermi:.4f} eV"
    if frame.outcome.fermi is not None:
        return frame.outcome.fermi, f"the Fermi level is that of the run, {frame.outcome.fermi:.4f} eV"
    electrons = frame.outcome.electrons
    if electrons is None or frame.norb > LARGEST_DENSE:
        why = (
            "of how many electrons is not known"
            if electrons is None
            else f"of {frame.norb} orbitals is not solved here"
        )
        found = f"has no Fermi level, and the H {why}"
        raise Refused(Kind.ELECTRONS, frame.place, found, "the Fermi level of the electrode, from which tbtrans counts")
    mesh_c = mesh_along(frame)
    kpoints_kc, weights_k = kspace.mesh_points(mesh_c, frame.spin)
    filling = kspace.Filling(electrons, "fermi", TEMPERATURE * KELVIN)
    _, (fermi, *_) = kspace.occupations(kspace.eigenvalues(frame, kpoints_kc), weights_k, filling, frame.spin)
    words = " x ".join(map(str, mesh_c))
    return fermi, f"the Fermi level is that of H at {TEMPERATURE:g} K on {words} k-points, {fermi:.4f} eV"


def mesh_along(frame: Frame) -> tuple[int, ...]:
    """A dense mesh along the directions in which atoms see their images, coarser where there would be too many points."""
    joined_c, spacing = joined_axes(frame), SPACING
    while True:
        mesh_c = mesh_of_length(frame.cell_cv, joined_c, 2 * np.pi / spacing)
        if np.prod(mesh_c) <= MOST_KPOINTS:
            return mesh_c
        spacing *= 1.1
