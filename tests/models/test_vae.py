import math

import torch
from torch.distributions import kl_divergence

from vaelib.models import MLP, VAE, BernoulliLikelihood, Gaussian, distortion_of, initialise, pixels


def build(network=None, latents=3, shape=(1, 4, 4)):
    latent, network = Gaussian(latents).build(), network or MLP()
    bodies = network.encoder(shape, latent.outputs), network.decoder(shape, latent.code)
    vae = VAE(*bodies, latent, BernoulliLikelihood().of)
    initialise(vae, torch.Generator().manual_seed(0))
    return vae


def test_shapes():
    vae, x = build(), torch.rand(5, 1, 4, 4)
    q = vae.posterior(x)
    assert (q.batch_shape, q.event_shape) == ((5,), (3,))
    assert kl_divergence(q, vae.prior).shape == (5,)
    assert vae.likelihood(q.mean).log_prob(x).shape == (5,)
    assert vae.reconstruct(x).shape == x.shape
    assert vae.sample(7, torch.Generator().manual_seed(0)).shape == (7, 1, 4, 4)


def test_the_encoders_outputs_are_mean_and_log_variance():
    q = Gaussian(2).build().posterior(torch.tensor([[1.0, 2.0, 0.0, math.log(4.0)]]))
    torch.testing.assert_close(q.mean, torch.tensor([[1.0, 2.0]]))
    torch.testing.assert_close(q.variance, torch.tensor([[1.0, 4.0]]))


def test_samples_have_the_posteriors_moments():
    latent = Gaussian(2).build()
    q = latent.posterior(torch.tensor([[1.0, -2.0, 0.0, math.log(0.25)]]).expand(200_000, 4))
    z = latent.sample(q, latent.noise(200_000, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(z.mean(0), torch.tensor([1.0, -2.0]), atol=0.01, rtol=0)
    torch.testing.assert_close(z.std(0), torch.tensor([1.0, 0.5]), atol=0.01, rtol=0)


def test_the_same_generator_gives_the_same_samples():
    vae = build()
    a, b = (vae.sample(4, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b)


def test_pixels():
    assert torch.equal(pixels(torch.tensor([0, 51, 255], dtype=torch.uint8)), torch.tensor([0, 0.2, 1]))
    x = torch.rand(3)
    assert pixels(x) is x


def test_the_distortion_of_several_codes_is_that_of_each():
    vae, x = build(), torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    z = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(2))
    found = distortion_of(vae.likelihood(z.flatten(0, 1)), x, 3)
    torch.testing.assert_close(found, torch.stack([-vae.likelihood(codes).log_prob(x) for codes in z]))
