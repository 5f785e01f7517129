"""Layers that PyTorch lacks or is slow at, how layers are put together, and how their weights start."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from vaelib.divergences import Noise

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "silu": nn.SiLU}
Activation = Literal["relu", "tanh", "elu", "silu"]


class Dropout(nn.Module):
    """Dropout whose random numbers are handed in.

    Parameters
    ----------
    width
        How many numbers a sample has where it stands.
    share
        Of them that is set to zero in training, the others growing to make up for it.
    """

    def __init__(self, width: int, share: float):
        super().__init__()
        self.width, self.share = width, share

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform numbers ``(n, width)``."""
        return torch.rand(n, self.width, generator=generator, device=generator.device)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Set those of ``(n, width)`` to zero whose random number is below the share."""
        return x * (noise >= self.share) / (1 - self.share)


class Body(nn.Sequential):
    """Layers one after the other; those that are random in training get their numbers from the caller."""

    def noise(self, n: int, generator: torch.Generator) -> Noise:
        """Random numbers that n samples need, by layer, each of length n along its first axis."""
        return {name: layer.noise(n, generator) for name, layer in self._random()}

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """Map a batch; in training with the numbers of :meth:`noise`."""
        random = dict(self._random())
        for name, layer in self.named_children():
            if name in random:
                if noise is None:
                    raise TypeError(f"noise: layer {name} is random in training, and nothing was handed in")
                x = layer(x, noise[name])
            elif not isinstance(layer, Dropout):
                x = layer(x)
        return x

    def _random(self) -> list[tuple[str, Dropout]]:
        return [(n, layer) for n, layer in self.named_children() if isinstance(layer, Dropout) and self.training]


class Transposed2d(nn.ConvTranspose2d):
    """A transposed convolution whose bias is added apart: oneDNN takes longer over a bias than two sums take.

    The same parameters and the same function as :class:`torch.nn.ConvTranspose2d`, without an output padding.
    """

    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map ``(n, c, h, w)`` to ``(n, out, s h, s w)`` for stride s and a kernel that fits."""
        window: dict[str, Any] = {"stride": self.stride, "padding": self.padding}
        return self._biased(nn.functional.conv_transpose2d(images, self.weight, **window))

    def _biased(self, images: Tensor) -> Tensor:
        biased: Tensor = images + self.bias[:, None, None]  # type: ignore[index]  # it always has one
        return biased


class FewChannelTranspose2d(Transposed2d):
    """A transposed convolution for one to four output channels: one matrix product, then overlapping sums.

    The same parameters and the same function as :class:`torch.nn.ConvTranspose2d`, whose CPU kernel is tuned for
    many output channels; the last layer of a decoder has one or three. Measured in ``benchmarks/``.

    Parameters
    ----------
    inputs, outputs
        Numbers of channels.
    stride, padding
        By so much an image grows, and so much is cut off at its edges; the kernel is what fits: stride + 2 padding.
    device
        Where the weights lie.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, padding: int, device: str | torch.device | None = None):
        super().__init__(inputs, outputs, stride + 2 * padding, stride=stride, padding=padding, device=device)

    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map ``(n, c, h, w)`` to ``(n, out, s h, s w)`` for stride s."""
        height, width = images.shape[-2:]
        taps = self.weight.flatten(1).t().expand(len(images), -1, -1)
        columns = torch.bmm(taps, images.flatten(2))  # each tap's plane in one piece, as it is added up
        size = (height * self.stride[0], width * self.stride[1])
        window: dict[str, Any] = {"padding": self.padding, "stride": self.stride}
        summed: Any = nn.functional.fold(columns, size, self.kernel_size, **window)
        return self._biased(summed)


def _layer(kind: type[nn.Module], *sizes: int, **options: int) -> nn.Module:
    """A layer whose weights are still to be drawn: no generator is touched."""
    layer: nn.Module = skip_init(kind, *sizes, **options)
    return layer


def linear(inputs: int, outputs: int) -> nn.Module:
    """A dense layer, its weights still to be drawn."""
    return _layer(nn.Linear, inputs, outputs)


def down(inputs: int, outputs: int) -> nn.Module:
    """A convolution that halves the sides of even-sided images."""
    return _layer(nn.Conv2d, inputs, outputs, kernel_size=4, stride=2, padding=1)


def up(inputs: int, outputs: int) -> nn.Module:
    """A transposed convolution that doubles the sides of images."""
    return _layer(Transposed2d, inputs, outputs, kernel_size=4, stride=2, padding=1)


def last_up(inputs: int, outputs: int) -> nn.Module:
    """The same for the last layer, whose output channels are few."""
    return _layer(FewChannelTranspose2d, inputs, outputs, stride=2, padding=1)


def between(layers: Iterable[nn.Module], activation: str) -> list[nn.Module]:
    """The layers with an activation between each two."""
    return [module for layer in layers for module in (layer, ACTIVATIONS[activation]())][:-1]


def normalised(layer: nn.Module, norm: nn.Module, activation: str = "relu") -> list[nn.Module]:
    """A layer, its normalisation and its activation."""
    return [layer, norm, ACTIVATIONS[activation]()]


class Branches(nn.Module):
    """A branch for each block of columns; what the branches give is concatenated.

    Parameters
    ----------
    branches
        The modules.
    sizes
        How many columns each takes; None: each takes all of them.
    """

    def __init__(self, branches: Sequence[nn.Module], sizes: Sequence[int] | None = None):
        super().__init__()
        self.branches, self.sizes = nn.ModuleList(branches), sizes

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, columns)`` to ``(n, outputs of all branches)``."""
        parts = x.split(self.sizes, dim=1) if self.sizes else [x] * len(self.branches)
        return torch.cat([branch(part) for branch, part in zip(self.branches, parts)], dim=1)


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights Kaiming-uniform for ReLU and all biases from PyTorch's default range.

    The code of the α-VAE's authors starts there; the papers do not say. Every number comes from `generator`, so a start
    does not depend on what ran before.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                bound = 1 / math.sqrt(layer.weight[0].numel())
                layer.bias.uniform_(-bound, bound, generator=generator)
