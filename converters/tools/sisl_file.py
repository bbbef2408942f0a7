"""H and S in the netCDF file of sisl, which keeps the geometry with them."""

from importlib.util import find_spec
from pathlib import Path

from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.starts.start import Options, Written


def write(frame: Frame, folder: Path, options: Options) -> Written:
    """slem.nc: sisl.get_sile("slem.nc").read_hamiltonian() gives what frame.to_sisl() gives, without the names of the orbitals."""
    if find_spec("netCDF4") is None:
        raise Refused(Kind.NOT_INSTALLED, "netCDF4", "is not installed; sisl needs it for this file")
    path = folder / "slem.nc"
    # The file has one kind of atom for each species, so names must be the same for all atoms of one.
    names_a = [[str(n + 1) for n in range(frame.basis[s].size)] for s in frame.species_a]
    frame.to_sisl(names_a).write(path)
    return Written((path,), {})
