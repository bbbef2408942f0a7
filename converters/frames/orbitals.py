"""The orbitals of a cell, named as physicists name them, with their rows and signs in the code's own matrices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from basis import Array
from basis.conventions import label_of, to_standard
from basis.shells import LETTERS, Shell, Species, cell_shells

# Names of the real harmonics m = -l..l; those of higher l are written with m.
HARMONICS = (
    ("",),
    ("y", "z", "x"),
    ("xy", "yz", "z2", "xz", "x2-y2"),
    ("y(3x2-y2)", "xyz", "yz2", "z3", "xz2", "z(x2-y2)", "x(x2-3y2)"),
)
# The harmonics of a code by l, as its convention writes them: "-c1" is the negative of cos(phi).
Harmonics = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Orbital:
    """One orbital of a cell: `row` in our matrices, its atom (from 0) and shell, and m.

    `code_row` (from 1) and `code_sign` say where it stands in the matrices of the code, and with which sign; None where that is not known.
    """

    row: int
    atom: int
    symbol: str
    shell: Shell
    m: int
    several: bool = False
    code_row: int | None = None
    code_sign: int | None = None

    @property
    def atom_name(self) -> str:
        """The atom as people write it, counted from 1."""
        return f"{self.symbol}{self.atom + 1}"

    def __str__(self) -> str:
        name = f"{self.atom_name} {self.shell.n or ''}{LETTERS[self.shell.l]}"
        if self.shell.l:
            name += f"_{harmonic_name(self.shell.l, self.m)}"
        return name + f" zeta{self.shell.zeta}" * self.several + " pol" * self.shell.polarisation


def harmonic_name(l: int, m: int) -> str:
    return HARMONICS[l][m + l] if l < len(HARMONICS) else label_of(m)


def harmonics_of(basis: Sequence[Species], convention: Callable[[int], Sequence[str]]) -> Harmonics:
    """What a code calls its harmonics, up to the largest l of a basis."""
    largest = max((shell.l for species in basis for shell in species.shells), default=0)
    return tuple(tuple(convention(l)) for l in range(largest + 1))


def orbitals_of(basis: Sequence[Species], species_a: Array, harmonics: Harmonics | None) -> tuple[Orbital, ...]:
    """All orbitals of a cell, in our order."""
    shells, found = cell_shells(basis, species_a), list[Orbital]()
    order_M = sign_M = None
    if harmonics is not None:
        order_M, sign_M = to_standard(shells, lambda l: harmonics[l])
    for a, s in enumerate(species_a.tolist()):
        species = basis[s]
        kinds = [(shell.n, shell.l, shell.polarisation) for shell in species.shells]
        for shell, kind in zip(species.shells, kinds, strict=True):
            for m in range(-shell.l, shell.l + 1):
                row = len(found)
                code_row = None if order_M is None else int(order_M[row]) + 1
                code_sign = None if sign_M is None else int(sign_M[row])
                several = kinds.count(kind) > 1
                found.append(Orbital(row, a, species.name, shell, m, several, code_row, code_sign))
    return tuple(found)
