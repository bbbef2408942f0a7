"""DM on a k mesh on which it is local.

The DM(R) of a k mesh is the sum of the true one over all images of the pair in the supercell of the mesh: DM(R) + DM(R + N) + ... On
the mesh of a run the images are often near enough to show, and what they add depends on atoms far away, which no local model knows.
H and S of the run are local, and give DM on any finer mesh.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from basis import Array
from basis.spin import Spin
from converters.errors import Refused
from converters.frames.blocks import Operator
from converters.frames.frame import Frame, with_matrix
from converters.frames.origin import Made, Origin, Step, Treatment
from converters.physics.checks import ALIASED, CHANGED, LEFT
from converters.physics.kspace import PLACE_OF_K, Filling, density_matrix, mesh_of_points, mesh_points, places_of
from converters.physics.repair import how_filled, lacking_for_density, on_pattern, with_note

# The mean of what images may add to an element (electrons): a tenth of what models of DM are off by.
MOST_ALIASED = 2e-5
# Metals end where so much of it is left.
MOST_LEFT = 0.02
# The supercell of each finer mesh is so many times longer, and no longer than this (Angstrom): then a metal is left as it is.
LONGER, LONGEST = 1.5, 60.0
# Blocks of more than this (electrons) that differ by less than this part of them are the same one; for a shifted mesh they have other signs.
ALIKE = 0.05
# k-points times the cube of the orbitals (small ones have their overhead): half a minute of one core.
MOST_WORK = 1e10


@dataclass(frozen=True, eq=False)
class KMesh:
    """A uniform mesh of k-points: how many along each axis, and the first one (fractions)."""

    number_c: tuple[int, ...]
    first_c: Array

    def points(self, spin: Spin) -> tuple[Array, Array]:
        """k-points and weights for a density."""
        return mesh_points(self.number_c, spin, self.first_c)

    @property
    def name(self) -> str:
        return "x".join(map(str, self.number_c))


def mesh_about_gamma(numbers: Sequence[int]) -> KMesh:
    return KMesh(tuple(numbers), np.zeros(3))


def mesh_of_run(frame: Frame) -> KMesh | None:
    """The k mesh of a run; None where its k-points are none, as after a reduction by symmetry."""
    if frame.spectrum is None or not len(frame.spectrum.kpoints_kc):
        return None
    both_qc = np.concatenate([frame.spectrum.kpoints_kc, -frame.spectrum.kpoints_kc])
    _, first_q = np.unique(places_of(both_qc), axis=0, return_index=True)
    try:
        number_c = mesh_of_points(frame.place, both_qc[first_q])
    except Refused:
        return None
    step_c = both_qc[0] * number_c
    return KMesh(tuple(number_c.tolist()), (step_c - np.floor(step_c + PLACE_OF_K)) / number_c)


def repeated_onsite(frame: Frame) -> tuple[int, ...]:
    """Cells between an atom and an image at which DM is that of the atom itself: the supercell of the k mesh is shorter than DM. Nothing where there are none."""
    if "DM" not in frame.operators or not frame.pbc_c.any():
        return ()
    pairs = frame.pairs
    for p in np.flatnonzero((pairs.i_p == pairs.j_p) & pairs.R_pc.any(axis=1)).tolist():
        a, R_c = int(pairs.i_p[p]), tuple(map(int, pairs.R_pc[p]))
        image = frame.block("DM", a, a, R_c)
        own = np.where(image, frame.block("DM", a, a), 0)  # of elements that the code does not store nothing is known
        apart = min(np.linalg.norm(own - image), np.linalg.norm(own + image))
        if np.abs(image).max() > ALIKE and apart < ALIKE * np.linalg.norm(own):
            return R_c
    return ()


def heights(cell_cv: Array) -> Array:
    """Distance between neighbouring cells along each axis."""
    return np.asarray(1 / np.maximum(np.linalg.norm(np.linalg.pinv(cell_cv), axis=0), 1e-12))


def joined_axes(frame: Frame) -> Array:
    """Axes along which anything reaches another cell; along the others every k-point gives the same."""
    return np.asarray(frame.pbc_c & (frame.pairs.R_pc != 0).any(axis=0))


def mesh_of_length(cell_cv: Array, joined_c: Array, length: float) -> tuple[int, ...]:
    """The smallest mesh whose supercell is so long (Angstrom)."""
    number_c = np.maximum(np.ceil(length / heights(cell_cv) - 1e-6), 1)
    return tuple(np.where(joined_c, number_c, 1).astype(int).tolist())


def length_of_mesh(cell_cv: Array, joined_c: Array, number_c: Sequence[int]) -> float:
    """How long the supercell of a mesh is where it is shortest (Angstrom)."""
    return float((np.array(number_c) * heights(cell_cv))[joined_c].min(initial=np.inf))


def density_on(frame: Frame, mesh: KMesh, filling: Filling) -> Operator:
    """DM of the frame's H and S on a mesh, on the elements that its code stores."""
    return on_pattern(frame, density_matrix(frame, *mesh.points(frame.spin), filling))


