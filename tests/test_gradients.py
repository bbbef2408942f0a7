"""The steps of the network that bring their own gradients, beside the parts that autograd knows; joined graphs; the optimiser beside that of torch."""

import pytest
import torch

from basis.spin import Spin
from slem_plugin.config import Config
from slem_plugin.graphs import graph as graphs
from slem_plugin.learning import turned
from slem_plugin.learning.learner import error_of, scales_of
from slem_plugin.learning.samples import join_lessons, make_lesson, make_model
from slem_plugin.learning.turned import BETAS, SMALL, TurnedAdam
from slem_plugin.learning.weights import FlatWeights
from slem_plugin.network import regrouping, surroundings
from slem_plugin.network.network import randomise_silent
from slem_plugin.testing.frames import made_frame, random_structure, two_species


@pytest.fixture(scope="module", params=[Spin.NONE, Spin.SPINOR], ids=str)
def learning(request):
    frames = [made_frame(random_structure(seed, natoms=4), two_species("1s1p"), request.param) for seed in range(2)]
    config = Config(channels="6x0e+4x1o+3x1e+2x2e+1x2o", layers=1, latent=8, waves=4, precision="float64", steps=1)
    model = make_model(frames, config)
    torch.manual_seed(0)
    randomise_silent(model.network, 0.3)
    model.network.requires_grad_(True)
    return model.network, [make_lesson(frame, model) for frame in frames]


def found(network, lessons):
    """Loss and gradients."""
    network.zero_grad()
    scales = scales_of(lessons)
    lesson = join_lessons(lessons)
    loss = error_of(network(lesson.graph), lesson, {name: scales[name] for name in lesson.targets}, 4.0)
    loss.backward()
    return [loss.detach()] + [weight.grad.clone() for weight in network.parameters()]


def test_own_gradients_are_those_of_the_parts(learning, monkeypatch):
    own = found(*learning)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)  # as torch sees the parts when it compiles them
    parts = found(*learning)
    monkeypatch.undo()
    monkeypatch.setattr(regrouping, "MANY_ROWS", 0)
    by_slices = found(*learning)
    monkeypatch.undo()
    monkeypatch.setattr(surroundings, "MANY_BONDS", 1)
    by_tables = found(*learning)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    parts_of_tables = found(*learning)
    assert sum(bool(gradient.any()) for gradient in parts) > len(parts) * 0.7
    largest = max(float(gradient.abs().max()) for gradient in parts if gradient.numel())
    for others in (parts, by_slices, by_tables, parts_of_tables):
        for a, b in zip(own, others, strict=True):
            assert torch.allclose(a, b, rtol=1e-10, atol=1e-11 * largest)


def test_the_loss_is_the_sum_of_absolute_errors(learning):
    network, (lesson, _) = learning
    outputs = network(lesson.graph)
    total = 0.0
    for name, output in outputs.items():
        target = lesson.targets[name]
        for n, (block, rest, size) in enumerate(zip(output.blocks, target.rest, target.size, strict=True)):
            weight = 4.0 if n >= len(output.hopping_t) else 1.0
            total += weight * float((size * block - rest).detach().abs().sum()) / 7
    assert float(error_of(outputs, lesson, dict.fromkeys(lesson.targets, 7.0), 4.0).detach()) == pytest.approx(
        total, rel=1e-12
    )


def test_graphs_with_as_many_places_are_joined_alike(learning):
    pieces = [lesson.graph for lesson in learning[1]]
    slots = max(piece.slots for piece in pieces)
    alike = [graphs.join_graphs([piece, piece]) for piece in pieces if piece.slots == slots]
    for piece, joined in zip((piece for piece in pieces if piece.slots == slots), alike, strict=True):
        assert joined.bonds == 2 * piece.bonds
        for name in ("forward", "backward", "atoms_s"):
            step = piece.natoms * (1 if name == "atoms_s" else slots)
            for both, one in zip(getattr(joined, name), getattr(piece, name), strict=True):
                assert torch.equal(both, torch.cat([one, one + step]))
        assert torch.equal(joined.reverse_e, torch.cat([piece.reverse_e, piece.reverse_e + piece.natoms * slots]))
        assert torch.equal(joined.rotations[1], torch.cat([piece.rotations[1]] * 2))


def test_steps_of_weights_that_are_no_matrices_are_those_of_torch_s_adamw():
    random = torch.Generator().manual_seed(0)
    network = torch.nn.ParameterList([torch.randn(40, generator=random)])
    weights, gradients = FlatWeights(network), torch.randn(6, 40, generator=random)
    other = torch.nn.Parameter(weights.flat.clone())
    torch_s = torch.optim.AdamW([other], lr=0.01, betas=BETAS, eps=SMALL, weight_decay=0.1)
    own = TurnedAdam.of(weights)
    for gradient in gradients:
        other.grad = gradient.clone()
        torch_s.step()
        own.step(weights.flat, gradient.clone(), 0.01, 0.1)
    assert torch.allclose(weights.flat, other.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bare", [False, True])
def test_inputs_of_very_different_size_are_learned_at_once(bare, monkeypatch):
    """Weights that see their inputs through a turn and in sizes of 1 to 0.03; `bare` as parameters are laid out in irreps, inputs first."""
    random = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=random))[0]
    inputs = torch.randn(300, 16, 12, generator=random) * torch.logspace(0, -1.5, 12) @ turn
    wanted = torch.randn(12, 5, generator=random)
    left = []
    for every in (turned.EVERY, 1000):  # in the second training no basis ever follows: plain Adam
        monkeypatch.setattr(turned, "EVERY", every)
        network = torch.nn.ParameterList([torch.zeros(12, 5)]) if bare else torch.nn.Linear(12, 5, bias=False)
        weights = FlatWeights(network)
        weights.flat.zero_()
        optimizer, (weight,) = TurnedAdam.of(weights), weights.parameters
        for n, x in enumerate(inputs):
            weights.forget_gradients()
            loss = (x @ (weight if bare else weight.T) - x @ wanted).abs().mean()
            loss.backward()
            optimizer.step(weights.flat, weights.gradient(), 0.03 * (1 - n / 300), 0.0)
        left.append(float(loss.detach()))
    assert left[0] < 0.5 * left[1], left
