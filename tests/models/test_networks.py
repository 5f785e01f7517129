import pytest
import torch
from torch import nn

from vaelib.networks import NETWORKS, FewChannelTranspose2d, burgess, fgvae, fgvae_cnn, initialise


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 32, 32), (1, 64, 64), (3, 64, 64)])
@pytest.mark.parametrize("name", ["burgess", "mlp", "fgvae", "fgvae_cnn"])
def test_bodies_map_samples_to_outputs_and_codes_to_samples(name, shape):
    encoder, decoder = NETWORKS[name](shape, 20, 10)
    assert encoder(torch.rand(3, *shape)).shape == (3, 20)
    assert decoder(torch.rand(3, 10)).shape == (3, *shape)


def test_burgess_has_the_layers_of_the_alpha_vae_papers_table_2():
    encoder, decoder = burgess((1, 32, 32), 20, 10)
    kinds = [type(layer).__name__ for layer in encoder if not isinstance(layer, nn.ReLU)]
    assert kinds == ["Conv2d"] * 3 + ["Flatten"] + ["Linear"] * 3
    assert (
        sum(isinstance(layer, nn.ReLU) for layer in encoder)
        == sum(isinstance(layer, nn.ReLU) for layer in decoder)
        == 5
    )
    sizes = [layer.weight.shape for layer in decoder if hasattr(layer, "weight")]
    assert sizes == [(256, 10), (256, 256), (512, 256), (32, 32, 4, 4), (32, 32, 4, 4), (32, 1, 4, 4)]


@pytest.mark.parametrize("shape", [(1, 28, 28), (784,), (1, 32, 64), (1, 128, 128)])
def test_burgess_refuses_other_sizes(shape):
    with pytest.raises(ValueError, match="32x32 or 64x64"):
        burgess(shape, 2, 1)


def weights(body):
    """The layers with weights: their kinds, and the shapes of what is not batch normalisation."""
    layers = [layer for layer in body if hasattr(layer, "weight")]
    kinds = [type(layer).__name__ for layer in layers]
    return kinds, [tuple(layer.weight.shape) for layer in layers if "Norm" not in type(layer).__name__]


def test_fgvae_has_the_layers_of_its_thesis_table_4_1():
    encoder, decoder = fgvae((1, 28, 28), 40, 20)
    kinds = ["Linear", "BatchNorm1d"] * 3 + ["Linear"]
    assert weights(encoder) == (kinds, [(512, 784), (256, 512), (128, 256), (40, 128)])
    assert weights(decoder) == (kinds, [(128, 20), (256, 128), (512, 256), (784, 512)])
    assert sum(isinstance(layer, nn.ReLU) for layer in encoder) == sum(isinstance(layer, nn.ReLU) for layer in decoder)


def test_the_convolutional_fgvae_has_the_layers_of_its_thesis_listing():
    encoder, decoder = fgvae_cnn((3, 32, 32), 512, 256)
    kinds, shapes = weights(encoder)
    assert kinds == ["Conv2d", "BatchNorm2d"] * 3 + ["Linear"]
    assert shapes == [(32, 3, 4, 4), (64, 32, 4, 4), (128, 64, 4, 4), (512, 2048)]
    kinds, shapes = weights(decoder)
    transposed = ["ConvTranspose2d", "BatchNorm2d"] * 2
    assert kinds == ["Linear", "BatchNorm1d", *transposed, "FewChannelTranspose2d"]
    assert shapes == [(2048, 256), (128, 64, 4, 4), (64, 32, 4, 4), (32, 3, 4, 4)]


@pytest.mark.parametrize("shape", [(1, 28, 28), (784,), (1, 32, 64)])
def test_the_convolutional_fgvae_refuses_other_sizes(shape):
    with pytest.raises(ValueError, match="network: 'fgvae_cnn' takes square images with a side divisible by 8"):
        fgvae_cnn(shape, 2, 1)


def test_batch_normalisation_starts_as_the_identity():
    """Whatever ran before, and whatever the constructors drew."""
    encoder, _ = fgvae((1, 32, 32), 4, 2)
    initialise(encoder, torch.Generator().manual_seed(0))
    for layer in encoder:
        if isinstance(layer, nn.BatchNorm1d):
            assert torch.equal(layer.weight, torch.ones_like(layer.weight))
            assert not layer.bias.any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [4, 7])
def test_few_channels_are_the_transposed_convolution(channels, side):
    fast = FewChannelTranspose2d(5, channels, 4, stride=2, padding=1).double()
    x = torch.randn(2, 5, side, side, dtype=torch.float64, requires_grad=True)
    expected = nn.functional.conv_transpose2d(x, fast.weight, fast.bias, stride=2, padding=1)
    torch.testing.assert_close(fast(x), expected)
    inputs = (x, fast.weight, fast.bias)
    gradients = torch.autograd.grad(fast(x).square().sum(), inputs)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected.square().sum(), inputs)):
        torch.testing.assert_close(ours, theirs)


def test_weights_start_kaiming_uniform():
    layer = nn.Linear(600, 400)
    initialise(layer, torch.Generator().manual_seed(0))
    bound = (6 / 600) ** 0.5
    assert bound * 0.999 < layer.weight.abs().max() <= bound
    assert abs(layer.weight.var().item() / (bound**2 / 3) - 1) < 0.02
    assert layer.bias.abs().max() <= 600**-0.5
    first = layer.weight.clone()
    initialise(layer, torch.Generator().manual_seed(0))
    assert torch.equal(layer.weight, first)


@pytest.mark.parametrize("sizes", [(), (7,), (3, 4)])
@pytest.mark.parametrize("name", ["mlp", "fgvae", "cnc", "x"])
def test_bodies_map_vectors(name, sizes):
    encoder, decoder = NETWORKS[name]((7,), 20, 10, sizes)
    assert encoder(torch.rand(3, 7)).shape == (3, 20)
    assert decoder(torch.rand(3, 10)).shape == (3, 7)


@pytest.mark.parametrize("name", ["cnc", "x"])
def test_integrative_networks_refuse_images(name):
    with pytest.raises(ValueError, match=f"{name!r} takes vectors, not samples of shape \\(1, 32, 32\\)"):
        NETWORKS[name]((1, 32, 32), 2, 1)


def test_a_branch_of_x_sees_its_own_modality_alone():
    encoder, _ = NETWORKS["x"]((7,), 20, 10, (3, 4))
    encoder.eval()
    first = encoder[0]
    a, b = torch.rand(2, 7), torch.rand(2, 7)
    b[:, :3] = a[:, :3]
    assert torch.equal(first(a)[:, :256], first(b)[:, :256])
    assert not torch.equal(first(a)[:, 256:], first(b)[:, 256:])
