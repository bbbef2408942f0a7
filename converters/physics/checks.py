"""Physical checks of a frame: each gives the number found and the number expected.

>>> for result in check_frame(frame):
...     print(result)
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from basis import Array
from basis.rotations import wigner
from basis.spin import TRANSPOSED, Spin, to_pauli
from converters.errors import Kind, Refused
from converters.frames.blocks import Operator
from converters.frames.frame import Frame, Spectrum
from converters.frames.neighbours import is_place
from converters.frames.origin import Parts
from converters.physics import kspace
from converters.physics.kpoint_digits import level_moves
from converters.physics.matrix_digits import electron_rounding, level_roundings
from converters.physics.overlap import Overlap

COMPARISON, LEVELS = "DM against f(H, S)", "eigenvalues against the printed ones"
# What was measured of DM when a frame was made, in the mean over its elements: what images add on the k-points of its run, as far as a
# shifted mesh shows it; how far the DM on its own mesh is from that of the run; what images still add on its own mesh.
ALIASED, CHANGED, LEFT = "images in DM of the run", "DM against that of the run", "images in DM"


@dataclass(frozen=True)
class Tolerances:
    """What each check allows; the defaults are what sound runs reach with room to spare; an origin says where a code is coarser."""

    asymmetry: float = 1e-6
    unit_diagonal: float = 1e-4
    two_centre: float = 1e-4
    overlap: float = 1e-4
    electrons: float = 1e-6
    predicted_electrons: float = 0.01  # of all electrons; what starts from a prediction scales DM
    density: float = 1e-3
    largest_dense: int = 2000


@dataclass(frozen=True)
class Result:
    """One check: what was found, what was expected, and whether that is good enough. `ok` None: not done, and why.

    `wanted` is the number that the found one should be, where that is not zero; `kind` says what to do about a failure.
    """

    name: str
    ok: bool | None
    found: float | None
    expected: str
    wanted: float | None = None
    kind: Kind = Kind.BAD_PHYSICS
    unit: str = ""

    def __str__(self) -> str:
        mark = {True: "ok", False: "FAILED", None: "not done"}[self.ok]
        found = f" {self.found:.3g}" if self.found is not None else " no" if self.ok is False else ""
        return f"{self.name}:{found} ({self.expected}) {mark}"

    def refusal(self, place: str) -> Refused:
        """A failure as the reason why something is not used."""
        return Refused(self.kind, place, str(self).removesuffix(" FAILED"))


def at_most(name: str, found: float, limit: float, unit: str = "", kind: Kind = Kind.BAD_PHYSICS) -> Result:
    """A number that should be below a limit; NaN is not."""
    return Result(
        name, bool(found <= limit), float(found), f"expected at most {limit:.3g} {unit}".rstrip(), kind=kind, unit=unit
    )


def not_done(name: str, reason: str) -> Result:
    return Result(name, None, None, reason)


def check_frame(frame: Frame, tolerances: Tolerances = Tolerances()) -> list[Result]:
    """All checks that the frame's contents allow, in the order in which a failure would explain the next."""
    results = [check_finite(frame)]
    if not results[0].ok:
        return results
    results += [check_converged(frame), *check_asymmetry(frame, tolerances)]
    if "S" in frame.operators:
        results += [
            check_unit_diagonal(frame, tolerances),
            check_two_centre(frame, tolerances),
            *check_functions(frame, tolerances),
            check_positive(frame, tolerances),
        ]
        if results[-1].ok is False:
            return results
    if {"S", "DM"} <= set(frame.operators):
        results += [check_electrons(frame, tolerances), *check_moment(frame, tolerances)]
    if {"H", "S"} <= set(frame.operators) and frame.spectrum is not None:
        results += check_spectrum(frame, frame.spectrum, tolerances)
    elif "H" in frame.operators and not frame.predicted:
        results.append(
            not_done(LEVELS, "there is no S" if frame.spectrum else "the files do not say at which k-points")
        )
    if "DM" in frame.operators:
        results += images_in_density(frame)
    if (doubt := frame.origin("DM").doubt) and "DM" in frame.operators:
        results.append(check_doubt(results, doubt))
    return results


