"""What some versions and settings of ABACUS are known to write wrong, and how it is noticed."""

import re
from pathlib import Path

import numpy as np

from basis import Array
from basis.spin import Spin, to_pauli
from converters.abacus.context import Context
from converters.abacus.log import Log
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.frames.blocks import Packed

# Names of matrices of the second spin.
SECOND_SPIN = re.compile(r"rs2(g\d+)?_nao|[km]s2(g\d+)?_nao|SPIN1\.csr|SPIN2_DM|data-1-H|(HR|DM)1\.npz")


def refuse_broken(packed: dict[str, Packed], spin: Spin, used: dict[str, list[Path]]) -> None:
    """Refuse what some versions of 3.11 are known to write in place of H."""
    H = packed.get("H")
    if H is None:
        return
    if not H.operator.values_sx.any():
        reason = "holds H = 0: ABACUS 3.11.0-beta.1 to beta.5 wrote it so for nspin 2; rerun with a newer version"
        raise Refused(Kind.FAULTY_VERSION, used["H"][0], reason)
    if spin is Spin.SPINOR and H.asymmetry > 1e-6:
        found = f"has an H(R) that is not Hermitian by {H.asymmetry:.3g} Ry"
        cause = "ABACUS 3.11.0-beta.5 and beta.6 conjugate the spin-flip blocks of magnetic runs, and their energies are wrong"
        raise Refused(Kind.FAULTY_VERSION, used["H"][0], f"{found}: {cause}; rerun with another version")


def refuse_other_spins(run: Run, components: int, log: Log) -> None:
    """Refuse a run whose INPUT has other spins than its log, or whose second spin INPUT does not know."""
    second = [path for path in run.matrices if components != 2 and SECOND_SPIN.search(path.name)]
    if log.spins not in (None, components) or (second and log.spins is None):
        found = f"has nspin {components}; {'the log' if log.spins else second[0].name} is of nspin {log.spins or 2}"
        raise Refused(Kind.DAMAGED, "INPUT", found, "the INPUT of the run")


def leaves_out_kpoints(context: Context) -> bool:
    """Whether symmetry, beyond time reversal without spinors, stands for k-points that the run then leaves out."""
    if context.is_nscf:
        return left_out_by_scf(context)
    return context.symmetry == "1" or (context.symmetry == "0" and context.spin is Spin.SPINOR)


def left_out_by_scf(context: Context) -> bool:
    """The same of the SCF before a run for bands, whose INPUT has gone; true where no log of it tells."""
    log = context.log
    if log.of_nscf or log.kpoints is None:
        return True
    kept = log.kept_kpoints or log.kpoints
    return kept < log.kpoints if context.spin is Spin.SPINOR else 2 * kept < log.kpoints


def doubt_of_density(context: Context) -> str:
    """Why the DM file of a run may be wrong; empty when it cannot. Without symmetric k-points to leave out it is right."""
    if context.is_nscf and leaves_out_kpoints(context):
        return "INPUT is of a run for bands (nscf), and no log of the SCF says that DM is summed over all k-points; convert a run of the SCF alone"
    if leaves_out_kpoints(context):
        wanted = "-1" if context.spin is Spin.SPINOR else "0 or -1"
        return f"symmetry {context.symmetry} sums DM over a part of the k-points; rerun with symmetry {wanted}, or rebuild it from H and S"
    return ""


def refuse_old_sign(context: Context, DM_sx: Array, path: Path) -> None:
    """Refuse a density with a y component of the spin from versions whose sign of sigma_y is the other one."""
    largest = float(np.abs(to_pauli(DM_sx)[2]).max(initial=0))
    version = context.log.version
    if largest > 1e-6 and version_key(version) < version_key("3.11.0-beta6"):
        reason = f"has a spin density along y (up to {largest:.3g}) from ABACUS {version or 'of unknown version'}, whose sign of"
        raise Refused(
            Kind.FAULTY_VERSION,
            path,
            f"{reason} sigma_y is the opposite; rerun with 3.11.0-beta6 or newer, or with moments in the xz plane",
        )


def version_key(version: str) -> tuple[int, ...]:
    """A version such as 3.11.0-beta6 as numbers; a release comes after its betas, an unknown version first."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-?beta\.?(\d+))?", version)
    if match is None:
        return (0,)
    major, minor, patch, build, beta = match.groups()
    return int(major), int(minor), int(patch or 0), int(build or 0), int(beta) if beta else 999
