"""Compiled programs, for runs long enough to pay for their compilation: a loss with its gradient, and a body alone."""

import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from vaelib.divergences import Noise
from vaelib.models import VAE
from vaelib.objectives import Terms, Trainee

Built = TypeVar("Built")

BACKEND: dict[str, Any] = {"options": {"cpp_wrapper": True, "compile_threads": 1}}
"""How: one file of C++ for a whole program, compiled in this process, as a worker is not to start others."""


def _compiled(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """A function of tensors, compiled for arguments like these; traced apart, as Dynamo counts the versions of one."""
    traced = make_fx(function, tracing_mode="fake")(*arguments)
    return torch.compile(traced, fullgraph=True, dynamic=False, **BACKEND)


def _attempt(build: Callable[[], Built]) -> Built | None:
    """What is built; None, and a warning that says why, where it cannot be compiled."""
    try:
        return build()
    except Exception as error:
        cause = getattr(error, "inner_exception", error)  # of what PyTorch wraps
        why = f"{type(cause).__name__}: {cause}".partition("\n")[0]
        warnings.warn(f"going on without a compiled program, as it cannot be compiled here: {why}", stacklevel=2)
        return None


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

        self._call = _compiled(gradient, self._tensors, x, noise, progress)
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
    return _attempt(lambda: Program(trainee, phase, x, noise, progress))


class CompiledBody(nn.Module):
    """A body that is evaluated by compiled programs, one for each of some batch sizes; by itself in all other cases.

    Parameters
    ----------
    body
        Whose weights are taken as they are whenever it is called.
    sizes
        Samples in a batch.
    """

    def __init__(self, body: nn.Module, sizes: Collection[int]):
        super().__init__()
        self.body, self.sizes = body, set(sizes)
        self._tensors = {name: t.detach() for name, t in (*body.named_parameters(), *body.named_buffers())}
        self._programs: dict[int, Callable[..., Tensor] | None] = {}

    def forward(self, x: Tensor) -> Tensor:
        """What the body makes of a batch."""
        size = len(x)
        if size in self.sizes and not self.body.training and not torch.is_grad_enabled():
            if size not in self._programs:
                self._programs[size] = _attempt(lambda: self._program(x))
            if (call := self._programs[size]) is not None:
                return call(self._tensors, x)
        outputs: Tensor = self.body(x)
        return outputs

    def _program(self, x: Tensor) -> Callable[..., Tensor]:
        def outputs(tensors: dict[str, Tensor], x: Tensor) -> Any:
            return functional_call(self.body, tensors, (x,))

        call = _compiled(outputs, self._tensors, x)
        call(self._tensors, x)  # compiles it
        return call


def compiled_bodies(vae: VAE, sizes: Collection[int]) -> VAE:
    """The same model, its bodies evaluated by compiled programs."""
    return vae.with_bodies(CompiledBody(vae.encoder, sizes), CompiledBody(vae.decoder, sizes))
