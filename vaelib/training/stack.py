"""Many models of one structure as one module: trained together, each by itself."""

import copy
from collections.abc import Sequence

from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from vaelib.divergences import Noise
from vaelib.objectives import Terms, Trainee


class Stack(nn.Module):
    """Trainees of one structure as a single module whose tensors have a leading axis of trainees."""

    def __init__(self, members: Sequence[Trainee]):
        super().__init__()
        parameters, buffers = stack_module_state(list(members))
        self._template = (copy.deepcopy(members[0]).to("meta"),)  # in a tuple: not a submodule
        self.stacked = copy.deepcopy(members[0])
        for name, tensor in {**parameters, **buffers}.items():
            path, _, leaf = name.rpartition(".")
            owner = self.stacked.get_submodule(path)
            setattr(owner, leaf, nn.Parameter(tensor, tensor.requires_grad) if name in parameters else tensor)

    def forward(self, x: Tensor, noise: Noise, progress: Tensor, phase: str) -> Terms:
        """The terms of all members, ``(members, n)`` each, for samples ``(members, n, *shape)`` and their noise."""

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, noise: Noise) -> Terms:
            terms: Terms = functional_call(self._template[0], (parameters, buffers), (x, noise, progress, phase))
            return terms

        parameters: dict[str, Tensor] = dict(self.stacked.named_parameters())
        buffers = dict(self.stacked.named_buffers())
        # Every random number is in the noise: drawing one in here would be an error.
        terms: Terms = vmap(one, randomness="error")(parameters, buffers, x, noise)
        return terms
