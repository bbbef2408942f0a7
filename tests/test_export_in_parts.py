"""Large predictions are exported stretch by stretch: the files are those of the whole frame."""

from dataclasses import replace

import numpy as np
import pytest

from basis.spin import Spin
from converters.errors import Refused
from converters.physics.kspace import count_electrons
from converters.siesta.sparse import read_density_file
from converters.starts.start import Options
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from slem_plugin.testing.frames import made_frame, random_structure, two_species
from workflows import export_in_parts as parts
from workflows.export import Request, export
from workflows.export_in_parts import export_in_parts


def predicted(spin, supercell=None):
    """A frame of two species with d orbitals, which SIESTA orders and signs in its own way, as a prediction would have it."""
    structure = random_structure(3, natoms=5, size=5.0, pbc=(True, True, False))
    frame = made_frame(structure, two_species("1s1p1d"), spin, seed=2)
    electrons = float(np.sum(count_electrons(frame)))
    if electrons < 0:  # random numbers
        DM = replace(frame["DM"], values_sx=-frame["DM"].values_sx)
        frame, electrons = replace(frame, operators={**frame.operators, "DM": DM}), -electrons
    form = replace(frame.provenance.form, supercell=supercell)
    provenance = replace(frame.provenance, code="siesta", predicted=True, form=form)
    return replace(
        frame, provenance=provenance, outcome=replace(frame.outcome, electrons=1.003 * electrons), spectrum=None
    )


@pytest.mark.parametrize("spin", [Spin.NONE, Spin.COLLINEAR], ids=str)
@pytest.mark.parametrize("supercell", [None, (1, 1, 1)])
@pytest.mark.parametrize(("format", "name"), [("siesta", "siesta.DM"), ("tbtrans", "slem.TSHS"), ("petsc", "")])
def test_parts_write_what_the_whole_frame_gives(spin, supercell, format, name, tmp_path, monkeypatch):
    frame = predicted(spin, supercell)
    with DatasetWriter(tmp_path / "pred.h5") as writer:
        writer.append(frame)
    monkeypatch.setattr(
        parts.Source,
        "of_dataset",
        lambda data, n: parts.Source(data.outline(n), lambda names: data.stretches(n, names, 300)),
    )
    with Dataset(tmp_path / "pred.h5") as data:
        assert len(list(data.stretches(0, ("DM",), 300))) > 3
    request = Request(format, route="dm", options=Options(fermi=-4.0, kpoint=(0.5, 0, 0)))
    whole = export(frame, tmp_path / "whole", request)
    found = export_in_parts(tmp_path / "pred.h5", 0, tmp_path / "parts", request, largest=5)
    assert found.notes == whole.notes
    assert [path.name for path in found.files] == [path.name for path in whole.files]
    for mine, theirs in zip(found.files, whole.files, strict=True):
        assert name in mine.name
        if format != "siesta":
            assert mine.read_bytes() == theirs.read_bytes()
            continue
        one, other = read_density_file(mine, "DM"), read_density_file(theirs, "DM")
        assert (one.column_e == other.column_e).all()
        assert (one.cells_c == other.cells_c).all()
        # The electrons by which DM is scaled are summed in another order.
        np.testing.assert_allclose(one.values["DM"], other.values["DM"], rtol=1e-13)


def test_what_needs_the_whole_frame_is_left_to_it(tmp_path):
    frame = predicted(Spin.NONE)
    spinor = predicted(Spin.SPINOR)
    run = replace(frame, provenance=replace(frame.provenance, predicted=False))
    with DatasetWriter(tmp_path / "pred.h5") as writer:
        for each in (frame, spinor, run):
            writer.append(each)
    path = tmp_path / "pred.h5"
    assert export_in_parts(path, 0, tmp_path / "a", Request("siesta")) is None  # it is small
    for number, request in (
        (0, Request("abacus")),
        (0, Request("siesta", route="h2dm")),
        (0, Request("siesta", purify="clip")),
        (1, Request("siesta")),
        (2, Request("siesta")),
    ):
        assert export_in_parts(path, number, tmp_path / "a", request, largest=5) is None
    with pytest.raises(Refused, match="cannot be used as a start"):
        export_in_parts(path, 0, tmp_path / "a", Request("siesta", electrons=1000.0), largest=5)
