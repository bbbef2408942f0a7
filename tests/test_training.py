"""Training: it learns, it can be interrupted and gives the same numbers, and it says what went wrong."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from pyscf import gto, scf
from safetensors.torch import save_file

import slem_plugin as slem
from basis.spin import Spin
from converters.durations import parse_time
from converters.errors import Refused
from converters.frames.blocks import Operator
from converters.frames.neighbours import structure_of
from converters.pyscf import frame_from_scf
from converters.storage.writer import DatasetWriter
from slem_plugin import checkpoint
from slem_plugin.accuracy import Errors
from slem_plugin.checkpoint import LAST, load_checkpoint, load_model, save_checkpoint
from slem_plugin.config import Config, choose_frames, read_config
from slem_plugin.graphs.graph import graph_of_bonds, join_graphs
from slem_plugin.learning import loop
from slem_plugin.learning.learner import loss_of, scales_of
from slem_plugin.learning.lessons import Lessons
from slem_plugin.learning.loop import affordable_checks, batch_order, some_of, train, usual_batch
from slem_plugin.learning.samples import join_lessons, make_lesson, make_model, network_spec
from slem_plugin.learning.turned import EVERY, TurnedAdam
from slem_plugin.learning.weights import FlatWeights
from slem_plugin.network.channels import Channels
from slem_plugin.network.network import PairStates
from slem_plugin.prediction import predict
from slem_plugin.testing.codes import assert_same_frame
from slem_plugin.testing.frames import made_frame, random_structure, two_species
from workflows.terminal.show_training import notes_of, rise_since_best

SMALL = "8x0e+6x1o+2x1e+4x2e+2x2o"


def small_config(**keys):
    return Config(**{"channels": SMALL, "layers": 2, "latent": 16, "waves": 8, "time": "0", "steps": 12, **keys})


@pytest.fixture(params=list(Spin), ids=str)
def frames(request):
    return [made_frame(random_structure(n), two_species("2s1p"), request.param, seed=n) for n in range(4)]


def train_quietly(model, frames, folder, config, state=None, memory=1e9):
    folder.mkdir(exist_ok=True)
    reports = []
    model.history["config"] = vars(config)
    names = [f"frame {n}" for n in range(len(frames))]
    with Lessons(frames, names, model, memory, workers=1) as lessons:
        trained = train(model, lessons, frames[:1], folder, config, state, lambda *_: None, reports.append)
    return trained, reports


@pytest.mark.slow
def test_one_frame_is_learned_by_heart(tmp_path):
    mf = scf.RHF(gto.M(atom="O 0 0 0.12; H 0.05 0.76 -0.48; H 0 -0.78 -0.44", basis="6-31g", verbose=0))
    mf.kernel()
    frame = frame_from_scf(mf)
    keys = {"channels": "16x0e+12x1o+4x1e+6x2e+2x2o", "operators": "H", "precision": "float64"}
    config = small_config(**keys, layers=1, steps=1000, average=0.5, evaluations=1)
    model = make_model([frame], config)
    target = make_lesson(frame, model).targets["H"]
    for rest, size in zip(target.rest, target.size, strict=True):
        assert (rest.abs() < 10 * size).all()  # also where the model's own S is not exact, as after two distances
    _, reports = train_quietly(model, [frame], tmp_path, config)
    assert reports[-1].errors["H"] < 1e-6  # 1e-3 meV


def test_training_lowers_the_errors(frames, tmp_path):
    config = small_config(steps=120, evaluations=2, precision="float64", onsite_weight=1.0)
    model = make_model(frames, config)
    lessons = [make_lesson(frame, model) for frame in frames]
    scales = scales_of(lessons)
    before = float(loss_of(model.network(join_lessons(lessons).graph), join_lessons(lessons), scales, 1.0).detach())
    assert before == pytest.approx(2.0)  # H and DM, each in units of the rest after its baseline
    trained, reports = train_quietly(model, frames, tmp_path, config)
    assert reports[-1].loss < 0.9 * before
    assert_same_frame(*(predict(m, structure_of(frames[1])) for m in (trained, load_model(tmp_path))))


def test_short_trainings_look_at_few_frames(frames):
    model = make_model(frames, small_config())
    found = [affordable_checks(model, frames, small_config(time=time)) for time in ("0.001s", "0", "9h")]
    assert found == [4, 50, 50]
    assert [len(some_of(range(100), count)) for count in found] == [4, 50, 50]


def test_what_is_kept_has_the_smallest_validation_error(tmp_path):
    """A frame of other random matrices cannot be learned from one frame: its error rises while the loss falls."""
    structures = [random_structure(n, natoms=3) for n in range(2)]
    learned, other = (made_frame(one, two_species("2s1p"), Spin.NONE, seed=n) for n, one in enumerate(structures))
    config = small_config(operators="H", steps=30, evaluations=6, rate=0.02, precision="float64")
    model, reports = make_model([learned], config), []
    with Lessons([learned], ["learned"], model, 1e9, workers=0) as lessons:
        kept = train(model, lessons, [other], tmp_path, config, None, lambda *_: None, reports.append)
    errors = [report.errors["H"] for report in reports]
    assert reports[-1].loss < 0.9 * reports[0].loss
    assert errors[-1] > 1.2 * min(errors)
    accuracy = Errors()
    accuracy.add_frame(other, predict(kept, structure_of(other)))
    assert accuracy.operators["H"].whole.mae == pytest.approx(min(errors), rel=1e-9)
    rows = [{"step": one.step, "loss": one.loss, "best": one.best, **one.errors} for one in reports]
    step = reports[int(np.argmin(errors))].step
    assert f"met best at step {step} (H {min(errors) * 1e3:.4g} meV)" in "".join(rise_since_best(rows))
    assert not rise_since_best(rows[:1])


@pytest.mark.parametrize(
    ("bonds", "count", "expected"),
    [
        ([6], 200, 16),
        ([6], 30, 3),
        ([6], 5, 1),
        ([72], 200, 8),
        ([72], 32, 4),
        ([688], 200, 1),
        ([0], 16, 2),
        ([6, 294], 200, 4),
    ],
)
def test_small_molecules_are_learned_several_at_a_time(bonds, count, expected):
    assert usual_batch(bonds, count) == expected


@pytest.mark.parametrize(
    ("keys", "pairs", "operators", "kind", "width"),
    [
        ({"time": "20m"}, 34_000, 2, "apart", 2),
        ({"time": "6m"}, 34_000, 2, "apart", 1),
        ({"time": "6m"}, 34_000, 1, "slem", 2),
        ({"time": "20m"}, 12_000, 2, "apart", 1),
        ({"time": "20m"}, 2_000, 2, "slem", 1),  # one network has room for so little
        ({"time": "1m"}, 34_000, 2, "slem", 1),  # a larger one is half as far after so short a time
        ({"time": "0", "steps": 20_000}, 34_000, 2, "apart", 2),
        ({"time": "20m", "steps": 100}, 34_000, 2, "slem", 1),
        ({"time": "20m", "network": "slem"}, 34_000, 2, "slem", 1),
        ({"time": "1m", "network": "apart"}, 2_000, 2, "apart", 1),
    ],
)
def test_networks_have_room_for_much_to_learn(frames, keys, pairs, operators, kind, width):
    spec = network_spec(Config(**keys), frames, pairs, operators)
    assert (spec.kind, spec.channels.natural[0]) == (kind, 32 * width)
    chosen = network_spec(Config(**keys, channels=SMALL), frames, pairs, operators)
    assert chosen == replace(spec, channels=Channels.parse(SMALL))


def test_a_batch_is_its_frames(frames):
    spin = frames[0].spin
    others = [made_frame(random_structure(n, natoms=n), two_species("2s1p"), spin, seed=n) for n in (1, 3, 9)]
    frames = [*frames[:2], *others]  # of several sizes, one with a single species
    model = make_model(frames, small_config(precision="float64"))
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.normal_(0, 0.2)
        lessons = [make_lesson(frame, model) for frame in frames]
        whole = model.network(join_graphs([lesson.graph for lesson in lessons]))
        single = [model.network(lesson.graph) for lesson in lessons]
    for name, output in whole.items():
        for block, *parts in zip(output.blocks, *(one[name].blocks for one in single), strict=True):
            assert torch.allclose(block, torch.cat(parts), rtol=0, atol=1e-12)


@pytest.mark.parametrize("stop", [5, 8])
def test_a_resumed_training_gives_the_same_numbers(frames, tmp_path, stop):
    config = small_config(evaluations=12)
    model = make_model(frames[:3], config)
    _, whole = train_quietly(model, frames[:3], tmp_path / "whole", config)

    class Interruption(Exception):
        pass

    def interrupt(report):
        if report.step == stop:
            raise Interruption

    model = make_model(frames[:3], config)
    (tmp_path / "parts").mkdir()
    lessons = Lessons(frames[:3], ["a", "b", "c"], model, memory=1e9, workers=0)
    with pytest.raises(Interruption):
        train(model, lessons, frames[:1], tmp_path / "parts", config, None, lambda *_: None, interrupt)
    model, state = load_checkpoint(tmp_path / "parts" / LAST)
    _, reports = train_quietly(model, frames[:3], tmp_path / "parts", config, state)
    assert [(r.step, r.loss, r.errors) for r in reports] == [(r.step, r.loss, r.errors) for r in whole if r.step > stop]
    a, b = (load_model(tmp_path / folder / LAST).network.state_dict() for folder in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    log = [line.split(",")[0::3] for line in (tmp_path / "parts" / "log.csv").read_text().splitlines()]
    assert log == [line.split(",")[0::3] for line in (tmp_path / "whole" / "log.csv").read_text().splitlines()]


def test_a_training_that_goes_on_for_longer_than_was_planned_is_looked_at_on_the_way(frames, tmp_path):
    config = small_config(evaluations=4, steps=8)
    model = make_model(frames[:3], config)
    train_quietly(model, frames[:3], tmp_path / "m", config)
    model, state = load_checkpoint(tmp_path / "m" / LAST)
    _, reports = train_quietly(model, frames[:3], tmp_path / "m", replace(config, steps=16), state)
    assert [report.step for report in reports] == [12, 16]


def test_a_training_that_is_killed_long_after_its_last_evaluation_goes_on_from_where_it_was_saved(
    tmp_path, monkeypatch
):
    """With the weights of one that was never interrupted."""
    frames = [made_frame(random_structure(n), two_species("2s1p"), Spin.NONE, seed=n) for n in range(3)]
    config = small_config(evaluations=1, steps=6)
    train_quietly(make_model(frames, config), frames, tmp_path / "whole", config)

    class Kill(Exception):
        pass

    def kill(progress, *_):
        if progress.step == 5:
            raise Kill

    monkeypatch.setattr(loop, "KEPT_EVERY", -1.0)  # after each step
    model = make_model(frames, config)
    (tmp_path / "parts").mkdir()
    with pytest.raises(Kill), Lessons(frames, ["a", "b", "c"], model, memory=1e9, workers=0) as lessons:
        train(model, lessons, frames[:1], tmp_path / "parts", config, None, kill, lambda _: None)
    model, state = load_checkpoint(tmp_path / "parts" / LAST)
    assert model.history["progress"]["step"] == 4
    _, (report,) = train_quietly(model, frames, tmp_path / "parts", config, state)
    assert report.step == 6
    a, b = (load_model(tmp_path / folder / LAST).network.state_dict() for folder in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::UserWarning:torch.*")
def test_the_network_is_one_graph_for_torchs_compiler():
    """With its gradients, and the same numbers; what the compiler makes of a graph, machine code, is another matter."""
    model, graph = network_with_noise(channels=SMALL, layers=2, operators="H,DM")
    compiled = torch.compile(model.network, backend="aot_eager", fullgraph=True)
    gradients = []
    for network in (model.network, compiled):
        predicted = network(graph)
        sum(block.square().sum() for fields in predicted.values() for block in fields.blocks).backward()
        gradients.append([weight.grad.clone() for weight in model.network.parameters() if weight.grad is not None])
        model.network.zero_grad()
    assert len(gradients[0]) == len(gradients[1])
    for a, b in zip(*gradients, strict=True):
        # Of the largest element: slopes of full gates, as noise makes them, are differences of equal numbers.
        assert torch.linalg.vector_norm(a - b) <= 1e-11 * torch.linalg.vector_norm(a)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::UserWarning:torch.*")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.skipif("SLEM_COMPILED" not in os.environ, reason="SLEM_COMPILED is not set: torch compiles for a minute")
def test_compiled_and_eager_networks_agree():
    model, graph = network_with_noise(channels="4x0e", layers=1, operators="H")
    with torch.no_grad():
        eager, compiled = model.network(graph)["H"], torch.compile(model.network)(graph)["H"]
    for a, b in zip(eager.blocks, compiled.blocks, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


def learned_molecules(angles, tmp_path, name):
    """Waters of these angles (degrees) in a dataset."""
    with DatasetWriter(tmp_path / f"{name}.h5") as writer:
        for angle in np.deg2rad(angles):
            atoms = [("O", (0, 0, 0)), ("H", (0.96, 0, 0)), ("H", (0.96 * np.cos(angle), 0.96 * np.sin(angle), 0))]
            mf = scf.RHF(gto.M(atom=atoms, basis="sto-3g", verbose=0)).run()
            writer.append(frame_from_scf(mf))
    return tmp_path / f"{name}.h5"


def error_of_H(model, frame):
    errors = Errors()
    errors.add_frame(frame, predict(model, structure_of(frame)), bands=False)
    return errors.operators["H"].whole.mae


def test_a_training_begins_with_what_another_model_knows(tmp_path):
    """Few new frames: at its first step the new model is the earlier one, and a training of no length unlearns nothing."""
    many = learned_molecules(np.linspace(95, 115, 9), tmp_path, "many")
    few = learned_molecules([101.3, 108.7], tmp_path, "few")
    keys = {"steps": 150, "channels": SMALL, "device": "cpu", "validate": "0"}
    earlier = slem.train(many, tmp_path / "earlier", layers=1, **keys)
    later = slem.train(
        few, tmp_path / "later", before=tmp_path / "earlier", steps=1, validate="0", device="cpu", rate=1e-9
    )
    with slem.Dataset(few) as frames:
        for frame in frames:
            told, says = (predict(model, structure_of(frame)).operators for model in (earlier, later))
            for name in ("H", "S", "DM"):
                np.testing.assert_allclose(told[name].values_sx, says[name].values_sx, atol=1e-5)
            assert error_of_H(earlier, frame) < 0.02
    assert later.blueprint.network.layers == 1
    assert later.history["data"]["name"] == "few.h5"
    assert later.history["began with"] == {"data": "many.h5", "frames": 9, "frames of baselines": 9}
    (note,) = notes_of(later)
    assert "a model of 9 frames of many.h5" in note


def test_a_matrix_that_some_frames_lack_is_named(tmp_path):
    """One refused DM among many keeps DM from being learned, which nobody would see."""
    with slem.Dataset(learned_molecules([99.0, 101.3, 108.7], tmp_path, "all")) as frames:
        whole = list(frames)
    with slem.DatasetWriter(tmp_path / "some.h5") as writer:
        for n, frame in enumerate(whole):
            left = {name: operator for name, operator in frame.operators.items() if n or name != "DM"}
            writer.append(replace(frame, operators=left))
    model = slem.train(tmp_path / "some.h5", tmp_path / "model", steps=1, channels=SMALL, layers=1, validate="0")
    assert tuple(model.blueprint.learned) == ("H",)
    (note,) = notes_of(model)
    assert note.startswith("DM is not learned: 2 of 3 frames have it")


def test_one_matrix_goes_on_from_a_model_of_two(tmp_path):
    few = learned_molecules([99.0, 101.3, 108.7], tmp_path, "few")
    keys = {"validate": "0", "device": "cpu"}
    both = slem.train(few, tmp_path / "both", layers=1, steps=100, channels=SMALL, **keys)
    alone = slem.train(few, tmp_path / "alone", before=both, operators="H", steps=1, rate=1e-9, **keys)
    more = slem.train(few, tmp_path / "more", before=alone, steps=1, rate=1e-9, **keys)
    with slem.Dataset(few) as frames:
        errors = [error_of_H(model, frames[0]) for model in (both, alone, more)]
    np.testing.assert_allclose(errors, errors[0], rtol=1e-3)
    assert [model.blueprint.learned for model in (alone, more)] == [("H",), ("H", "DM")]


def test_more_frames_than_before_bring_their_own_baselines(tmp_path):
    many = learned_molecules(np.linspace(95, 115, 9), tmp_path, "many")
    few = learned_molecules([101.3, 108.7], tmp_path, "few")
    earlier = slem.train(few, tmp_path / "earlier", layers=1, steps=20, channels=SMALL, device="cpu", validate="0")
    later = slem.train(many, tmp_path / "later", before=earlier, steps=1, validate="0", device="cpu", rate=1e-9)
    own = slem.train(many, tmp_path / "own", layers=1, steps=1, channels=SMALL, device="cpu", validate="0")
    for name in ("H", "DM"):
        baselines = (model.baselines[name].arrays() for model in (later, own))
        for a, b in zip(*(baseline.items() for baseline in baselines), strict=True):
            np.testing.assert_allclose(a[1], b[1], err_msg=a[0])
    weights = (model.network.state_dict()["trunk.distances.first.weight"] for model in (earlier, later))
    assert torch.allclose(*weights, atol=1e-6)


def test_pairs_nearer_than_any_before_bring_new_baselines(tmp_path):
    many = learned_molecules(np.linspace(95, 115, 5), tmp_path, "many")
    near = learned_molecules([60.0], tmp_path, "near")
    earlier = slem.train(many, tmp_path / "earlier", layers=1, steps=2, channels=SMALL, device="cpu", validate="0")
    later = slem.train(near, tmp_path / "later", before=earlier, steps=1, validate="0", device="cpu")
    assert later.baselines["H"].nearest_t.min() < 0.97 < earlier.baselines["H"].nearest_t.max()
    near_t, far_t = np.array(later.blueprint.network.learned).T  # the network knows both
    assert near_t.min() < 0.97
    assert far_t.max() > 1.5


def test_another_network_than_that_of_the_model_to_begin_with_is_refused(tmp_path):
    few = learned_molecules([101.3, 108.7], tmp_path, "few")
    earlier = slem.train(few, tmp_path / "earlier", layers=1, steps=2, channels=SMALL, device="cpu", validate="0")
    with pytest.raises(Refused, match="another network"):
        slem.train(few, tmp_path / "later", before=earlier, layers=2, steps=1)
    with pytest.raises(Refused, match="goes on with its own model"):
        slem.train(few, tmp_path / "earlier", before=earlier, resume=True, steps=3)


@pytest.fixture
def elsewhere():
    """A device without numbers, which like a GPU takes no tensors of the processor; parameters move there as they move to a GPU."""
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield torch.device("meta")
    torch.__future__.set_swap_module_params_on_conversion(False)


def test_all_that_a_step_needs_is_on_its_device(frames, elsewhere):
    model = make_model(frames, small_config())
    lessons = [make_lesson(frame, model) for frame in frames[:2]]
    scales = scales_of(lessons)
    model.network.to(elsewhere)
    weights, lesson = FlatWeights(model.network), join_lessons(lessons).to(elsewhere)
    optimizer = TurnedAdam.of(weights)
    loss_of(model.network(lesson.graph), lesson, scales, 1.0).backward()
    for _ in range(EVERY):  # the bases of the optimiser follow after so many
        optimizer.step(weights.flat, weights.gradient(), 1e-3, 0.0)
    assert {weight.grad.device for weight in model.network.parameters() if weight.grad is not None} == {elsewhere}


def test_all_that_a_prediction_needs_is_on_its_device(frames, elsewhere):
    model = make_model(frames, small_config())
    structure = structure_of(frames[0])
    bonds = model.bonds(structure)
    atoms = np.arange(len(structure.species_a))
    graph, place_d = graph_of_bonds(structure, atoms, bonds, len(model.blueprint.basis), model.blueprint.degrees)
    model.network.to(elsewhere)
    states_df, said = model.network.states(graph.to(model.dtype, elsewhere), torch.from_numpy(place_d).to(elsewhere))
    lengths = torch.ones(3, dtype=model.dtype, device=elsewhere)
    pairs = PairStates(states_df[:6], lengths, (3, *[0] * (len(model.network.kinds) - 1)))
    blocks = [block for output in model.network.hopping(pairs).values() for block in output]
    assert {x.device for x in (*blocks, *(x for output in said.values() for x in output))} == {elsewhere}


def network_with_noise(**keys):
    """A model whose weights are all at work, and the graph of a structure of three atoms."""
    frame = made_frame(random_structure(0, natoms=3), two_species("1s1p"), Spin.NONE)
    model = make_model([frame], small_config(precision="float64", **keys))
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.normal_(0, 0.3)
    return model, make_lesson(frame, model).graph


def test_every_epoch_takes_each_frame_once():
    taken = [n for step in range(10) for n in batch_order(step, 2, 5, seed=1)]
    assert all(sorted(taken[k : k + 5]) == [0, 1, 2, 3, 4] for k in range(0, 20, 5))
    assert taken[:5] != taken[5:10]


def test_what_was_not_stored_does_not_count(frames):
    frame = frames[0]
    model = make_model(frames, small_config(precision="float64"))
    known_x = np.ones(frame.pairs.elements, dtype=bool)
    hidden = np.flatnonzero(~frame.pairs.onsite_p)[:3]
    known_x[np.isin(frame.pairs.pair_x, hidden)] = False
    values_sx = np.where(known_x, frame.operators["H"].values_sx, 1e6)
    other = replace(frame, operators={**frame.operators, "H": Operator(values_sx, known_x)})
    lessons = [make_lesson(one, model) for one in (frame, other)]
    losses = [float(loss_of(model.network(x.graph), x, {"H": 1.0, "DM": 1.0}, 1.0).detach()) for x in lessons]
    assert losses[1] < 2 * losses[0]


def test_a_broken_frame_is_named(frames, tmp_path):
    values_sx = frames[2].operators["H"].values_sx.copy()
    values_sx[0, 0] = np.nan
    broken = replace(frames[2], operators={**frames[2].operators, "H": Operator(values_sx)})
    config = small_config()
    model = make_model(frames, config)
    with pytest.raises(Refused, match="frame 2: holds numbers in H"):
        train_quietly(model, [*frames[:2], broken], tmp_path, config)


def test_an_exploding_training_stops_with_its_frame(frames, tmp_path):
    config = small_config()
    model = make_model(frames, config)
    with torch.no_grad():
        next(model.network.parameters()).fill_(float("nan"))
    with pytest.raises(Refused, match=r"frame \d: made the training fail at step 0"):
        train_quietly(model, frames, tmp_path, config)


class TestCheckpoint:
    @pytest.fixture
    def model(self, frames):
        return make_model(frames, small_config())

    def test_saved_models_predict_the_same(self, model, frames, tmp_path):
        with torch.no_grad():
            for weight in model.network.parameters():
                weight.normal_(0, 0.2)
        save_checkpoint(tmp_path / "m.safetensors", model)
        again = load_model(tmp_path / "m.safetensors")
        assert again.blueprint == model.blueprint
        assert_same_frame(*(predict(m, structure_of(frames[0])) for m in (model, again)))

    def test_double_precision_is_close_to_single(self, model, frames, tmp_path):
        with torch.no_grad():
            for weight in model.network.parameters():
                weight.normal_(0, 0.2)
        save_checkpoint(tmp_path / "m.safetensors", model)
        single, double = (load_model(tmp_path / "m.safetensors", dtype) for dtype in (None, torch.float64))
        H_sx = [predict(m, structure_of(frames[0])).operators["H"].values_sx for m in (single, double)]
        assert 0 < np.abs(H_sx[0] - H_sx[1]).max() < 1e-4
        without = load_model(tmp_path / "m.safetensors", torch.float64)
        for weight in without.network.parameters():
            torch.nn.init.zeros_(weight)
        assert np.abs(predict(without, structure_of(frames[0])).operators["H"].values_sx - H_sx[1]).max() > 0.01

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            (lambda data: data[:1000], "not a complete safetensors"),
            (lambda data: b"", "not a complete safetensors"),
            (lambda data: b"\x80\x04" + data, "not a complete safetensors"),
            (lambda data: data.replace(b"slem-model", b"slem-modus"), "slem-modus version 1"),
            (lambda data: data.replace(b'\\"version\\": 1', b'\\"version\\": 9'), "version 9"),
            (lambda data: data.replace(b'\\"layers\\": 2', b'\\"layers\\": 3'), "damaged"),
            (lambda data: data.replace(b'\\"spin\\"', b'\\"spun\\"'), "damaged"),
        ],
    )
    def test_damaged_files_give_one_line(self, model, tmp_path, damage, words):
        path = tmp_path / "m.safetensors"
        save_checkpoint(path, model)
        data = path.read_bytes()
        changed = damage(data)
        assert changed != data
        path.write_bytes(changed)
        with pytest.raises(Refused, match=words) as error:
            load_model(path)
        assert "\n" not in str(error.value)

    def test_foreign_and_missing_files(self, tmp_path):
        save_file({"a": torch.zeros(3)}, tmp_path / "other.safetensors")
        with pytest.raises(Refused, match="no slem-model"):
            load_model(tmp_path / "other.safetensors")
        with pytest.raises(Refused, match="is a folder without a model"):
            load_model(tmp_path)
        with pytest.raises(Refused, match=r"(?i)no such file"):
            load_model(tmp_path / "none.safetensors")

    def test_old_versions_are_upgraded_step_by_step(self, model, frames, tmp_path, monkeypatch):
        save_checkpoint(tmp_path / "m.safetensors", model)
        monkeypatch.setattr(checkpoint, "VERSION", 3)
        seen = []
        steps = {
            n: lambda description, tensors, n=n: seen.append((n, description["version"], len(tensors))) for n in (1, 2)
        }
        monkeypatch.setattr(checkpoint, "UPGRADES", steps)
        load_model(tmp_path / "m.safetensors")
        assert [n for n, *_ in seen] == [1, 2]


class TestConfig:
    def test_files_are_read(self, tmp_path):
        (tmp_path / "a.toml").write_text('layers = 4\nvalidate = 0.2\ntime = "2h"\nrate = 1e-3\n')
        config = read_config(tmp_path / "a.toml", Config())
        assert (config.layers, config.validate, config.seconds, config.rate) == (4, "0.2", 7200, 1e-3)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("layer = 4", 'did you mean "layers"'),
            ("layers = 'x'", "layers is 'x'; expected int"),
            ("layers = true", "expected int"),
            ("layers = 0", "expected 1 or more"),
            ("channels = '4z'", "not a list of channels"),
            ("channels = '4x1o'", "no 0e channels"),
            ("time = 'soon'", "something like 20m"),
            ("operators = 'H,Q'", "a list of H, S, DM"),
            ("layers = ", "not a TOML file"),
            ("precision = 'float16'", "float32 or float64"),
        ],
    )
    def test_mistakes_give_one_line(self, tmp_path, text, words):
        (tmp_path / "a.toml").write_text(text)
        with pytest.raises(Refused, match=words):
            read_config(tmp_path / "a.toml", Config())

    def test_frames_are_chosen(self):
        alike = [frozenset({0, 1})] * 8
        training, checks = choose_frames("0.25", alike, seed=0)
        assert (len(training), len(checks)) == (6, 2)
        assert sorted(training + checks) == list(range(8))
        assert choose_frames("5-6,1", alike, 0) == ([0, 2, 3, 4, 7], [1, 5, 6])
        assert choose_frames("0.5", alike[:1], 0) == ([0], [])
        with pytest.raises(Refused, match="frames 0 to 7"):
            choose_frames("8", alike, 0)
        with pytest.raises(Refused, match="no frame to learn from"):
            choose_frames("0-7", alike, 0)

    def test_every_element_is_learned(self):
        species_f = [frozenset({0, 1}), frozenset({0, 2}), frozenset({0, 1}), frozenset({0, 1, 3})]
        for seed in range(8):
            training, checks = choose_frames("0.5", species_f, seed)
            assert sorted(training + checks) == [0, 1, 2, 3]
            assert {1, 3} <= set(training)
        with pytest.raises(Refused, match="frame 3 has an element that no learned frame has"):
            choose_frames("3", species_f, 0)

    def test_times(self):
        assert [parse_time(text) for text in ("90", "90s", "20m", "1.5h")] == [90, 90, 1200, 5400]
