"""Extents: the bytes of a dataset file where one array of a reserved frame is, so that many processes may write it at once.

The chunks of such arrays are not compressed, and HDF5 has taken their room: rows go there by plain writes, without HDF5.
"""

from dataclasses import dataclass

import h5py
import numpy as np

from basis import Array
from converters.storage.journal import write_all


@dataclass(frozen=True)
class Extent:
    """Rows of `dtype` and shape `row` in chunks of `chunk` rows that begin at the bytes `offset_c`; the frame begins at row `start` of the first chunk."""

    dtype: str
    row: tuple[int, ...]
    chunk: int
    start: int
    offset_c: tuple[int, ...]

    def write(self, descriptor: int, first: int, rows: Array) -> None:
        """Write rows of the frame, from row `first` on, to their place in the open file."""
        data = np.ascontiguousarray(rows, dtype=self.dtype).reshape(-1).view(np.uint8).data
        width = int(np.dtype(self.dtype).itemsize * np.prod(self.row, dtype=int))
        at, done = self.start + first, 0
        while done < len(data):
            c, inside = divmod(at, self.chunk)
            count = min((self.chunk - inside) * width, len(data) - done)
            write_all(descriptor, data[done : done + count], self.offset_c[c] + inside * width)
            done, at = done + count, at + count // width


def extent_of(dataset: h5py.Dataset, first: int) -> Extent:
    """The place of all rows of a dataset from the first one on."""
    chunk, *row = dataset.chunks
    offsets: dict[int, int] = {}

    def note(stored: h5py.h5d.StoreInfo) -> None:
        offsets[stored.chunk_offset[0] // chunk] = stored.byte_offset

    dataset.id.chunk_iter(note)
    start = first // chunk
    offset_c = tuple(offsets[c] for c in range(start, -(-dataset.shape[0] // chunk)))
    return Extent(dataset.dtype.str, tuple(row), chunk, first - start * chunk, offset_c)