def images_in_density(frame: Frame) -> Iterator[Result]:
    """What was found when the frame was made: how much of an element of DM is that of images in the supercell of the k mesh."""
    measured, mesh = frame.provenance.measured, frame.origin("DM").mesh
    number = "x".join(map(str, mesh))
    if not mesh and ALIASED in measured:
        yield Result(
            "images in DM", True, measured[ALIASED], "a mean over its elements, which no local model can learn"
        )
    elif mesh and {CHANGED, LEFT} <= set(measured):
        about = f"left on {number} k-points; {measured[CHANGED]:.2g} between these and those of the run"
        yield Result("images in DM", True, measured[LEFT], about)
    elif mesh and CHANGED in measured:
        about = f"a mean over its elements, between the k-points of the run and {number}; what is left on these was not measured"
        yield Result("images in DM", True, measured[CHANGED], about)


def check_doubt(results: list[Result], doubt: str) -> Result:
    """A DM that the code may have written wrong is taken only if it was found to be that of (H, S)."""
    compared = [result for result in results if result.name == COMPARISON]
    trusted = bool(compared and compared[0].ok)
    expected = f"expected to be that of (H, S), since {doubt}"
    return Result("DM is whole", trusted, None, expected, kind=Kind.PARTIAL_DENSITY)


def require_sound(frame: Frame, tolerances: Tolerances = Tolerances()) -> list[Result]:
    """The results of all checks; raises `Refused` with the first one that failed."""
    results = check_frame(frame, tolerances)
    for result in sorted(results, key=lambda result: result.name != "DM is whole"):  # it says why another one failed
        if result.ok is False:
            raise result.refusal(frame.provenance.path or frame.formula)
    return results


def check_finite(frame: Frame) -> Result:
    finite = {name: np.isfinite(operator.values_sx) for name, operator in frame.operators.items()}
    finite |= {"positions": is_place(frame.positions_av), "cell": is_place(frame.cell_cv)}
    bad = {name: int(np.count_nonzero(~good)) for name, good in finite.items()}
    count = sum(bad.values())
    where = ", ".join(name for name, number in bad.items() if number)
    return Result(
        "finite numbers", count == 0, count, f"expected no NaN or infinity{f'; found in {where}' * bool(where)}"
    )


def check_converged(frame: Frame) -> Result:
    converged = frame.outcome.converged
    if converged is None:
        return not_done("converged", "the files do not say whether the SCF converged")
    return Result("converged", converged, None, "expected a converged SCF", kind=Kind.UNFINISHED_SCF)


def check_asymmetry(frame: Frame, tolerances: Tolerances) -> Iterator[Result]:
    """Onsite blocks against their transpose, and what the reader measured between the two stored halves."""
    for name, operator in frame.operators.items():
        worst = frame.provenance.measured.get(f"asymmetry of {name}", 0.0)
        layout = frame.layout(name)
        for p in np.flatnonzero(frame.pairs.onsite_p).tolist():
            block = frame.pairs.block(operator.values_sx, p)
            mirrored = block[TRANSPOSED[layout]].conj().swapaxes(1, 2)
            worst = max(worst, float(np.abs(block - mirrored).max(initial=0)))
        yield at_most(f"{name} Hermitian", worst, tolerances.asymmetry, "eV" if name == "H" else "")
        unpaired = frame.provenance.measured.get(f"unpaired elements of {name}")
        if unpaired is not None:
            yield at_most(f"{name} pattern closed", unpaired, 0.0, "elements without partner")


def check_unit_diagonal(frame: Frame, tolerances: Tolerances) -> Result:
    """Diagonal of the onsite blocks, as exact as the code is known to integrate it."""
    if frame.folded:
        return not_done("S_ii = 1", "the matrices are folded into the supercell of the k mesh, images add to S_ii")
    return judge_unit_diagonal(frame, *unit_diagonal(frame), tolerances)


def unit_diagonal(frame: Frame) -> tuple[float, int]:
    """How far the diagonal of S is from one at most, and how many onsite blocks there are."""
    onsite = np.flatnonzero(frame.pairs.onsite_p).tolist()
    diagonals = [np.diagonal(frame.block_of_pair("S", p)[0]) for p in onsite]
    return max((float(np.abs(diagonal - 1).max(initial=0)) for diagonal in diagonals), default=0.0), len(onsite)


