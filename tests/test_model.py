"""The model: what symmetry and locality demand, saving and loading, and what is refused."""

import torch

from slem_plugin.config import Config
from slem_plugin.samples import make_model
from tests.made_data import made_frame
from tests.model_contract import ModelContract, random_structure


class TestSlem(ModelContract):
    def make_model(self, basis, spin, layers=2):
        frames = [made_frame(random_structure(seed), basis, spin, seed=seed) for seed in range(2)]
        channels = "" if basis[0].size < 14 else "6x0e+2x0o+4x1o+2x1e+3x2e+1x2o+2x3o+1x3e+2x4e+1x4o+1x5o+1x6e+1x7o+1x8e"
        config = Config(channels=channels, layers=layers, latent=16, waves=6, precision="float64")
        model = make_model(frames, config)
        with torch.no_grad():
            for weight in model.network.heads.parameters():
                weight.normal_(0, 0.3)
        return model
