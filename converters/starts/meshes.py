"""A DM that is local, brought onto the k mesh of the run that it is to start.

On that mesh DM(R) is the sum over all images of the pair in the supercell of the mesh, DM(R) + DM(R + N) + ..., and most of
these pairs are too far apart to be stored. What they add is the difference of two densities of the same H, one on each mesh; it is
small, and so is its error. Without H only the images among the stored pairs are added.
"""

from dataclasses import replace

import numpy as np

from converters.errors import Refused
from converters.frames.blocks import Operator
from converters.frames.frame import Frame, with_matrix
from converters.frames.origin import Step, Treatment
from converters.physics import kspace
from converters.physics.locality import MOST_WORK, joined_axes, mean_difference, work_of
from converters.starts.density import LARGEST_DENSE, Sampling, frame_of_levels

# A mesh so much denser than that of the run says what images add to within a tenth or so (Si8: 0.026e-3 of 0.4e-3 are left, PtSe2: 0.5e-3 of 4e-3), in a tenth of the time.
DENSER = 1.5


def density_on_mesh(frame: Frame, sampling: Sampling, roughly: bool = False) -> tuple[Frame, str]:
    """The frame with its DM as a run on these k-points has it, and what was done; as it is where its DM is not of another mesh.

    `roughly` is enough where nothing starts from this DM, and it is only looked at.
    """
    local_c = frame.origin("DM").mesh
    if "DM" not in frame.operators or not local_c:
        return frame, ""
    sampling = sampling.with_partners()
    try:
        own_c = kspace.mesh_of_points(frame.place, sampling.kpoints_kc) if len(sampling.kpoints_kc) else None
    except Refused:
        own_c = None
    if own_c is None:
        points = "the k-points of the run are no mesh along its lattice vectors"
        unknown = points if len(sampling.kpoints_kc) else "the k mesh of the run is not known"
        return frame, f"DM is that of a dense k mesh and stays so: {unknown}"
    joined_c = joined_axes(frame)
    local_c = tuple(n if joined else 1 for n, joined in zip(local_c, joined_c, strict=True))
    if (own_c >= local_c)[joined_c].all():
        return brought(frame, frame.operators["DM"], "which is as dense"), ""
    if frame.norb > LARGEST_DENSE:
        return (
            frame,
            f"DM is that of a dense k mesh and stays so: dense matrices of {frame.norb} orbitals are too large",
        )
    name, half = "x".join(map(str, own_c.tolist())), sampling.without_partners()
    reason = why_images_are_unknown(frame, local_c)
    if not reason:
        levels, density = frame_of_levels(frame, half)
        reason = "H has ghost states" if density.measured["S filter"] else ""
    DM = frame.operators["DM"]
    if reason:
        summed = kspace.dense_at_each(frame, "DM", half.kpoints_kc)
        folded = kspace.sum_over_kpoints(frame, half.kpoints_kc, half.weights_k, summed)
        what = f"images among the stored pairs add {mean_difference(frame, DM, folded):.2g} to an element of DM in the mean on {name} k-points"
        return brought(frame, folded, reason), f"{what}; those farther away are left out: {reason}"
    denser_c = tuple(np.minimum(local_c, np.ceil(DENSER * own_c)).astype(int).tolist()) if roughly else local_c
    local = kspace.density_matrix(frame, *kspace.mesh_points(denser_c, frame.spin), sampling.filling)
    images_sx = levels.operators["DM"].values_sx - local.values_sx
    whole = replace(DM, values_sx=DM.values_sx + images_sx)
    added = mean_difference(frame, DM, whole)
    done = f"images add {added:.2g} to an element of DM in the mean on {name} k-points; they are those of H"
    return brought(frame, whole, "images are those of H"), done


def why_images_are_unknown(frame: Frame, local_c: tuple[int, ...]) -> str:
    """Why H does not say what images add; empty where it does."""
    if missing := [name for name in ("H", "S") if name not in frame.operators]:
        return f"there is no {' and no '.join(missing)}"
    if work_of(frame, local_c) > MOST_WORK:
        return f"H of {frame.norb} orbitals is not solved on {'x'.join(map(str, local_c))} k-points"
    return ""


def brought(frame: Frame, DM: Operator, reason: str) -> Frame:
    """The frame with a DM that is of the mesh of a run."""
    origin = frame.origin("DM")
    meshed = replace(origin, mesh=(), treatments=(*origin.treatments, Treatment(Step.MESHED, reason=reason)))
    return with_matrix(frame, "DM", DM, meshed)
