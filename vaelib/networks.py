"""Encoder and decoder bodies: plain tensors in, plain tensors out.

An encoder maps a batch of samples ``(n, *shape)`` to the numbers that describe a posterior ``(n, outputs)``; a
decoder maps codes ``(n, code)`` to the numbers that describe a likelihood ``(n, *shape)``. What these numbers mean
is the business of :mod:`vaelib.latents` and :mod:`vaelib.vae`.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]


class FewChannelTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution for one to four output channels: one matrix product, then overlapping sums.

    The same parameters and the same function as :class:`torch.nn.ConvTranspose2d`, whose CPU kernel is tuned for
    many output channels; the last layer of a decoder has one or three. Measured in ``benchmarks/``.
    """

    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map ``(n, c, h, w)`` to ``(n, out, s h, s w)`` for stride s."""
        height, width = images.shape[-2:]
        columns = torch.einsum("nchw,ck->nkhw", images, self.weight.flatten(1))
        size = (height * self.stride[0], width * self.stride[1])
        window = {"padding": self.padding, "stride": self.stride}
        return nn.functional.fold(columns.flatten(2), size, self.kernel_size, **window) + self.bias[:, None, None]


def _interleave(layers: list[nn.Module], activation: Callable[[], nn.Module]) -> Iterator[nn.Module]:
    """The layers with an activation between each two."""
    for index, layer in enumerate(layers):
        if index:
            yield activation()
        yield layer


def burgess(shape: Shape, outputs: int, code: int) -> tuple[nn.Module, nn.Module]:
    """The convolutional bodies of Burgess et al. (2018) as in table 2 of the α-VAE paper.

    Convolutions of 32 filters 4x4, stride 2, padding 1, down to 4x4, then two fully connected layers of 256; the
    decoder mirrors it.

    Parameters
    ----------
    shape
        Shape of one image, ``(channels, side, side)`` with a side of 32 or 64.
    outputs
        How many numbers the encoder returns per image.
    code
        How many numbers the decoder takes per image.

    Raises
    ------
    ValueError
        If the images are not square with a side of 32 or 64.
    """
    if len(shape) != 3 or shape[1] != shape[2] or shape[1] not in (32, 64):
        raise ValueError(f"network: 'burgess' takes images of 32x32 or 64x64, not samples of shape {tuple(shape)}")
    channels, side, _ = shape
    depth = int(math.log2(side)) - 2
    down = [nn.Conv2d(32 if i else channels, 32, 4, stride=2, padding=1) for i in range(depth)]
    encoder = [*down, nn.Linear(512, 256), nn.Linear(256, 256), nn.Linear(256, outputs)]
    up: list[nn.Module] = [nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1) for _ in range(depth - 1)]
    up.append(FewChannelTranspose2d(32, channels, 4, stride=2, padding=1))
    decoder = [nn.Linear(code, 256), nn.Linear(256, 256), nn.Linear(256, 512), *up]
    encoder_layers, decoder_layers = list(_interleave(encoder, nn.ReLU)), list(_interleave(decoder, nn.ReLU))
    encoder_layers.insert(2 * depth, nn.Flatten())
    decoder_layers.insert(6, nn.Unflatten(1, (32, 4, 4)))
    return nn.Sequential(*encoder_layers), nn.Sequential(*decoder_layers)


def mlp(shape: Shape, outputs: int, code: int) -> tuple[nn.Module, nn.Module]:
    """One hidden layer of 400 ReLU units on either side: the VAE of Kingma and Welling on images of 784 pixels.

    Parameters
    ----------
    shape, outputs, code
        As for :func:`burgess`; any shape is taken and flattened.
    """
    size = math.prod(shape)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, 400), nn.ReLU(), nn.Linear(400, outputs))
    decoder = nn.Sequential(nn.Linear(code, 400), nn.ReLU(), nn.Linear(400, size), nn.Unflatten(1, shape))
    return encoder, decoder


NETWORKS: dict[str, Callable[[Shape, int, int], tuple[nn.Module, nn.Module]]] = {"burgess": burgess, "mlp": mlp}


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights Kaiming-uniform for ReLU and all biases from PyTorch's default range.

    The papers start there. Every number comes from `generator`, so a start does not depend on what ran before.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                bound = 1 / math.sqrt(layer.weight[0].numel())
                layer.bias.uniform_(-bound, bound, generator=generator)
