"""What every code's converter must do: the tests of a code inherit `CodeContract` and bring only fixtures of real runs."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest

from basis.spin import Spin
from converters.codes.known import KNOWN
from converters.codes.run import Run
from converters.errors import Kind, Refused
from converters.frames.frame import Frame
from converters.frames.origin import Made
from converters.physics.checks import check_frame
from converters.physics.kspace import eigenvalues
from converters.runs import code_module, search
from converters.starts.fit import fit_to_target, reorder_atoms
from converters.starts.start import Options, Target
from converters.starts.targets import find_target, restart_module
from converters.storage.dataset import Dataset
from converters.storage.writer import DatasetWriter
from slem_plugin.testing.damage import mutate_folder, outcome_of_reading
from workflows.export import Exported, Request, export


def run_in(folder: Path, codes: Sequence[str]) -> Run:
    """The run of a folder that has one."""
    (run,) = search(folder, list(codes))
    if isinstance(run, Refused):
        raise run
    return run


def frames_in(code: str, folder: Path) -> tuple[Frame, ...]:
    """All frames of the runs of a folder."""
    frames: list[Frame] = []
    for run in search(folder, [code]):
        if isinstance(run, Refused):
            raise run
        frames += code_module(code).read_run(run)
    return tuple(frames)


def exported_or_refused(frame: Frame, folder: Path, request: Request, target: Target) -> Exported | Refused:
    try:
        return export(frame, folder, request, target)
    except Refused as refusal:
        return refusal


def assert_same_frame(a: Frame, b: Frame) -> None:
    """Two frames are equal in everything, to the last bit."""
    for name in ("cell_cv", "pbc_c", "positions_av"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert [a.basis[s] for s in a.species_a] == [b.basis[s] for s in b.species_a]
    for name in ("i_p", "j_p", "R_pc", "norb_a"):
        np.testing.assert_array_equal(getattr(a.pairs, name), getattr(b.pairs, name))
    assert (a.spin, a.outcome, a.provenance, a.folded) == (b.spin, b.outcome, b.provenance, b.folded)
    assert set(a.operators) == set(b.operators)
    for name, operator in a.operators.items():
        np.testing.assert_array_equal(operator.values_sx, b.operators[name].values_sx)
        known, other = operator.known_x, b.operators[name].known_x
        assert (known is None) == (other is None)
        if known is not None:
            np.testing.assert_array_equal(known, other)
    assert (a.spectrum is None) == (b.spectrum is None)
    if a.spectrum is not None:
        for name in ("kpoints_kc", "weights_k", "energies_skn"):
            np.testing.assert_array_equal(getattr(a.spectrum, name), getattr(b.spectrum, name))
        for name in ("tolerance", "smearing", "width", "fixed_moment", "kpoint_error", "matrix_rounding"):
            assert getattr(a.spectrum, name) == getattr(b.spectrum, name)


def assert_same_blocks(found: Frame, expected: Frame, within: float) -> None:
    """All blocks of one frame are in another; one that is not there counts as zero."""
    pairs = expected.pairs
    q_p = found.pairs.find(pairs.i_p, pairs.j_p, pairs.R_pc)
    for operator in expected.operators:
        for p, q in enumerate(q_p):
            block = expected.block_of_pair(operator, p)
            other = found.block_of_pair(operator, q) if q >= 0 else np.zeros_like(block)
            np.testing.assert_allclose(other, block, atol=within)


def in_other_cells(frame: Frame) -> Frame:
    """The same crystal, its atoms moved by lattice vectors; the first one stays."""
    moves_ac = np.resize([[0, 0, 0], [1, -2, 0], [0, 3, 1], [-1, 0, -1]], (frame.natoms, 3))
    return reorder_atoms(frame, np.arange(frame.natoms), moves_ac)


@dataclass(frozen=True)
class Expected:
    """What is known about a fixture from outside: the run's own printed numbers."""

    species: tuple[str, ...]
    electrons: float
    spin: Spin = Spin.NONE
    operators: tuple[str, ...] = ("H", "S", "DM")
    levels: float | None = 1e-6
    density: float | None = 1e-4
    energy: float | None = None
    iterations: int | None = None
    moment: float | None = None
    not_done: tuple[str, ...] = field(default=())


