import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from vaelib import measures
from vaelib.divergences import dual_geometric_js, latent_kls, predicted_skew, reverse_kl
from vaelib.errors import Invalid
from vaelib.models import Gaussian, equilibrium, ppca, principal_variances
from vaelib.objectives import Bound, SampledRate


def generator():
    return torch.Generator().manual_seed(0)


def samples(n, noise, features=12):
    """From three directions of decreasing variance, and noise."""
    g = torch.Generator().manual_seed(1)
    directions = torch.linalg.qr(torch.randn(features, 3, generator=g)).Q * torch.tensor([1.5, 0.8, 0.4])
    codes = torch.randn(n, 3, generator=g)
    return codes @ directions.T + 0.3 + noise * torch.randn(n, features, generator=g)


def test_the_posterior_is_exact_so_that_one_draw_gives_the_likelihood():
    train, test = samples(3000, 0.2), samples(50, 0.3)
    found = measures.log_likelihood(measures.log_weights(ppca(train, 3), test, 1, generator()))
    truth = PCA(3, svd_solver="full").fit(train.double().numpy()).score_samples(test.double().numpy())
    np.testing.assert_allclose(found, truth, atol=2e-4)


def test_it_finds_the_noise_and_the_directions_that_were_put_in():
    vae = ppca(samples(20_000, 0.2), 3)
    z = torch.zeros(1, 3)
    assert vae.likelihood(z).stddev.mean() == pytest.approx(0.2, rel=0.01)
    lengths = vae.decoder[0].weight.norm(dim=0)
    torch.testing.assert_close(lengths, torch.tensor([1.5, 0.8, 0.4]), rtol=0.03, atol=0)