def judge_unit_diagonal(frame: Frame, worst: float, blocks: int, tolerances: Tolerances) -> Result:
    if blocks != frame.natoms:
        return Result("S_ii = 1", False, blocks, f"expected onsite blocks of all {frame.natoms} atoms")
    result = at_most("S_ii = 1", worst, max(tolerances.unit_diagonal, frame.origin("S").error))
    causes = "S is not of normalised orbitals, or cut off in reciprocal space at a low energy"
    return result if result.ok else replace(result, expected=f"{result.expected}; else {causes}")


def check_two_centre(frame: Frame, tolerances: Tolerances) -> Result:
    """An overlap of two shells about their bond as polar axis has only elements with m = m'.

    It holds in the right order and with the right signs of the orbitals and in no other.
    """
    name = "S two-centre"
    if frame.folded:
        return not_done(name, "the matrices are folded into the supercell of the k mesh, bonds are not known")
    result = at_most(name, two_centre_violation(frame), max(tolerances.two_centre, frame.origin("S").grid_error))
    causes = "the order or signs of orbitals are others, or blocks are sums over images, as of a k mesh"
    return result if result.ok else replace(result, expected=f"{result.expected}; else {causes}")


def two_centre_violation(frame: Frame) -> float:
    """Largest element of S between different m about the bond, over up to 50 evenly chosen pairs of each kind."""
    pairs, worst = frame.pairs, 0.0
    kind_p = frame.species_a[pairs.i_p] * len(frame.basis) + frame.species_a[pairs.j_p]
    distance_p = np.linalg.norm(frame.vectors_pv, axis=1)
    stored_p = np.add.reduceat(np.abs(frame.operators["S"].values_sx[0]), pairs.start_p[:-1]) > 0
    for kind in np.unique(kind_p):
        chosen_p = np.flatnonzero((kind_p == kind) & (distance_p > 1e-3) & stored_p)
        if not len(chosen_p):
            continue
        chosen_p = chosen_p[np.linspace(0, len(chosen_p) - 1, min(50, len(chosen_p))).astype(int)]
        Q_pvv = turn_to_z(frame.vectors_pv[chosen_p])
        S_pMM = np.array([frame.block_of_pair("S", p)[0] for p in chosen_p.tolist()])
        species = [frame.basis[s] for s in divmod(int(kind), len(frame.basis))]
        degrees = sorted({shell.l for item in species for shell in item.shells})
        D = {l: wigner(l, Q_pvv) for l in degrees}
        row = 0
        for first in species[0].shells:
            column = 0
            for second in species[1].shells:
                block = S_pMM[:, row : row + first.size, column : column + second.size]
                turned = D[first.l] @ block @ D[second.l].swapaxes(1, 2)
                m_mm = np.subtract.outer(np.arange(-first.l, first.l + 1), np.arange(-second.l, second.l + 1))
                worst = max(worst, float(np.abs(turned[:, m_mm != 0]).max(initial=0)))
                column += second.size
            row += first.size
    return worst


def turn_to_z(vectors_pv: Array) -> Array:
    """Rotations that bring each vector to the z axis."""
    z_pv = vectors_pv / np.linalg.norm(vectors_pv, axis=1, keepdims=True)
    helper_pv = np.eye(3)[np.abs(z_pv).argmin(axis=1)]
    x_pv = np.cross(helper_pv, z_pv)
    x_pv /= np.linalg.norm(x_pv, axis=1, keepdims=True)
    return np.stack([x_pv, np.cross(z_pv, x_pv), z_pv], axis=1)


def check_functions(frame: Frame, tolerances: Tolerances) -> Iterator[Result]:
    """S against the integrals of the radial functions, where these are known: right in this order and with these signs alone."""
    overlap = Overlap.of_frame(frame)
    if overlap is not None:
        yield judge_functions(*overlap.difference(frame), tolerances)


def judge_functions(found: float, where: str, tolerances: Tolerances) -> Result:
    result = at_most("S of the radial functions", found, tolerances.overlap, kind=Kind.WRONG_FUNCTIONS)
    return result if result.ok else replace(result, expected=f"{result.expected}; most for {where}")


