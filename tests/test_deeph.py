"""DeepH folders of both layouts: a real frame out and in, and the order of orbitals decided by the overlap."""

import json
import shutil

import h5py
import numpy as np
import pytest

from converters import deeph
from converters.errors import Refused
from converters.openmx.scfout import read_scfout
from converters.physics.checks import check_frame
from converters.runs import search
from slem_plugin.testing.damage import mutate_folder, outcome_of_reading
from tests.conftest import make_random_frame
from tests.fixtures import frames_of, unpacked

SOURCES = [("openmx", "f_orb_h2o"), ("openmx", "soc"), ("abacus", "si2"), ("siesta", "ptse2")]


def read_folder(folder):
    (run,) = search(folder, ["deeph"])
    (frame,) = deeph.read_run(run)
    return frame


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("layout", ["legacy", "2026"])
def test_a_real_frame_goes_out_and_in(source, layout, tmp_path):
    (frame,) = frames_of(*source)
    deeph.write(frame, tmp_path, layout=layout)
    again = read_folder(tmp_path)
    np.testing.assert_allclose(again.positions_av, frame.positions_av, atol=1e-12)
    place = again.pairs.find(frame.pairs.i_p, frame.pairs.j_p, frame.pairs.R_pc)
    assert (place >= 0).all()
    for name in frame.operators:
        for p, q in enumerate(place.tolist()):
            np.testing.assert_array_equal(again.block_of_pair(name, q), frame.block_of_pair(name, p))
    assert again.spin is frame.spin
    assert again.outcome.fermi == frame.outcome.fermi
    assert all(result.ok is not False for result in check_frame(again))


def test_legacy_blocks_are_openmx_blocks(tmp_path):
    """Against the numbers of .scfout themselves: key [R1, R2, R3, i, j] from 1, OpenMX order, eV."""
    (frame,) = frames_of("openmx", "f_orb_h2o")
    deeph.write(frame, tmp_path, layout="legacy")
    (path,) = unpacked("openmx", "f_orb_h2o").glob("*.scfout")
    stored = read_scfout(path)
    sizes = stored.norb_a[stored.i_q] * stored.norb_a[stored.j_q]
    blocks = np.split(stored.values["H"][0], np.cumsum(sizes)[:-1])
    with h5py.File(tmp_path / "hamiltonians.h5") as file:
        assert len(file) == len(blocks)
        for q, block in enumerate(blocks):
            i, j = stored.i_q[q], stored.j_q[q]
            found = file[json.dumps([*stored.R_qc[q].tolist(), int(i) + 1, int(j) + 1])][()]
            np.testing.assert_allclose(found.ravel(), block * 27.211386245988, atol=2e-8)
    assert (tmp_path / "orbital_types.dat").read_text().splitlines()[0] == "0 0 1 1 2 3"


def test_the_overlap_decides_the_order_of_the_new_layout(tmp_path, monkeypatch):
    (frame,) = frames_of("openmx", "f_orb_h2o")
    monkeypatch.setattr(deeph, "standard", deeph.openmx_order)
    deeph.write(frame, tmp_path)
    monkeypatch.undo()
    again = read_folder(tmp_path)
    assert again.provenance.settings["orbital order"] == "OpenMX"
    np.testing.assert_array_equal(again.operators["H"].values_sx, frame.operators["H"].values_sx)


def test_half_of_the_blocks_is_enough(tmp_path):
    (frame,) = frames_of("openmx", "h2o")
    deeph.write(frame, tmp_path, layout="legacy")
    with h5py.File(tmp_path / "hamiltonians.h5", "r+") as file:
        for key in list(file):
            *_, i, j = json.loads(key)
            if i > j:
                del file[key]
    np.testing.assert_array_equal(read_folder(tmp_path).operators["H"].values_sx, frame.operators["H"].values_sx)


def test_what_deeph_cannot_hold_is_refused(tmp_path):
    (iron,) = frames_of("openmx", "spin")
    with pytest.raises(Refused, match="no collinear spin"):
        deeph.write(iron, tmp_path)
    mixed = make_random_frame(3)
    assert (np.diff(mixed.species_a) < 0).any()
    with pytest.raises(Refused, match="groups atoms by element"):
        deeph.write(mixed, tmp_path)
    (frame,) = frames_of("openmx", "h2o")
    with pytest.raises(Refused, match='layout "2027"'):
        deeph.write(frame, tmp_path, layout="2027")


@pytest.mark.parametrize("layout", ["legacy", "2026"])
def test_damage_is_refused(layout, tmp_path):
    (frame,) = frames_of("openmx", "h2o")
    source = tmp_path / "source"
    source.mkdir()
    deeph.write(frame, source, layout=layout)
    original = (read_folder(source),)
    for seed in range(40):
        folder = shutil.copytree(source, tmp_path / str(seed))
        what = mutate_folder(folder, "deeph", np.random.default_rng(seed))
        outcome, detail = outcome_of_reading(folder, "deeph", original)
        assert outcome in ("refused", "same", "left out", "other value"), f"seed {seed}, {what}: {outcome}: {detail}"
        shutil.rmtree(folder)


@pytest.mark.parametrize(("layout", "name"), [("legacy", "lat.dat"), ("2026", "POSCAR")])
def test_a_missing_structure_is_named(layout, name, tmp_path):
    (frame,) = frames_of("openmx", "h2o")
    deeph.write(frame, tmp_path, layout=layout)
    (tmp_path / name).unlink()
    with pytest.raises(Refused, match=f"has no {name} beside its matrices; expected a whole folder of DeepH"):
        read_folder(tmp_path)
