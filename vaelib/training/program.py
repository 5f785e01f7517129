"""Compiled programs, for runs long enough to pay for their compilation: a loss with its gradient, and a body alone."""

import warnings
from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from vaelib.divergences import Noise
from vaelib.models import VAE
from vaelib.objectives import Terms, Trainee
from vaelib.training.folding import PLANES

Built = TypeVar("Built")


def backend(graph: GraphModule, tensors: list[Any]) -> Callable[..., Any]:
    """What a graph is compiled by: to one file of C++, in this process, as a worker is not to start others."""
    from torch import _inductor as inductor  # here, as it takes a second

    built: Callable[..., Any] = inductor.compile(graph, tensors, options={"cpp_wrapper": True, "compile_threads": 1})
    return built


def _compiled(function: Callable[..., tuple[Tensor | None, ...]], *tensors: Tensor) -> Callable[..., Any]:
    """A function of tensors that gives a tuple of tensors, compiled for tensors like these.

    It is traced without Dynamo, which would look at each of the tensors again before each step.
    """
    checks = Distribution._validate_args
    Distribution.set_default_validate_args(False)  # what is traced has no values that could be checked
    try:
        graph = make_fx(function, tracing_mode="fake", decomposition_table=PLANES)(*tensors)
    finally:
        Distribution.set_default_validate_args(checks)
    return backend(graph, list(tensors))


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
        self._noise, self._terms = tuple(noise), tuple[str, ...]()

        def gradient(x: Tensor, progress: Tensor, *tensors: Tensor) -> tuple[Tensor | None, ...]:
            drawn, own = dict(zip(self._noise, tensors)), dict(zip((*parameters, *buffers), tensors[len(noise) :]))
            own |= {n: own[n].detach().requires_grad_() for n, p in parameters.items() if p.requires_grad}
            terms: Terms = functional_call(trainee, own, (x, drawn, progress, phase))
            self._terms = tuple(terms)
            leaves = [own[n] for n, p in parameters.items() if p.requires_grad]
            gradients = torch.autograd.grad(terms["loss"].mean(-1).sum(), leaves, allow_unused=True)
            return (*(term.detach() for term in terms.values()), *gradients)

        self._call = _compiled(gradient, *self._arguments(x, noise, progress))

    def _arguments(self, x: Tensor, noise: Noise, progress: Tensor) -> list[Tensor]:
        return [x, progress, *(noise[name] for name in self._noise), *self._tensors]

    def __call__(self, x: Tensor, noise: Noise, progress: Tensor) -> Terms:
        """The terms of a batch ``(n,)``; the parameters get their gradients."""
        with torch.no_grad():
            found = self._call(*self._arguments(x, noise, progress))
        for parameter, gradient in zip(self._trained, found[len(self._terms) :]):
            parameter.grad = gradient
        return dict(zip(self._terms, found))


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
        self._programs: dict[int, Callable[..., Any] | None] = {}

    def forward(self, x: Tensor) -> Tensor:
        """What the body makes of a batch."""
        size = len(x)
        if size in self.sizes and not self.body.training and not torch.is_grad_enabled():
            if size not in self._programs:
                self._programs[size] = _attempt(lambda: self._program(x))
            if (call := self._programs[size]) is not None:
                (outputs,) = call(x, *self._tensors.values())
                return cast(Tensor, outputs)
        return cast(Tensor, self.body(x))

    def _program(self, x: Tensor) -> Callable[..., Any]:
        def outputs(x: Tensor, *tensors: Tensor) -> tuple[Tensor]:
            return (functional_call(self.body, dict(zip(self._tensors, tensors)), (x,)),)

        return _compiled(outputs, x, *self._tensors.values())


def compiled_bodies(vae: VAE, sizes: Collection[int]) -> VAE:
    """The same model, its bodies evaluated by compiled programs."""
    return vae.with_bodies(CompiledBody(vae.encoder, sizes), CompiledBody(vae.decoder, sizes))
