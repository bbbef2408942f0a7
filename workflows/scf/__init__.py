"""SCF runs of the user's own code that start from predictions, beside its default start: made, judged, and gone on with."""

from workflows.scf.outcome import Outcome, Start, read_outcomes

__all__ = ["Outcome", "Start", "read_outcomes"]