def mean_difference(frame: Frame, one: Operator, other: Operator) -> float:
    """The mean of the difference of two DMs over the stored elements, both Hermitian halves."""
    weight_x = frame.pairs.copies_p[frame.pairs.pair_x] * (True if one.known_x is None else one.known_x)
    difference_x = np.abs(one.values_sx - other.values_sx).mean(axis=0)
    return float(difference_x @ weight_x / weight_x.sum())


def work_of(frame: Frame, number_c: Sequence[int]) -> float:
    """How much it is to solve H on a mesh, in k-points times the cube of the orbitals."""
    kinds = {Spin.NONE: 0.5, Spin.COLLINEAR: 1.0, Spin.SPINOR: 8.0}
    return float(np.prod(number_c)) * (frame.norb + 40) ** 3 * kinds[frame.spin]


def aliased(frame: Frame, mesh: KMesh, own: Operator, filling: Filling) -> float:
    """What the images of the run's mesh add to an element of DM, in the mean.

    Half a step further along each axis every image at an odd multiple of the supercell has the other sign, so half the difference is the sum of these, the nearest ones among them.
    """
    step_c = np.where(joined_axes(frame), 0.5 / np.array(mesh.number_c), 0)
    moved = density_on(frame, replace(mesh, first_c=mesh.first_c + step_c), filling)
    return mean_difference(frame, own, moved) / 2


def finer_meshes(frame: Frame, mesh: KMesh) -> Iterator[KMesh]:
    """Finer and finer meshes about Gamma, as long as they are worth their time."""
    joined_c = joined_axes(frame)
    length, last = length_of_mesh(frame.cell_cv, joined_c, mesh.number_c), mesh
    while (length := length * LONGER) < LONGER * LONGEST:
        finer = mesh_about_gamma(mesh_of_length(frame.cell_cv, joined_c, min(length, LONGEST)))
        if work_of(frame, finer.number_c) > MOST_WORK:
            return
        if finer.number_c != last.number_c:
            yield finer
        last = finer


def why_not_local(frame: Frame) -> str:
    """Why the DM of a frame is left as it is; empty where it can be made anew."""
    if frame.folded:
        return "blocks are sums over the supercell of the k mesh"
    return lacking_for_density(frame)


def local_density(frame: Frame, wanted: tuple[int, ...] | None = None) -> Frame:
    """The frame with its DM on a mesh on which it is local: on the wanted one, or, where the images of the run's own show, on one that is fine enough.

    What was measured stands in its provenance, the mesh in the origin of DM; the k-points of the run stay those of the frame.
    """
    if "DM" not in frame.operators or not joined_axes(frame).any():
        return frame
    if reason := why_not_local(frame):
        return frame if wanted is None else with_note(frame, f"DM stays that of the run: {reason}")
    mesh, (_, filling) = mesh_of_run(frame), how_filled(frame)
    own = frame.operators["DM"]
    if mesh is not None and not frame.origin("DM").is_whole:
        own = density_on(frame, mesh, filling)
    if wanted is not None:
        built = density_on(frame, mesh_about_gamma(wanted), filling)
        return with_local(frame, wanted, built, {CHANGED: mean_difference(frame, own, built)})
    if mesh is None or work_of(frame, mesh.number_c) > MOST_WORK:
        return frame
    if (found := aliased(frame, mesh, own, filling)) <= MOST_ALIASED:
        return with_measured(frame, {ALIASED: found})
    last, left, finest = own, found, None
    for finest in finer_meshes(frame, mesh):
        built = density_on(frame, finest, filling)
        last, left = built, mean_difference(frame, last, built)
        if left <= max(MOST_ALIASED, found * MOST_LEFT):
            break
    if finest is None:
        return with_measured(frame, {ALIASED: found})
    return with_local(frame, finest.number_c, last, {CHANGED: mean_difference(frame, own, last), LEFT: left})


def with_measured(frame: Frame, found: dict[str, float]) -> Frame:
    return replace(frame, provenance=replace(frame.provenance, measured={**frame.provenance.measured, **found}))


def with_local(frame: Frame, number_c: tuple[int, ...], built: Operator, found: dict[str, float]) -> Frame:
    """The frame with another DM, and where that is from."""
    mesh = mesh_of_run(frame)
    own = f"the run's own on {mesh.name} k-points" if mesh else "the run's own"
    reason = f"asked for; an element is {found[CHANGED]:.2g} from {own} in the mean"
    if LEFT in found:
        reason = f"images of the supercell add {found[CHANGED]:.2g} in the mean to an element of {own}"
    origin = Origin(Made.FILLED, treatments=(Treatment(Step.LOCAL, reason=reason),), mesh=number_c)
    return with_measured(with_matrix(frame, "DM", built, origin), found)
