import math
from functools import partial

import torch
from torch import nn
from torch.distributions import kl_divergence

from vaelib.latents import Gaussian
from vaelib.networks import mlp
from vaelib.vae import LIKELIHOODS, VAE, bernoulli, gaussian, pixels


def build(likelihood="bernoulli", latents=3):
    latent = Gaussian(latents)
    torch.manual_seed(0)
    return VAE(*mlp((1, 4, 4), latent.outputs, latent.code), latent, partial(LIKELIHOODS[likelihood], blocks=()))


def test_shapes():
    vae, x = build(), torch.rand(5, 1, 4, 4)
    q = vae.posterior(x)
    assert (q.batch_shape, q.event_shape) == ((5,), (3,))
    assert kl_divergence(q, vae.prior).shape == (5,)
    assert vae.likelihood(q.mean).log_prob(x).shape == (5,)
    assert vae.reconstruct(x).shape == x.shape
    assert vae.sample(7, torch.Generator().manual_seed(0)).shape == (7, 1, 4, 4)


def test_the_encoders_outputs_are_mean_and_log_variance():
    q = Gaussian(2).posterior(torch.tensor([[1.0, 2.0, 0.0, math.log(4.0)]]))
    torch.testing.assert_close(q.mean, torch.tensor([[1.0, 2.0]]))
    torch.testing.assert_close(q.variance, torch.tensor([[1.0, 4.0]]))


def test_samples_have_the_posteriors_moments():
    latent = Gaussian(2)
    q = latent.posterior(torch.tensor([[1.0, -2.0, 0.0, math.log(0.25)]]).expand(200_000, 4))
    z = latent.sample(q, latent.noise(200_000, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(z.mean(0), torch.tensor([1.0, -2.0]), atol=0.01, rtol=0)
    torch.testing.assert_close(z.std(0), torch.tensor([1.0, 0.5]), atol=0.01, rtol=0)


def test_bernoulli_is_the_summed_binary_cross_entropy():
    logits, x = torch.randn(3, 2, 4, 4), torch.rand(3, 2, 4, 4)
    p = logits.sigmoid()
    expected = (x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3))
    torch.testing.assert_close(bernoulli(logits).log_prob(x), expected)


def test_gaussian_is_the_summed_squared_error_and_a_constant():
    outputs, x = torch.randn(3, 2, 4, 4), torch.rand(3, 2, 4, 4)
    error = (outputs.sigmoid() - x).square().sum((1, 2, 3))
    torch.testing.assert_close(-gaussian(outputs).log_prob(x), error + 32 * math.log(math.pi) / 2)


def test_balanced_blocks_have_the_same_say():
    """Minus the log-density is F / M times the sum of the blocks' mean errors, and a constant."""
    outputs, x = torch.randn(5, 12), torch.rand(5, 12)
    joint = LIKELIHOODS["balanced"](outputs, [(3, "bernoulli"), (9, "gaussian")])
    entropy = nn.functional.binary_cross_entropy_with_logits(outputs[:, :3], x[:, :3], reduction="none").mean(1)
    error = (outputs[:, 3:] - x[:, 3:]).square().mean(1) + math.log(math.pi) / 2
    torch.testing.assert_close(-joint.log_prob(x), 12 / 2 * (entropy + error))
    torch.testing.assert_close(joint.mean, torch.cat([outputs[:, :3].sigmoid(), outputs[:, 3:]], 1))


def test_one_balanced_block_is_its_likelihood():
    outputs, x = torch.randn(5, 4), torch.rand(5, 4)
    joint = LIKELIHOODS["balanced"](outputs, [(4, "bernoulli")])
    torch.testing.assert_close(joint.log_prob(x), bernoulli(outputs).log_prob(x))


def test_linear_is_the_squared_error_without_a_sigmoid():
    outputs, x = torch.randn(5, 4), torch.randn(5, 4)
    expected = -(outputs - x).square().sum(1) - 4 * math.log(math.pi) / 2
    torch.testing.assert_close(LIKELIHOODS["linear"](outputs, ()).log_prob(x), expected)


def test_the_same_generator_gives_the_same_samples():
    vae = build()
    a, b = (vae.sample(4, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b)


def test_pixels():
    assert torch.equal(pixels(torch.tensor([0, 51, 255], dtype=torch.uint8)), torch.tensor([0, 0.2, 1]))
    x = torch.rand(3)
    assert pixels(x) is x
