"""What every code's converter must do. A code's tests inherit `CodeContract` and bring only fixtures."""

import functools
import shutil
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from basis.spin import Spin
from converters.physics.checks import check_frame
from converters.runs import code_module, search
from converters.storage.dataset import Dataset, DatasetWriter
from tests.conftest import assert_same_frame
from tests.mutations import mutate_folder, outcome_of_reading

DATA = Path(__file__).parent / "data"


@functools.cache
def scratch():
    """A folder that lives as long as the tests."""
    holder = tempfile.TemporaryDirectory(prefix="slem-fixtures-")
    return holder, Path(holder.name)


@functools.cache
def unpacked(code, name):
    """Folder of a fixture; do not write into it."""
    folder = scratch()[1] / code
    with tarfile.open(DATA / code / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


@functools.cache
def frames_of(code, name):
    return tuple(frame for run in search(unpacked(code, name), [code]) for frame in code_module(code).read_run(run))


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
    """Inherit and set `code`, `good` (fixture name to `Expected`) and `fuzzed` (small fixtures to damage)."""

    code: str
    good: dict[str, Expected]
    fuzzed: tuple[str, ...]

    def pytest_generate_tests(self, metafunc):
        for argument, values in (("name", list(self.good)), ("small", self.fuzzed)):
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, values)

    def test_every_announced_quantity_is_read(self, name):
        expected, (frame,) = self.good[name], frames_of(self.code, name)
        assert set(frame.operators) == set(expected.operators)
        assert frame.spin is expected.spin
        assert tuple(str(species) for species in frame.basis) == expected.species
        assert frame.provenance.code == self.code
        assert len(frame.provenance.source) == 64
        for key in ("energy", "iterations", "moment"):
            if getattr(expected, key) is not None:
                assert getattr(frame.outcome, key) == pytest.approx(getattr(expected, key), abs=2e-5)

    def test_physics_agrees_with_the_printed_numbers(self, name):
        expected, (frame,) = self.good[name], frames_of(self.code, name)
        results = {result.name: result for result in check_frame(frame)}
        for result in results.values():
            assert result.ok is not False, str(result)
        assert {n for n, r in results.items() if r.ok is None} == set(expected.not_done)
        if "DM" in expected.operators:
            assert results["Tr(DM S) = electrons"].found == pytest.approx(expected.electrons, abs=1e-8)
        for key, limit in (
            ("eigenvalues against the printed ones", expected.levels),
            ("DM against f(H, S)", expected.density),
            ("S two-centre", 1e-7 if "S two-centre" not in expected.not_done else None),
        ):
            if limit is not None and not (key.startswith("DM") and "DM" not in expected.operators):
                assert results[key].found < limit, str(results[key])

    def test_dataset_keeps_every_bit(self, name, tmp_path):
        (frame,) = frames_of(self.code, name)
        with DatasetWriter(tmp_path / "data.h5") as writer:
            writer.append(frame)
        with Dataset(tmp_path / "data.h5") as data:
            assert_same_frame(data[0], frame)

    def test_an_empty_or_foreign_file_is_no_run(self, tmp_path, small):
        folder = shutil.copytree(unpacked(self.code, small), tmp_path / "run")
        (run,) = search(folder, [self.code])
        for content in (b"", b"hello world\n" * 20, bytes(range(256)) * 8):
            run.main.write_bytes(content)
            assert outcome_of_reading(folder, self.code, ())[0] == "refused"

    def test_damage_gives_one_clear_error_or_the_same_frame(self, small, tmp_path):
        original = frames_of(self.code, small)
        for seed in range(60):
            folder = tmp_path / str(seed)
            shutil.copytree(unpacked(self.code, small), folder)
            what = mutate_folder(folder, self.code, np.random.default_rng(seed))
            outcome, detail = outcome_of_reading(folder, self.code, original)
            assert outcome in ("refused", "same", "other value"), f"seed {seed}, {what}: {outcome}: {detail}"
            shutil.rmtree(folder)
