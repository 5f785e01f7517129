import pytest
import torch

from vaelib import data, measures
from vaelib.objectives import Bound
from vaelib.runs import Experiment, Study, trained


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_noise_on_samples():
    clean = torch.full((2000, 1, 4, 4), 128, dtype=torch.uint8)
    noisy = measures.noisy(clean, 0.1, generator())
    assert noisy.mean() == pytest.approx(128 / 255, abs=3e-3)
    assert noisy.std() == pytest.approx(0.1, abs=3e-3)
    loud = measures.noisy(clean, 3.0, generator())
    assert (loud.min(), loud.max()) == (0, 1)
    assert torch.equal(loud, measures.noisy(clean, 3.0, generator()))


def test_a_reconstruction_is_compared_with_its_target(ppca):
    vae, truth = ppca()
    torch.manual_seed(4)
    x, y = truth.sample((7,)), truth.sample((7,))
    expected = (vae.decoder(vae.posterior(x).mean) - y).square().sum(1)
    torch.testing.assert_close(measures.reconstruction_error(vae, x, y), expected)


def test_the_noisy_run_is_tested_on_noisy_inputs_and_clean_targets(tiny, store):
    e = Experiment(data=tiny, network="mlp", epochs=2, objective=Bound(corruption=1.0))
    entry = Study({"noisy": e}).run(store=store, device="cpu")["noisy"]
    vae, test = trained(entry, "cpu").vae, data.load(tiny).test
    error = entry.history["test_reconstruction"].iloc[-1]
    clean = measures.reconstruction_error(vae, test).mean().item()
    again = [measures.reconstruction_error(vae, measures.noisy(test, 1.0, generator(s)), test) for s in range(5)]
    noisy = torch.stack(again).mean().item()
    assert error == pytest.approx(noisy, rel=0.05)
    assert abs(error - clean) > abs(error - noisy)