def check_positive(frame: Frame, tolerances: Tolerances) -> Result:
    """Smallest eigenvalue of S(k) over the run's k-points (at Gamma when there are none)."""
    name = "S positive definite"
    if frame.norb > tolerances.largest_dense:
        return not_done(name, f"{frame.norb} orbitals are more than {tolerances.largest_dense}")
    overlaps = (S_sMM[0][: frame.norb, : frame.norb] for S_sMM in kspace.dense_at_each(frame, "S", few_kpoints(frame)))
    lowest = min(float(np.linalg.eigvalsh(S_MM)[0]) for S_MM in overlaps)
    return Result(name, bool(lowest > 0), lowest, "expected a smallest eigenvalue above 0", kind=Kind.SINGULAR_OVERLAP)


def few_kpoints(frame: Frame) -> Array:
    """Up to seven of the run's k-points, and Gamma where the matrices are good at any k."""
    gamma = np.zeros((0 if frame.folded else 1, 3))
    if frame.spectrum is None or not len(frame.spectrum.kpoints_kc):
        return np.zeros((1, 3))
    kpoints_kc = frame.spectrum.kpoints_kc
    chosen = np.unique(np.linspace(0, len(kpoints_kc) - 1, 7).astype(int))
    return np.concatenate([gamma, kpoints_kc[chosen]])


def check_electrons(frame: Frame, tolerances: Tolerances) -> Result:
    limit = tolerances.electrons + electron_rounding(frame)
    return judge_electrons(frame, float(kspace.count_electrons(frame).sum()), replace(tolerances, electrons=limit))


def judge_electrons(frame: Frame, found: float, tolerances: Tolerances) -> Result:
    expected = frame.outcome.electrons
    if expected is None:
        return not_done("Tr(DM S) = electrons", f"the files do not say how many electrons; the trace is {found:.8f}")
    predicted = frame.predicted
    limit = tolerances.predicted_electrons * expected if predicted else tolerances.electrons
    text = f"expected {expected:.8g} within {limit:.3g}{' of a prediction' if predicted else ''}"
    kind = Kind.POOR_PREDICTION if predicted else Kind.BAD_PHYSICS
    result = Result("Tr(DM S) = electrons", abs(found - expected) <= limit, found, text, expected, kind, "electrons")
    return result if result.ok else replace(result, expected=f"{text}; found {found:.8f}")


def check_moment(frame: Frame, tolerances: Tolerances) -> Iterator[Result]:
    expected = frame.outcome.moment
    if frame.spin is Spin.COLLINEAR and expected is not None:
        up, down = kspace.count_electrons(frame)
        # Codes print a moment with few digits, and some its integral on a grid: off by 9e-5 and 1.7e-4 in bcc iron at 60 Ry.
        limit = max(tolerances.electrons, 5e-4)
        text = f"expected {expected:.6g} within {limit:.3g}"
        yield Result(
            "spin moment", bool(abs(up - down - expected) <= limit), float(up - down), text, expected, unit="mu_B"
        )


def check_spectrum(frame: Frame, spectrum: Spectrum, tolerances: Tolerances) -> Iterator[Result]:
    """Eigenvalues against the printed ones, and DM against the levels of (H, S) filled as the run filled them."""
    if frame.norb > tolerances.largest_dense:
        yield not_done(LEVELS, f"{frame.norb} orbitals are more than {tolerances.largest_dense}")
        return
    if "DM" not in frame.operators:
        spectrum = where_printed(spectrum)
    try:
        chosen_k, of_k = kspace.one_of_partners(spectrum.kpoints_kc, frame.spin)
        why_not = no_comparison(frame, spectrum)
        solve = levels_alone if why_not else kspace.solve
        solved = solve(frame, spectrum.kpoints_kc[chosen_k])
        if spectrum.energies_skn.size:
            yield compare_eigenvalues(frame, solved.energies_skn[:, of_k], spectrum)
        elif not frame.predicted:
            yield not_done(LEVELS, "the files have no levels")
        if "DM" in frame.operators and why_not:
            yield not_done(COMPARISON, why_not)
        elif "DM" in frame.operators:
            kpoints_kc, weights_k = spectrum.kpoints_kc[chosen_k], np.bincount(of_k, spectrum.weights_k)
            built = kspace.density_matrix(frame, kpoints_kc, weights_k, filling_of(frame, spectrum), solved)
            yield compare_density(frame, built, tolerances)
    except (linalg.LinAlgError, ValueError, RuntimeError) as error:
        yield Result("eigenvalues", False, None, f"expected a problem that can be solved and filled: {error}")


