"""SIESTA's matrices of a large prediction, which is read stretch by stretch and never held as a frame."""

import numpy as np

from basis import Array
from basis.conventions import to_standard
from basis.shells import cell_shells
from converters.frames.frame import Frame
from converters.physics import sparse
from converters.physics.sparse import Source, add_blocks, groups_of_cells
from converters.siesta.convention import convention, image_numbers
from converters.siesta.write import Pattern, supercell


class PatternInParts(Pattern):
    """The rows of all matrices of a frame without spinors whose blocks are known as a whole."""

    def __init__(self, source: Source) -> None:
        outline, natoms = source.outline, source.outline.natoms
        self.source = source
        reach_c = np.zeros(3, dtype=np.int64)
        for pairs, _ in source.stretches(()):
            reach_c = np.maximum(reach_c, np.abs(pairs.R_pc).max(axis=0, initial=0))
        cells_c = supercell(outline, reach_c)
        images = int(cells_c.prod())
        keys = (
            np.concatenate(
                [
                    (pairs.i_p * images + image_numbers(pairs.R_pc, cells_c)) * natoms + pairs.j_p,
                    (pairs.j_p * images + image_numbers(-pairs.R_pc, cells_c)) * natoms + pairs.i_p,
                ]
            )
            for pairs, _ in source.stretches(())
        )
        place_M, signs_M = to_standard(cell_shells(outline.basis, outline.species_a), convention)
        self.sign_M = signs_M[place_M]
        self.blocks = sparse.Pattern.of(outline.pairs.norb_a, keys, images, place_M)
        super().__init__(cells_c, np.diff(self.blocks.start_M), self.blocks.column_e + 1)

    def rows(self, frame: Frame, name: str) -> Array:
        layout = frame.layout(name)
        data = {name: np.zeros((layout.components, self.blocks.size))}
        for pairs, values in self.source.stretches((name,)):
            for group in groups_of_cells(pairs):
                R_c = pairs.R_pc[group[0]]
                images = image_numbers(np.array([R_c, -R_c]), self.cells_c)
                both = int(images[0]), int(images[1])
                add_blocks(self.blocks, pairs, group, values, 1.0, data, {name: layout}, both, self.sign_M)
        return data[name]
