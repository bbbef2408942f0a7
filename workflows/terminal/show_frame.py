"""A frame and a block of it on the terminal."""

from rich.table import Table

from converters.frames.orbitals import Orbital
from workflows.frame_info import COMPONENTS, Block, Look
from workflows.terminal.show import console, show_facts


def show_look(seen: Look) -> None:
    """What is said of a frame, then the block that was asked for."""
    levels = {name: f"{seen.facts[name]:.6f} eV" for name in ("energy", "fermi") if name in seen.facts}
    show_facts(seen.place, seen.facts | levels)
    if seen.block is not None:
        show_block(seen.block, str(seen.frame.origin(seen.block.matrix)))


def show_block(block: Block, origin: str) -> None:
    """A table for each spin component: orbitals of the first atom down, those of the second across."""
    out = console()
    unit = f" ({block.unit})" if block.unit else ""
    i, j = (
        f"atom {a} ({orbitals[0].atom_name})"
        for a, orbitals in zip(block.pair, (block.rows, block.columns), strict=True)
    )
    title = f"{block.matrix}{unit} between {i} and {j} in cell {block.cell}"
    out.print(f"{title}, {origin}", soft_wrap=True)
    for name, values_uu in zip(COMPONENTS[len(block.values_suu)], block.values_suu, strict=True):
        table = Table(name, "row", *map(str, block.columns), box=None, header_style="bold", title=None)
        table.add_row("row", "", *map(place_of, block.columns), style="dim")
        for orbital, values_u in zip(block.rows, values_uu, strict=True):
            table.add_row(str(orbital), place_of(orbital), *(f"{value:.6f}" for value in values_u))
        out.print(table)
    if block.rows[0].code_row is not None:
        out.print("row: number (from 1) and sign of the orbital in the code's own matrices", style="dim")


def place_of(orbital: Orbital) -> str:
    """Row and sign in the code's matrices; empty where they are not known."""
    return "" if orbital.code_row is None else f"{'-' if orbital.code_sign == -1 else '+'}{orbital.code_row}"