def test_the_aggregate_posterior_is_the_prior():
    """At the maximum of the likelihood the codes have mean zero, and their spread and the posterior's add up to one."""
    train = samples(3000, 0.2)
    q = measures.posterior(ppca(train, 3), train)
    torch.testing.assert_close(q.mean.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(q.mean.var(0) + q.variance.mean(0), torch.ones(3), atol=1e-4, rtol=0)


def test_its_rate_is_the_information_of_a_linear_channel():
    """With N(0, 1) as aggregate, the mean KL is the mutual information, log(λ / σ²) / 2 a latent."""
    train = samples(20_000, 0.2)
    vae = ppca(train, 3)
    rates = latent_kls(measures.posterior(vae, train), vae.prior)
    exact = [math.log1p((w / 0.2) ** 2) / 2 for w in (1.5, 0.8, 0.4)]
    assert rates.tolist() == pytest.approx(exact, abs=0.05)
    assert reverse_kl(measures.posterior(vae, train), vae.prior).mean() == pytest.approx(rates.sum().item(), rel=1e-4)


@torch.no_grad()
def test_with_the_exact_posterior_only_the_closed_form_of_the_rate_has_spread():
    """Eq. 3.2 of the FGVAE thesis is then -log p(x) for any draw; eq. 3.3 keeps the noise of log p(x|z) / draws."""
    train = samples(3000, 0.2)
    vae, x = ppca(train, 3), train[:50]

    def terms(part):
        part.check(Gaussian(3))
        objective, g = part.build(None), generator()
        repeats = [objective(vae, x, objective.noise(vae, x.shape, g), torch.ones(())) for _ in range(300)]
        return {name: torch.stack([terms[name] for terms in repeats]) for name in repeats[0]}

    sampled, closed, averaged = terms(SampledRate())["loss"], terms(Bound()), terms(Bound(draws=10))
    assert sampled.std(0).max() < 1e-4
    torch.testing.assert_close((closed["distortion"] + closed["rate"]).mean(0), sampled[0], atol=0.4, rtol=0)
    ratio = closed["distortion"].var(0).mean() / averaged["distortion"].var(0).mean()
    assert ratio == pytest.approx(10, rel=0.1)


def test_without_noise_it_is_pca():
    train = samples(2000, 1e-3)
    vae, pca = ppca(train, 3), PCA(3).fit(train.numpy())
    projected = torch.as_tensor(pca.inverse_transform(pca.transform(train.numpy())))
    torch.testing.assert_close(vae.reconstruct(train), projected, atol=1e-3, rtol=0)
    codes = measures.posterior(vae, train).mean.numpy()
    whitened = pca.transform(train.numpy()) / np.sqrt(pca.explained_variance_)
    np.testing.assert_allclose(np.abs((codes * whitened).mean(0)), np.ones(3), atol=2e-3)


def test_images_keep_their_shape():
    images = torch.randint(0, 256, (40, 3, 4, 4), dtype=torch.uint8, generator=generator())
    vae = ppca(images, 2)
    x = next(measures.batches(vae, images))
    assert vae.reconstruct(x).shape == x.shape
    assert vae.likelihood(torch.zeros(5, 2)).batch_shape == (5,)
    assert measures.reconstruction_error(vae, images).shape == (40,)


@pytest.mark.parametrize("size", [0, 12, 13])
def test_a_size_without_noise_is_refused(size):
    with pytest.raises(ValueError, match=f"size: {size} is not allowed; it has to be a whole number from 1 to 11"):
        ppca(samples(100, 0.1), size)


def test_samples_without_noise_are_refused():
    with pytest.raises(ValueError, match="size: 3 is not allowed; it has to be less than the number of directions"):
        ppca(samples(100, 0.0).double(), 3)


@pytest.mark.parametrize("n", [500, 8], ids=["more samples than features", "fewer"])
def test_the_principal_variances_are_those_of_pca(n):
    data = samples(n, 0.3)
    torch.testing.assert_close(principal_variances(data, 4), PCA(4).fit(data.flatten(1)).explained_variance_.tolist())


def linear_dual(variances, noise):
    """The weight, rate and widths of a linear α-VAE with the dual, minimised over all that it has: no formula."""
    spectrum = torch.tensor(variances, dtype=torch.float64)
    free = torch.zeros(3, len(variances), dtype=torch.float64)
    free[1] = -1.0
    free[2] = spectrum.log() / 2
    free, skew = free.requires_grad_(), torch.zeros((), dtype=torch.float64, requires_grad=True)
    p = torch.distributions.Normal(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))

    def parts():
        sd, out = free[1].exp(), free[2].exp()
        q = torch.distributions.Normal(free[0].exp(), sd)  # a mean square enters as any other mean would
        gain = q.loc / spectrum.sqrt()  # q.loc is the root of the mean square of the posterior means
        error = spectrum * (1 - out * gain) ** 2 + (out * sd) ** 2
        return q, error.sum() / (2 * noise)

    def loss():
        optimiser.zero_grad()
        q, distortion = parts()
        total = distortion + dual_geometric_js(q, p, skew.sigmoid()).sum()
        total.backward()
        return total

    optimiser = torch.optim.LBFGS([free, skew], max_iter=2000, tolerance_grad=1e-10, line_search_fn="strong_wolfe")
    optimiser.step(loss)
    return skew.sigmoid().item(), reverse_kl(parts()[0], p).sum().item()


@pytest.mark.parametrize(("variances", "within"), [([5.1, 3.8, 3.3, 1.2], 0.015), ([900.0, 500.0, 200.0], 5e-4)])
def test_a_linear_dual_vae_ends_where_the_equilibrium_says(variances, within):
    """The narrower the posteriors, the nearer."""
    skew, rate = linear_dual(variances, 0.5)
    found = equilibrium(variances)
    assert found.weight == pytest.approx(skew, abs=within)
    assert found.rate == pytest.approx(rate, rel=3 * within)


def test_the_equilibriums_weight_is_the_predicted_one_and_latents_below_the_noise_are_off():
    found = equilibrium([40.0, 30.0, 1e-3])
    assert found.used == 2
    assert found.weight == pytest.approx(predicted_skew(found.rate / 2))
    rate = sum(math.log(v / (found.weight * 0.5)) / 2 for v in (40.0, 30.0))
    assert found.rate == pytest.approx(rate)


def test_an_equilibrium_without_a_latent_in_use_is_refused():
    with pytest.raises(Invalid, match="variances"):
        equilibrium([1e-3, 1e-4])
