"""A second family of networks: blocks are linear in features of the bond and in sums of them over the neighbours of both atoms."""

import torch
from torch import nn

from slem_plugin.network.layers import Distances
from slem_plugin.network.network import Network, Output, PairStates


class LinearNetwork(Network):
    """Scalars alone: it corrects the components of hopping blocks that are even about the bond, and onsite scalars."""

    def __init__(self, spec, forms, cutoff_ss):
        super().__init__()
        self.forms, self.width = forms, spec.latent
        self.state_size = 2 * spec.latent
        self.distances = Distances(spec, cutoff_ss)
        hopping = [form.hopping_t[t].counts[0] for form in forms.values() for t in range(len(form.kinds))]
        onsite = [one.natural[0] for form in forms.values() for one in form.onsite_s]
        self.hopping_heads, self.onsite_heads = (
            nn.ParameterList(nn.Parameter(torch.zeros(width, count)) for count in counts)
            for width, counts in ((self.state_size, hopping), (self.width, onsite))
        )

    def forward(self, graph):
        states_ef, onsite = self.states(graph, torch.arange(len(graph.present_e)))
        there, back = torch.cat(graph.forward), torch.cat(graph.backward)
        counts = tuple(map(len, graph.forward))
        hopping = self.hopping(PairStates(states_ef[torch.cat([there, back])], graph.length_e[there], counts))
        return {name: Output(hopping[name], onsite[name]) for name in self.forms}

    def states(self, graph, bonds):
        latent_ef, envelope_e = self.distances(graph)
        sum_af = (envelope_e[:, None] * latent_ef).view(graph.natoms, graph.slots, -1).sum(1)
        heads = iter(self.onsite_heads)
        onsite = {
            name: tuple(
                padded(sum_af[atoms] @ next(heads), one.size)
                for one, atoms in zip(form.onsite_s, graph.atoms_s, strict=True)
            )
            for name, form in self.forms.items()
        }
        return torch.cat([latent_ef, sum_af.repeat_interleave(graph.slots, 0)], dim=1)[bonds], onsite

    def hopping(self, pairs):
        both = list(zip(pairs.there_hf.split(pairs.count_t), pairs.back_hf.split(pairs.count_t), strict=True))
        heads = iter(self.hopping_heads)
        return {
            name: tuple(self.one_kind(form, t, next(heads), *both[t]) for t in range(len(form.kinds)))
            for name, form in self.forms.items()
        }

    def one_kind(self, form, t, W, there, back):
        """Read in both directions, where both atoms are of one species: then nobody knows which of them comes first."""
        axial, (place, sign) = form.hopping_t[t], form.exchange_t[t]
        even, count = there @ W, axial.counts[0]
        if form.kinds[t][0] == form.kinds[t][1]:
            even = even + (back @ W)[:, torch.from_numpy(place[:count])] * torch.from_numpy(sign[:count]).to(even)
        return padded(even, axial.size)


def padded(values, size):
    return nn.functional.pad(values, (0, size - values.shape[1]))
