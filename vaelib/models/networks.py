"""Encoder and decoder bodies: plain tensors in, plain tensors out.

An encoder maps a batch of samples ``(n, *shape)`` to the numbers that describe a posterior ``(n, outputs)``; a
decoder maps codes ``(n, code)`` to the numbers that describe a likelihood ``(n, *shape)``. What these numbers mean
is the business of :mod:`vaelib.latents` and :mod:`vaelib.vae`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

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


def burgess(shape: Shape, outputs: int, code: int, sizes: Sequence[int] = ()) -> tuple[nn.Module, nn.Module]:
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
    sizes
        Of the blocks of a vector, which images do not have.

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


def mlp(
    shape: Shape, outputs: int, code: int, sizes: Sequence[int] = (), activation: Callable[[], nn.Module] = nn.ReLU
) -> tuple[nn.Module, nn.Module]:
    """One hidden layer of 400 units on either side: the VAE of Kingma and Welling (2014).

    Parameters
    ----------
    shape, outputs, code, sizes
        As for :func:`burgess`; any shape is taken and flattened, blocks and all.
    activation
        Of the hidden units; theirs is the hyperbolic tangent.
    """
    size = math.prod(shape)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, 400), activation(), nn.Linear(400, outputs))
    decoder = nn.Sequential(nn.Linear(code, 400), activation(), nn.Linear(400, size), nn.Unflatten(1, shape))
    return encoder, decoder


def _normalised(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    """A layer, batch normalisation of what it gives, and a ReLU."""
    if isinstance(layer, nn.Linear):
        return [layer, nn.BatchNorm1d(layer.out_features), nn.ReLU()]
    return [layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU()]


def fgvae(shape: Shape, outputs: int, code: int, sizes: Sequence[int] = ()) -> tuple[nn.Module, nn.Module]:
    """The fully connected bodies of the factorised-Gaussian VAE of Chen (2020), as in table 4.1 of the thesis.

    Hidden layers of 512, 256 and 128 units with batch normalisation and ReLU; the decoder mirrors it.

    Parameters
    ----------
    shape, outputs, code, sizes
        As for :func:`burgess`; any shape is taken and flattened, blocks and all.
    """
    down = (math.prod(shape), 512, 256, 128)
    up = (code, 128, 256, 512)
    encoder = [layer for a, b in pairwise(down) for layer in _normalised(nn.Linear(a, b))]
    decoder = [layer for a, b in pairwise(up) for layer in _normalised(nn.Linear(a, b))]
    return (
        nn.Sequential(nn.Flatten(), *encoder, nn.Linear(down[-1], outputs)),
        nn.Sequential(*decoder, nn.Linear(up[-1], down[0]), nn.Unflatten(1, shape)),
    )


def fgvae_cnn(shape: Shape, outputs: int, code: int, sizes: Sequence[int] = ()) -> tuple[nn.Module, nn.Module]:
    """The convolutional bodies of the factorised-Gaussian VAE of Chen (2020), as in the thesis' listing A.1.

    Convolutions of 32, 64 and 128 filters 4x4, padding 1, with batch normalisation and ReLU; the decoder mirrors it.
    The stride is 2, as in the listing; with the 1 of table 4.2 the images would not shrink to the sizes that it gives.

    Parameters
    ----------
    shape
        Shape of one image, ``(channels, side, side)`` with a side divisible by 8.
    outputs, code, sizes
        As for :func:`burgess`.

    Raises
    ------
    ValueError
        If the images are not square with a side divisible by 8.
    """
    if len(shape) != 3 or shape[1] != shape[2] or shape[1] % 8:
        raise ValueError(
            f"network: 'fgvae_cnn' takes square images with a side divisible by 8, not samples of shape {tuple(shape)}"
        )
    channels, side, _ = shape
    window = {"kernel_size": 4, "stride": 2, "padding": 1}
    deepest = (128, side // 8, side // 8)
    flat = math.prod(deepest)
    down = [layer for a, b in pairwise((channels, 32, 64, 128)) for layer in _normalised(nn.Conv2d(a, b, **window))]
    up = [layer for a, b in pairwise((128, 64, 32)) for layer in _normalised(nn.ConvTranspose2d(a, b, **window))]
    encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, outputs))
    decoder = [*_normalised(nn.Linear(code, flat)), nn.Unflatten(1, deepest), *up]
    return encoder, nn.Sequential(*decoder, FewChannelTranspose2d(32, channels, **window))


_UNITS = 256  # of the integrative networks' layers; the reference tries 128, 256 and 512


def _vector(network: str, shape: Shape) -> int:
    """How long the vectors are that an integrative network is for."""
    if len(shape) != 1:
        raise ValueError(f"network: {network!r} takes vectors, not samples of shape {tuple(shape)}")
    return shape[0]


def _dense(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, _UNITS), nn.ELU(), nn.BatchNorm1d(_UNITS))


def cnc(shape: Shape, outputs: int, code: int, sizes: Sequence[int] = ()) -> tuple[nn.Module, nn.Module]:
    """CNC, the integrative VAE of Simidjievski et al. (2019) that concatenates the modalities.

    One dense layer of 256 ELU units with batch normalisation on either side, with dropout of 0.2 before the outputs.

    Parameters
    ----------
    shape
        Of one vector, ``(features,)``.
    outputs, code
        As for :func:`burgess`.
    sizes
        Of the blocks; they make no difference here.

    Raises
    ------
    ValueError
        If the samples are no vectors.
    """
    size = _vector("cnc", shape)
    encoder = nn.Sequential(*_dense(size), nn.Linear(_UNITS, outputs))
    return encoder, nn.Sequential(*_dense(code), nn.Dropout(0.2), nn.Linear(_UNITS, size))


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


def x(shape: Shape, outputs: int, code: int, sizes: Sequence[int] = ()) -> tuple[nn.Module, nn.Module]:
    """X, the integrative VAE of Simidjievski et al. (2019) with a branch for each modality on either side.

    Encoder: a dense layer for each block, then a common one; decoder: a common one with dropout of 0.2, then one for
    each block. Layers as in :func:`cnc`.

    Parameters
    ----------
    shape, outputs, code
        As for :func:`cnc`.
    sizes
        Of the blocks; by default there is one.

    Raises
    ------
    ValueError
        If the samples are no vectors.
    """
    sizes = list(sizes) or [_vector("x", shape)]
    common = _dense(len(sizes) * _UNITS)
    encoder = nn.Sequential(Branches([_dense(size) for size in sizes], sizes), *common, nn.Linear(_UNITS, outputs))
    heads = [nn.Sequential(*_dense(_UNITS), nn.Linear(_UNITS, size)) for size in sizes]
    return encoder, nn.Sequential(*_dense(code), nn.Dropout(0.2), Branches(heads))


NETWORKS: dict[str, Callable[[Shape, int, int, Sequence[int]], tuple[nn.Module, nn.Module]]] = {
    "burgess": burgess,
    "mlp": mlp,
    "mlp_tanh": partial(mlp, activation=nn.Tanh),
    "fgvae": fgvae,
    "fgvae_cnn": fgvae_cnn,
    "cnc": cnc,
    "x": x,
}


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
