"""Files of earlier versions are read, and say what they said."""

import json
import shutil

import numpy as np
import pytest
from h5py import File

from converters.storage.dataset import Dataset
from converters.storage.record import read_record
from converters.storage.writer import DatasetWriter
from slem_plugin.checkpoint import load_model
from slem_plugin.prediction import predict
from tests.golden import ATOMS, GOLDEN, facts_of, said, signed_elements_of

DATASETS, MODELS = [1, 2], [1]
RECORDS = json.loads((GOLDEN / "records-1.json").read_text())


def assert_same_facts(found, expected, rtol):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, dict):
            assert (found[name]["size"], found[name]["known"]) == (value["size"], value["known"])
            np.testing.assert_allclose(found[name]["norm"], value["norm"], rtol=rtol)
            np.testing.assert_allclose(found[name]["some"], value["some"], rtol=rtol, atol=rtol)
        else:
            assert found[name] == value


def assert_same_elements(frame, expected, rtol):
    """Signs and phases too: a conjugated or mirrored matrix has the same norm."""
    found = signed_elements_of(frame)
    assert found.keys() == expected.keys()
    for name, elements in expected.items():
        np.testing.assert_allclose(found[name], elements, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("version", DATASETS)
def test_datasets_of_all_versions_are_read(version):
    expected = json.loads((GOLDEN / f"facts-{version}.json").read_text())["dataset"]
    signs = json.loads((GOLDEN / f"signs-{version}.json").read_text())["dataset"]
    with Dataset(GOLDEN / f"dataset-{version}.h5") as data:
        assert [said(frame.provenance) for frame in data] == json.loads((GOLDEN / f"said-{version}.json").read_text())
        assert len(data) == len(expected)
        assert all(mine is not None for mine in data.functions)
        for frame, facts, elements in zip(data, expected, signs, strict=True):
            assert_same_facts(facts_of(frame), facts, 0)
            assert_same_elements(frame, elements, 0)
    with File(GOLDEN / f"dataset-{version}.h5") as file:
        assert file.attrs["version"] == version


@pytest.mark.parametrize("version", MODELS)
def test_models_of_all_versions_predict_what_they_did(version):
    expected = json.loads((GOLDEN / f"facts-{version}.json").read_text())["prediction"]
    signs = json.loads((GOLDEN / f"signs-{version}.json").read_text())["prediction"]
    frame = predict(load_model(GOLDEN / f"model-{version}.safetensors"), ATOMS)
    assert_same_facts(facts_of(frame), expected, 1e-9)
    assert_same_elements(frame, signs, 1e-9)


@pytest.mark.parametrize("name", RECORDS)
def test_what_version_1_said_in_words_has_fields(name):
    """Records that version 1 wrote of runs of each code."""
    assert said(read_record(json.dumps(RECORDS[name]["record"]).encode()).provenance) == RECORDS[name]["said"]


def test_a_file_of_version_1_becomes_one_of_version_2_when_a_frame_is_added(tmp_path):
    path = tmp_path / "data.h5"
    shutil.copy(GOLDEN / "dataset-1.h5", path)
    with Dataset(GOLDEN / "dataset-2.h5") as new, DatasetWriter(path) as writer:
        writer.append(new[1])
        told = said(new[1].provenance)
    with Dataset(path) as data:
        assert [said(frame.provenance) for frame in data] == [*json.loads((GOLDEN / "said-1.json").read_text()), told]
    with File(path) as file:
        assert file.attrs["version"] == 2
