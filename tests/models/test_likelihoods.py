import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal

from vaelib import Experiment
from vaelib.data import Block, Dataset, load
from vaelib.errors import Invalid
from vaelib.models import BalancedLikelihood, BernoulliLikelihood, GaussianLikelihood, ScaledGaussianLikelihood

VECTORS = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)


def test_bernoulli_is_the_summed_binary_cross_entropy():
    logits, x = torch.randn(3, 2, 4, 4), torch.rand(3, 2, 4, 4)
    p = logits.sigmoid()
    expected = (x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3))
    torch.testing.assert_close(BernoulliLikelihood().of(logits).log_prob(x), expected)


def test_gaussian_is_the_summed_squared_error_and_a_constant():
    outputs, x = torch.randn(3, 2, 4, 4), torch.rand(3, 2, 4, 4)
    error = (outputs.sigmoid() - x).square().sum((1, 2, 3))
    torch.testing.assert_close(-GaussianLikelihood().of(outputs).log_prob(x), error + 32 * math.log(math.pi) / 2)


def test_balanced_blocks_have_the_same_say():
    """Minus the log-density is F / M times the sum of the blocks' mean errors, and a constant."""
    outputs, x = torch.randn(5, 12), torch.rand(5, 12)
    joint = BalancedLikelihood().of(outputs, [Block("a", 3, "bernoulli"), Block("b", 9, "gaussian")])
    entropy = nn.functional.binary_cross_entropy_with_logits(outputs[:, :3], x[:, :3], reduction="none").mean(1)
    error = (outputs[:, 3:] - x[:, 3:]).square().mean(1) + math.log(math.pi) / 2
    torch.testing.assert_close(-joint.log_prob(x), 12 / 2 * (entropy + error))
    torch.testing.assert_close(joint.mean, torch.cat([outputs[:, :3].sigmoid(), outputs[:, 3:]], 1))


def test_one_balanced_block_is_its_likelihood():
    outputs, x = torch.randn(5, 4), torch.rand(5, 4)
    joint = BalancedLikelihood().of(outputs, [Block("a", 4, "bernoulli")])
    torch.testing.assert_close(joint.log_prob(x), BernoulliLikelihood().of(outputs).log_prob(x))


def test_linear_is_the_squared_error_without_a_sigmoid():
    outputs, x = torch.randn(5, 4), torch.randn(5, 4)
    expected = -(outputs - x).square().sum(1) - 4 * math.log(math.pi) / 2
    torch.testing.assert_close(GaussianLikelihood(sigmoid=False).of(outputs).log_prob(x), expected)


def test_bernoulli_refuses_data_beyond_the_unit_interval():
    beyond = Dataset.from_arrays(VECTORS, VECTORS)
    with pytest.raises(
        Invalid, match=r"likelihood: 'bernoulli' is not allowed; it has to be one for values from -"
    ) as e:
        BernoulliLikelihood().check(beyond)
    assert "\n" not in str(e.value)
    for one_sided in (VECTORS.clip(0, 3), VECTORS.clip(-3, 1)):
        with pytest.raises(Invalid, match="likelihood: 'bernoulli'"):
            BernoulliLikelihood().check(Dataset.from_arrays(one_sided, one_sided))
    BernoulliLikelihood().check(Dataset.from_arrays(VECTORS.clip(0, 1), VECTORS.clip(0, 1)))
    BernoulliLikelihood().check(
        Dataset.from_arrays(np.full((5, 28, 28), 255, np.uint8), np.zeros((5, 28, 28), np.uint8))
    )
    GaussianLikelihood().check(beyond)


def test_balanced_refuses_data_without_blocks():
    data = Dataset.from_arrays(VECTORS, VECTORS, name="arrays of mine")
    with pytest.raises(
        Invalid, match=r"likelihood: 'balanced' is not allowed; .* without blocks, which arrays of mine is"
    ):
        BalancedLikelihood().check(data)
    whole = torch.from_numpy(VECTORS)
    BalancedLikelihood().check(
        Dataset("a", whole, whole, blocks=(Block("a", 1, "gaussian"), Block("b", 3, "gaussian")))
    )


def test_a_decoder_that_gives_scales_has_the_density_of_its_normals():
    outputs, x = torch.randn(5, 2, 4, 4), torch.rand(5, 1, 4, 4)
    mean, log_scale = outputs[:, :1], outputs[:, 1:]
    expected = Normal(mean, log_scale.exp()).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(ScaledGaussianLikelihood(1e-6).of(outputs).log_prob(x), expected)


def test_no_scale_is_below_the_floor():
    """Else the density of a pixel that never changes has no bound, and training ends there."""
    outputs = torch.cat([torch.zeros(3, 6), torch.full((3, 6), -50.0)], dim=1)
    highest = ScaledGaussianLikelihood(0.1).of(outputs).log_prob(torch.zeros(3, 6))
    torch.testing.assert_close(highest, torch.full((3,), -6 * math.log(0.1 * math.sqrt(2 * math.pi))))


def test_a_likelihood_of_scales_widens_the_decoder_and_refuses_blocks():
    run = Experiment(network="mlp", likelihood="scaled_gaussian").build((1, 8, 8))
    x = torch.rand(4, 1, 8, 8)
    assert run.vae.decoder(torch.zeros(4, 10)).shape == (4, 2, 8, 8)
    assert run.vae.reconstruct(x).shape == x.shape
    with pytest.raises(Invalid, match=r"likelihood: 'scaled_gaussian' is not allowed; .* data with blocks"):
        ScaledGaussianLikelihood().check(load("gse7390:clin+rna/0"))
