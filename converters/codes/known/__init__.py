"""The codes that are known, by their names on the command line. A new one is one line here."""

from converters.codes.about import About
from converters.codes.known import abacus, aims, deeph, deeptb, hamgnn, nabladft, openmx, pyscf, qh9, siesta

KNOWN: dict[str, About] = {
    one.ABOUT.name: one.ABOUT for one in (abacus, aims, deeph, deeptb, hamgnn, nabladft, openmx, pyscf, qh9, siesta)
}

# What runs can start from, over all codes.
ROUTES = tuple(dict.fromkeys(route for about in KNOWN.values() for route in about.routes))
