import pytest
import torch
from torch import nn

from vaelib.errors import Invalid
from vaelib.models import CNC, MLP, XVAE, Body, Burgess, Dropout, NormalisedConvolutions, initialise
from vaelib.models.layers import FewChannelTranspose2d, Transposed2d

FGVAE = MLP((512, 256, 128), batch_norm=True)
NETWORKS = {
    "burgess": Burgess(),
    "mlp": MLP(),
    "fgvae": FGVAE,
    "normalised_convolutions": NormalisedConvolutions(),
    "cnc": CNC(),
    "x": XVAE(),
}


def bodies(network, shape, outputs, code, sizes=()):
    network.check(shape, 64)
    pair = network.encoder(shape, outputs, sizes), network.decoder(shape, code, sizes)
    initialise(nn.ModuleList(pair), torch.Generator().manual_seed(0))
    return pair


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 32, 32), (1, 64, 64), (3, 64, 64)])
@pytest.mark.parametrize("name", ["burgess", "mlp", "fgvae", "normalised_convolutions"])
def test_bodies_map_samples_to_outputs_and_codes_to_samples(name, shape):
    encoder, decoder = bodies(NETWORKS[name], shape, 20, 10)
    assert encoder(torch.rand(3, *shape)).shape == (3, 20)
    assert decoder(torch.rand(3, 10)).shape == (3, *shape)


def test_burgess_has_the_layers_of_the_alpha_vae_papers_table_2():
    encoder, decoder = bodies(Burgess(), (1, 32, 32), 20, 10)
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
    with pytest.raises(
        Invalid, match=r"network: 'burgess' is not allowed; .*; this one takes images of 32x32 or 64x64"
    ):
        Burgess().check(shape, 64)


def weights(body):
    """The layers with weights: their kinds, and the shapes of what is not batch normalisation."""
    layers = [layer for layer in body if hasattr(layer, "weight")]
    kinds = [type(layer).__name__ for layer in layers]
    return kinds, [tuple(layer.weight.shape) for layer in layers if "Norm" not in type(layer).__name__]


def test_fgvae_has_the_layers_of_its_thesis_table_4_1():
    encoder, decoder = bodies(FGVAE, (1, 28, 28), 40, 20)
    kinds = ["Linear", "BatchNorm1d"] * 3 + ["Linear"]
    assert weights(encoder) == (kinds, [(512, 784), (256, 512), (128, 256), (40, 128)])
    assert weights(decoder) == (kinds, [(128, 20), (256, 128), (512, 256), (784, 512)])
    assert sum(isinstance(layer, nn.ReLU) for layer in encoder) == sum(isinstance(layer, nn.ReLU) for layer in decoder)


def test_the_convolutional_fgvae_has_the_layers_of_its_thesis_listing():
    encoder, decoder = bodies(NormalisedConvolutions(), (3, 32, 32), 512, 256)
    kinds, shapes = weights(encoder)
    assert kinds == ["Conv2d", "BatchNorm2d"] * 3 + ["Linear"]
    assert shapes == [(32, 3, 4, 4), (64, 32, 4, 4), (128, 64, 4, 4), (512, 2048)]
    kinds, shapes = weights(decoder)
    transposed = ["Transposed2d", "BatchNorm2d"] * 2
    assert kinds == ["Linear", "BatchNorm1d", *transposed, "FewChannelTranspose2d"]
    assert shapes == [(2048, 256), (128, 64, 4, 4), (64, 32, 4, 4), (32, 3, 4, 4)]


@pytest.mark.parametrize("shape", [(1, 28, 28), (784,), (1, 32, 64)])
def test_the_convolutional_fgvae_refuses_other_sizes(shape):
    with pytest.raises(
        Invalid, match=r"network: 'normalised_convolutions' .* square images with a side divisible by 8"
    ):
        NormalisedConvolutions().check(shape, 64)


def test_batch_normalisation_starts_as_the_identity():
    """Whatever ran before, and whatever the constructors drew."""
    encoder, _ = bodies(FGVAE, (1, 32, 32), 4, 2)
    initialise(encoder, torch.Generator().manual_seed(0))
    for layer in encoder:
        if isinstance(layer, nn.BatchNorm1d):
            assert torch.equal(layer.weight, torch.ones_like(layer.weight))
            assert not layer.bias.any()


