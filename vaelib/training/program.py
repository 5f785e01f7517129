"""The gradient of a loss as one compiled program: for runs that are long enough to pay for its compilation."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from vaelib.divergences import Noise
from vaelib.objectives import Terms, Trainee

Gradients = Sequence[Tensor | None]

BACKEND: dict[str, Any] = {"options": {"cpp_wrapper": True, "compile_threads": 1}}
"""How: one file of C++ for a whole program, compiled in this process, as a worker is not to start others."""


class Program:
    """A phase of a trainee's objective, and its gradient, compiled for batches like a given one.

    Everything that changes from step to step is an argument of the program (parameters, buffers, samples, noise,
    progress), so nothing of a run is frozen into it, and two processes that compile it compute the same bits.

    Parameters
    ----------
    trainee
        What is trained, in training mode.
    phase
        Of its objective.
    x, noise, progress
        A batch, as the objective takes it.

    Raises
    ------
    Exception
        Whatever the compiler has to say: that there is no C++ compiler, or that something cannot be traced.
    """

    def __init__(self, trainee: Trainee, phase: str, x: Tensor, noise: Noise, progress: Tensor):
        parameters, buffers = dict(trainee.named_parameters()), dict(trainee.named_buffers())
        self._trained = [p for p in parameters.values() if p.requires_grad]
        self._tensors = [t.detach() for t in (*parameters.values(), *buffers.values())]

        def gradient(
            tensors: Sequence[Tensor], x: Tensor, noise: Noise, progress: Tensor
        ) -> tuple[Terms, list[Tensor]]:
            own = dict(zip((*parameters, *buffers), tensors))
            own |= {n: own[n].detach().requires_grad_() for n, p in parameters.items() if p.requires_grad}
            terms: Terms = functional_call(trainee, own, (x, noise, progress, phase))
            leaves = [own[n] for n, p in parameters.items() if p.requires_grad]
            gradients = torch.autograd.grad(terms["loss"].mean(-1).sum(), leaves, allow_unused=True)
            return {name: term.detach() for name, term in terms.items()}, list(gradients)

        traced = make_fx(gradient, tracing_mode="fake")(self._tensors, x, noise, progress)
        self._call = torch.compile(traced, fullgraph=True, dynamic=False, **BACKEND)
        before = [t.clone() for t in self._tensors]
        with torch.no_grad():
            self._call(self._tensors, x, noise, progress)  # compiles it
            for tensor, value in zip(self._tensors, before):  # a batch normalisation has counted this batch
                tensor.copy_(value)

    def __call__(self, x: Tensor, noise: Noise, progress: Tensor) -> Terms:
        """The terms of a batch ``(n,)``; the parameters get their gradients."""
        with torch.no_grad():
            terms, gradients = self._call(self._tensors, x, noise, progress)
        for parameter, gradient in zip(self._trained, gradients):
            parameter.grad = gradient
        found: Terms = terms
        return found


def program(trainee: Trainee, phase: str, x: Tensor, noise: Noise, progress: Tensor) -> Program | None:
    """The program of a phase; None, and a warning that says why, where it cannot be compiled."""
    try:
        return Program(trainee, phase, x, noise, progress)
    except Exception as error:
        cause = getattr(error, "inner_exception", error)  # of what PyTorch wraps
        why = f"{type(cause).__name__}: {cause}".partition("\n")[0]
        warnings.warn(f"training step by step, as it cannot be compiled here: {why}", stacklevel=2)
        return None