def levels_alone(frame: Frame, kpoints_kc: Array) -> kspace.Solved:
    return kspace.Solved(kspace.eigenvalues(frame, kpoints_kc))


def where_printed(spectrum: Spectrum) -> Spectrum:
    """The k-points at which the code printed levels; all of them where it printed none."""
    chosen_k = ~np.isnan(spectrum.energies_skn).all(axis=(0, 2))
    if not chosen_k.any():
        return spectrum
    taken = (spectrum.kpoints_kc[chosen_k], spectrum.weights_k[chosen_k], spectrum.energies_skn[:, chosen_k])
    return replace(spectrum, kpoints_kc=taken[0], weights_k=taken[1], energies_skn=taken[2])


def compare_eigenvalues(frame: Frame, found_skn: Array, spectrum: Spectrum) -> Result:
    """Largest difference to the printed levels, beyond what the few digits of printed k-points and matrices may have moved them."""
    name, printed_skn = LEVELS, spectrum.energies_skn
    if found_skn.shape[0] != printed_skn.shape[0] or found_skn.shape[2] < printed_skn.shape[2]:
        return Result("eigenvalues", False, None, f"expected the shape {printed_skn.shape}, found {found_skn.shape}")
    difference_skn = np.abs(found_skn[:, :, : printed_skn.shape[2]] - printed_skn)
    difference_skn[np.isnan(printed_skn)] = 0
    limit_skn = np.full_like(difference_skn, spectrum.tolerance)
    doubtful_k = np.flatnonzero((difference_skn > spectrum.tolerance).any(axis=(0, 2)))
    few_digits = {
        "k-points": (spectrum.kpoint_error, level_moves),
        "matrices": (spectrum.matrix_rounding, level_roundings),
    }
    for error, moves in few_digits.values():
        if error and len(doubtful_k):
            moves_skn = moves(frame, spectrum.kpoints_kc[doubtful_k], error)
            limit_skn[:, doubtful_k] += moves_skn[:, :, : printed_skn.shape[2]]
    excess_skn = difference_skn - limit_skn
    worst = np.argmax(excess_skn if (excess_skn > 0).any() else difference_skn)
    limit = float(limit_skn.ravel()[worst])
    result = at_most(name, float(difference_skn.ravel()[worst]), limit, "eV")
    reasons = [f"the printed {what} may be off by {error:.1g}" for what, (error, _) in few_digits.items() if error]
    widened = f"{result.expected}, since {' and '.join(reasons)}"
    return result if limit == spectrum.tolerance else replace(result, expected=widened)


def no_comparison(frame: Frame, spectrum: Spectrum) -> str:
    """Why DM cannot be compared with that of (H, S), if so."""
    if "DM" not in frame.operators:
        return "there is no DM"
    if mesh := frame.origin("DM").mesh:
        return f"DM was made of H and S on another mesh, of {'x'.join(map(str, mesh))} k-points"
    if not spectrum.smearing or frame.outcome.electrons is None:
        return "the files do not say how the levels were filled"
    return ""


def filling_of(frame: Frame, spectrum: Spectrum) -> kspace.Filling:
    """How the run filled its levels."""
    moment = None
    if spectrum.fixed_moment:
        up, down = kspace.count_electrons(frame)
        moment = float(up - down)
    return kspace.Filling(frame.outcome.electrons or 0.0, spectrum.smearing, spectrum.width, moment)


def compare_density(frame: Frame, built: Operator, tolerances: Tolerances) -> Result:
    """Largest element of DM - f(H, S), where the code stored DM; at the k-points for folded matrices."""
    stored = frame.operators["DM"]
    difference_sx = built.values_sx - stored.values_sx
    if frame.origin("DM").parts is Parts.REAL_PAULI:
        difference_sx = to_pauli(difference_sx).real
    difference_sx = np.abs(difference_sx)
    if stored.known_x is not None:
        difference_sx = difference_sx[:, stored.known_x]
    return at_most(COMPARISON, difference_sx.max(initial=0), tolerances.density, kind=Kind.PARTIAL_DENSITY)