@pytest.mark.parametrize("kind", [FewChannelTranspose2d, Transposed2d])
@pytest.mark.parametrize(("stride", "padding"), [(2, 1), (1, 0), (1, 1), (2, 0), (3, 1), (4, 2)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(4, 4), (7, 5)])
def test_both_are_the_transposed_convolution(channels, size, stride, padding, kind):
    fitting = {} if kind is FewChannelTranspose2d else {"kernel_size": stride + 2 * padding}
    fast = kind(5, channels, stride=stride, padding=padding, **fitting).double()
    initialise(fast, torch.Generator().manual_seed(0))
    slow = nn.ConvTranspose2d(5, channels, fast.kernel_size, stride, padding).double()
    slow.load_state_dict(fast.state_dict())
    x = torch.randn(2, 5, *size, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(1))
    expected = slow(x)
    assert expected.shape == (2, channels, stride * size[0], stride * size[1])
    torch.testing.assert_close(fast(x), expected)
    gradients = torch.autograd.grad(fast(x).square().sum(), (x, fast.weight, fast.bias))
    for ours, theirs in zip(gradients, torch.autograd.grad(expected.square().sum(), (x, slow.weight, slow.bias))):
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
    encoder, decoder = bodies(NETWORKS[name], (7,), 20, 10, sizes)
    assert encoder(torch.rand(3, 7)).shape == (3, 20)
    noise = decoder.noise(3, torch.Generator().manual_seed(0))
    assert decoder(torch.rand(3, 10), noise).shape == (3, 7)


@pytest.mark.parametrize("name", ["cnc", "x"])
def test_integrative_networks_refuse_images(name):
    expected = f"network: {name!r} is not allowed; .* samples of shape \\(1, 32, 32\\); this one takes vectors"
    with pytest.raises(Invalid, match=expected):
        NETWORKS[name].check((1, 32, 32), 64)


def test_a_branch_of_x_sees_its_own_modality_alone():
    encoder, _ = bodies(XVAE(), (7,), 20, 10, (3, 4))
    encoder.eval()
    first = encoder[0]
    a, b = torch.rand(2, 7), torch.rand(2, 7)
    b[:, :3] = a[:, :3]
    assert torch.equal(first(a)[:, :256], first(b)[:, :256])
    assert not torch.equal(first(a)[:, 256:], first(b)[:, 256:])


@pytest.mark.parametrize("name", ["fgvae", "normalised_convolutions", "cnc", "x"])
def test_a_batch_of_one_cannot_be_normalised(name):
    shape = (7,) if name in ("cnc", "x") else (1, 32, 32)
    with pytest.raises(Invalid, match=r"batch_size: 1 is not allowed; .* last batch has two samples or more") as e:
        NETWORKS[name].check(shape, 1)
    assert "\n" not in str(e.value)
    NETWORKS[name].check(shape, 2)


@pytest.mark.parametrize("name", ["mlp", "burgess"])
def test_without_normalisation_a_batch_of_one_is_taken(name):
    NETWORKS[name].check((1, 32, 32), 1)


@pytest.mark.parametrize("network", [Burgess(units=7), MLP(9, "tanh"), NormalisedConvolutions(4), CNC(5), XVAE(5, 0.5)])
def test_bodies_are_made_without_a_look_at_the_global_generator(network):
    shape = (1, 32, 32) if not isinstance(network, CNC | XVAE) else (7,)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        made.append(nn.ModuleList(bodies(network, shape, 4, 2)).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(made[0].values(), made[1].values()))
    torch.manual_seed(1)
    bodies(network, shape, 4, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_sets_its_share_to_zero_and_keeps_the_mean():
    layer, g = Dropout(50, 0.2), torch.Generator().manual_seed(0)
    x = torch.ones(4000, 50)
    found = layer(x, layer.noise(4000, g))
    assert set(found.unique().tolist()) == {0.0, 1.25}
    assert (found == 0).float().mean().item() == pytest.approx(0.2, abs=0.005)
    assert found.mean().item() == pytest.approx(1, abs=0.005)
    assert (found == 0).float().mean(0).std() < 0.02, "some units are dropped more than others"


def test_dropout_of_nothing_and_of_almost_everything():
    x, g = torch.randn(6, 3), torch.Generator().manual_seed(0)
    nothing, most = Dropout(3, 0.0), Dropout(3, 0.99)
    assert torch.equal(nothing(x, nothing.noise(6, g)), x)
    assert most(x, most.noise(6, g)).isfinite().all()


def test_a_random_body_takes_its_numbers_from_the_caller():
    body = Body(nn.Linear(3, 4), Dropout(4, 0.5), nn.ReLU(), Dropout(4, 0.3))
    x, g = torch.rand(5, 3), torch.Generator().manual_seed(0)
    noise = body.noise(5, g)
    assert {name: tuple(n.shape) for name, n in noise.items()} == {"1": (5, 4), "3": (5, 4)}
    by_hand = torch.where(noise["1"] < 0.5, 0.0, body[0](x) / 0.5).relu()
    by_hand = torch.where(noise["3"] < 0.3, 0.0, by_hand / 0.7)
    torch.testing.assert_close(body(x, noise), by_hand)
    before = torch.get_rng_state()
    body(x, noise)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(TypeError, match="noise: layer 1 is random in training, and nothing was handed in"):
        body(x)


def test_a_body_is_not_random_in_evaluation():
    body = Body(nn.Linear(3, 4), Dropout(4, 0.5)).eval()
    x = torch.rand(5, 3)
    assert body.noise(5, torch.Generator()) == {}
    assert torch.equal(body(x), body[0](x))