class CodeContract:
    """Inherit and set `code`, `good` (fixture name to `Expected`) and `fuzzed` (small fixtures to damage).

    `written` says how exactly matrices that were written are read again, `not_written` which fixtures have files that are read alone. `folder_of` gives the folder of a fixture.
    """

    code: str
    good: dict[str, Expected]
    fuzzed: tuple[str, ...]
    written: float = 1e-9
    not_written: tuple[str, ...] = ()

    def folder_of(self, name: str) -> Path:
        """The folder of a fixture, which no test writes into."""
        raise NotImplementedError

    def frames_of(self, name: str) -> tuple[Frame, ...]:
        """Its frames; worth keeping when reading takes long."""
        return frames_in(self.code, self.folder_of(name))

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        for argument, values in (("name", list(self.good)), ("small", self.fuzzed)):
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, values)

    def test_every_announced_quantity_is_read(self, name: str) -> None:
        expected, (frame,) = self.good[name], self.frames_of(name)
        assert set(frame.operators) == set(expected.operators)
        assert frame.spin is expected.spin
        assert tuple(str(species) for species in frame.basis) == expected.species
        assert frame.provenance.code == self.code
        assert len(frame.provenance.source) == 64
        assert frame.provenance.form.harmonics is not None
        for operator in frame.operators:
            origin = frame.provenance.origins[operator]
            assert origin.made is Made.READ
            assert set(origin.files) <= {Path(file).name for file in frame.provenance.files}
            assert origin.treatments
        for key in ("energy", "iterations", "moment"):
            if getattr(expected, key) is not None:
                assert getattr(frame.outcome, key) == pytest.approx(getattr(expected, key), abs=2e-5)

    def test_physics_agrees_with_the_printed_numbers(self, name: str) -> None:
        expected, (frame,) = self.good[name], self.frames_of(name)
        results = {result.name: result for result in check_frame(frame)}
        for result in results.values():
            assert result.ok is True or result.ok is None, str(result)
        assert {n for n, r in results.items() if r.ok is None} == set(expected.not_done)
        if "DM" in expected.operators:
            assert results["Tr(DM S) = electrons"].found == pytest.approx(expected.electrons, abs=1e-8)
        for key, limit in (
            ("eigenvalues against the printed ones", expected.levels),
            ("DM against f(H, S)", expected.density),
            ("S two-centre", 1e-7 if "S two-centre" not in expected.not_done else None),
        ):
            if limit is not None and not (key.startswith("DM") and "DM" not in expected.operators):
                assert (results[key].found or 0.0) < limit, str(results[key])

    def test_the_record_announces_what_is_read(self, name: str) -> None:
        about, run = KNOWN[self.code], run_in(self.folder_of(name), list(KNOWN))
        (frame,) = self.frames_of(name)
        assert run.code == self.code
        assert frame.spin.value in about.layouts
        assert set(frame.operators) <= set(about.operators)
        for path in (*run.matrices, *run.others):
            assert any(fnmatchcase(path.name, pattern) for pattern in about.files), path.name

    def test_matrices_go_out_and_come_in_again(self, name: str, tmp_path: Path) -> None:
        if name in self.not_written:
            pytest.skip("files like these are read and not written")
        folder, (frame,) = shutil.copytree(self.folder_of(name), tmp_path / "run"), self.frames_of(name)
        run = run_in(folder, [self.code])
        files = code_module(self.code).write_matrices(frame, run.main.parent, Options(template=run.main))
        assert {path.name for path in files} & {path.name for path in run.matrices}
        (again,) = frames_in(self.code, folder)
        assert_same_blocks(again, frame, self.written)

    def test_atoms_may_stand_in_any_cell(self, name: str, tmp_path: Path) -> None:
        """Moved by lattice vectors it is the same crystal: its files are written and read as the same matrices."""
        if name in self.not_written:
            pytest.skip("files like these are read and not written")
        (frame,) = self.frames_of(name)
        if not frame.pbc_c.all():
            pytest.skip("a molecule has no lattice vectors")
        moved = in_other_cells(frame)
        kpoints_kc = np.array([[0, 0, 0]] if frame.folded else [[0, 0, 0], [0.13, 0.21, -0.34]])
        np.testing.assert_allclose(eigenvalues(moved, kpoints_kc), eigenvalues(frame, kpoints_kc), atol=1e-6)
        folder = shutil.copytree(self.folder_of(name), tmp_path / "run")
        run = run_in(folder, [self.code])
        code_module(self.code).write_matrices(moved, run.main.parent, Options(template=run.main))
        (again,) = frames_in(self.code, folder)
        between_ac = (frame.positions_av - again.positions_av) @ np.linalg.inv(frame.cell_cv)
        np.testing.assert_allclose(between_ac, np.round(between_ac), atol=1e-6)
        back = reorder_atoms(again, np.arange(frame.natoms), np.round(between_ac).astype(int))
        assert_same_blocks(back, frame, self.written)

    def test_a_start_takes_atoms_from_any_cell(self, name: str) -> None:
        if KNOWN[self.code].load_restart is None:
            pytest.skip("no run of this code is started by files")
        target, (frame,) = find_target(self.folder_of(name)), self.frames_of(name)
        if not frame.pbc_c.all():
            pytest.skip("a molecule has no lattice vectors")
        mine, theirs = fit_to_target(in_other_cells(frame), target), fit_to_target(frame, target)
        np.testing.assert_allclose(mine.positions_av, theirs.positions_av, atol=1e-9)
        for key in ("i_p", "j_p", "R_pc"):
            np.testing.assert_array_equal(getattr(mine.pairs, key), getattr(theirs.pairs, key))
        for operator, matrix in theirs.operators.items():
            np.testing.assert_allclose(mine.operators[operator].values_sx, matrix.values_sx, rtol=0, atol=1e-12)

    def test_the_input_says_what_the_matrices_say(self, name: str) -> None:
        if KNOWN[self.code].load_restart is None:
            pytest.skip("no run of this code is started by files")
        target, (frame,) = find_target(self.folder_of(name)), self.frames_of(name)
        assert (target.code, target.spin) == (self.code, frame.spin)
        assert target.numbers_a.tolist() == frame.numbers_a.tolist()
        np.testing.assert_allclose(target.cell_cv, frame.cell_cv, atol=2e-6)
        np.testing.assert_allclose(fit_to_target(frame, target).positions_av, target.positions_av, atol=1e-5)

    def test_every_route_makes_a_start_or_says_why_not(self, name: str, tmp_path: Path) -> None:
        if KNOWN[self.code].load_restart is None:
            pytest.skip("no run of this code is started by files")
        target, (frame,) = find_target(self.folder_of(name)), self.frames_of(name)
        chosen = restart_module(self.code).choose_route(frame, target, Options()).name
        assert chosen in KNOWN[self.code].routes
        for route in KNOWN[self.code].routes:
            done = exported_or_refused(frame, tmp_path / route, Request(route=route), target)
            if isinstance(done, Refused):
                assert done.kind in (Kind.NO_START, Kind.MISSING_FILES), str(done)
                continue
            assert all(path.stat().st_size for path in done.files)
            assert done.patched is not None
            assert done.patched.name == target.path.name
            assert all(word in done.patched.read_text() for word in done.keywords.values())

    def test_dataset_keeps_every_bit(self, name: str, tmp_path: Path) -> None:
        (frame,) = self.frames_of(name)
        with DatasetWriter(tmp_path / "data.h5") as writer:
            writer.append(frame)
        with Dataset(tmp_path / "data.h5") as data:
            assert_same_frame(data[0], frame)

    def test_an_empty_or_foreign_file_is_no_run(self, tmp_path: Path, small: str) -> None:
        folder = shutil.copytree(self.folder_of(small), tmp_path / "run")
        run = run_in(folder, [self.code])
        for content in (b"", b"hello world\n" * 20, bytes(range(256)) * 8):
            run.main.write_bytes(content)
            assert outcome_of_reading(folder, self.code, ())[0] == "refused"

    def test_damage_gives_one_clear_error_or_the_same_frame(self, small: str, tmp_path: Path) -> None:
        original = self.frames_of(small)
        for seed in range(60):
            folder = tmp_path / str(seed)
            shutil.copytree(self.folder_of(small), folder)
            what = mutate_folder(folder, self.code, np.random.default_rng(seed))
            outcome, detail = outcome_of_reading(folder, self.code, original)
            assert outcome in ("refused", "same", "left out", "other value"), (
                f"seed {seed}, {what}: {outcome}: {detail}"
            )
            shutil.rmtree(folder)
