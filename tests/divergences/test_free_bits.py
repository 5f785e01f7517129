import pytest
import torch
from torch.distributions import Independent, Normal

from vaelib.divergences import FreeBits, ReverseKL, latent_kls, reverse_kl
from vaelib.models import Bits, Category, Gaussian, Joint, Relaxation

D = torch.float64


def value(part, q, p):
    return part.build().double()(q, p, None, None, {}, torch.ones(()))


def normal(mean):
    return Independent(Normal(torch.tensor(mean, dtype=D), 1.0), 1)


def test_free_bits_by_hand():
    """Means of (0, 3) and (2, 1): squares over two are 0, 4.5 and 2, 0.5, so that the latents' rates are 1 and 2.5."""
    q, p = normal([[0.0, 3.0], [2.0, 1.0]]), normal([0.0, 0.0])
    for free, expected in ((0.0, 3.5), (0.5, 3.5), (1.5, 4.0), (4.0, 8.0)):
        torch.testing.assert_close(value(FreeBits(free), q, p), torch.tensor([expected] * 2, dtype=D))


def test_a_latent_below_its_share_has_no_gradient():
    mean = torch.tensor([[0.1, 3.0], [-0.1, 1.0]], dtype=D, requires_grad=True)
    q, p = Independent(Normal(mean, 1.0), 1), normal([0.0, 0.0])
    value(FreeBits(0.5), q, p).mean().backward()
    torch.testing.assert_close(mean.grad, torch.tensor([[0.0, 1.5], [0.0, 0.5]], dtype=D))


def test_without_any_it_is_the_mean_kl():
    q, p = normal([[0.3, 1.0], [2.0, 1.0]]), normal([0.0, 0.0])
    torch.testing.assert_close(value(FreeBits(0.0), q, p).mean(), value(ReverseKL(), q, p).mean())


@pytest.mark.parametrize("latents", [2 + 3 + 1])
def test_the_latents_of_a_joint_code_add_up_to_its_rate(latents):
    latent = Joint((Gaussian(2), Bits(3, Relaxation()), Category(4, Relaxation()))).build()
    q = latent.posterior(torch.randn(5, latent.outputs, generator=torch.Generator().manual_seed(0)))
    found = latent_kls(q, latent.prior())
    assert found.shape == (latents,)
    torch.testing.assert_close(found.sum(), reverse_kl(q, latent.prior()).mean())
    FreeBits(0.1).check(latent)
