"""Units: inside everything is eV and Angstrom; multiply by these on the way in, divide on the way out.

Values are CODATA 2018. A code that computes with other constants has them in its own file.
"""

HARTREE = 27.211386245988
RYDBERG = HARTREE / 2
BOHR = 0.529177210903
KELVIN = 8.617333262145e-5
