"""The verdict on a run from a prediction: by itself, and beside the default start."""

from dataclasses import replace

from workflows.scf.outcome import ROUGHLY, Outcome, Start

LOG = "slem-scf.log"  # what the command printed, in each copy
NOT_FOUND, TOO_LONG = 127, 124  # exit codes


def judge(start: Start) -> str:
    """Why a run from a guess is no success, or "ok"."""
    progress, log = start.progress, f"see {start.folder}/{LOG}"
    if start.returned == NOT_FOUND:
        return f"the command was not found; {log}"
    if start.returned == TOO_LONG:
        return f"the command took too long; {log}"
    if progress.took_guess is False:
        return f"the code ignored the guess; {log}"
    if start.returned:
        return f"{far_from_the_end(start)}the command failed with exit code {start.returned}; {log}"
    if progress.energy is None or progress.iterations is None:
        return f"the run left no energy; {log}"
    if progress.converged is False:
        return f"not converged after {progress.iterations} iterations"
    if progress.note:
        return f"the default start was taken: {progress.note}"
    if progress.took_guess is None:
        return f"nothing says that the code read the guess; {log}"
    return "ok"


def far_from_the_end(start: Start) -> str:
    """What comes before an exit code: SIESTA stops with one where its SCF does not converge, and the log says little of it."""
    return f"not converged after {start.progress.iterations} iterations, " if did_not_converge(start) else ""


def did_not_converge(start: Start) -> bool:
    return start.progress.converged is False and start.progress.iterations is not None


def compare(outcome: Outcome) -> Outcome:
    """The verdict beside the default start, which is what to go on with unless the guess led to the same state."""
    default, apart = outcome.default, outcome.difference
    if default is None or not outcome.default_ended:
        if outcome.ok:
            return replace(outcome, notes=(*outcome.notes, "the default start did not converge"))
        failed = "did not converge either" if default is not None and did_not_converge(default) else "failed too"
        return replace(outcome, verdict=f"{outcome.verdict}; the default start {failed}", use="")
    if not outcome.ok or apart is None:
        return replace(outcome, use=default.folder)
    outcome = replace(outcome, tolerance=allowed_apart(outcome, default))
    if abs(apart) <= outcome.tolerance:
        return outcome
    verdict = f"another state: {apart:+.2e} eV from the default start, allowed are {outcome.tolerance:.0e}"
    if outcome.moments is not None:
        verdict += f"; moments {' and '.join(f'{moment:.3f}' for moment in outcome.moments)}"
    if apart < 0:
        verdict += "; the start from the prediction ended in the lower of the two"
    return replace(outcome, verdict=verdict, use=default.folder)


def allowed_apart(outcome: Outcome, default: Start) -> float:
    """By how much (eV) the energies of two starts may differ in the same state: the run's own tolerance, or what both still moved at the end."""
    drift = default.drift + (outcome.guess.drift if outcome.guess is not None else 0.0)
    return max(outcome.tolerance, min(drift, ROUGHLY * (outcome.atoms or 1)))
