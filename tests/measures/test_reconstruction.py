import pytest
import torch
from torch.distributions import kl_divergence

from vaelib import data, measures, training
from vaelib.data import Dataset
from vaelib.models import MLP, Gaussian
from vaelib.objectives import Bound
from vaelib.runs import Experiment, Study, trained
from vaelib.training import Adam, Training


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


VECTORS = torch.rand(480, 6, generator=torch.Generator().manual_seed(1))


def trainee_of(objective, latent=None, **fields):
    e = Experiment(network=MLP(8), latent=latent or Gaussian(3), objective=objective, optimiser=Adam(0.0), **fields)
    return e, e.build((6,))


@pytest.mark.parametrize("divergence", ["kl", "mmd", "mmd_moments"])
def test_mean_terms_are_averaged_over_batches_of_the_size_that_is_given(divergence):
    _, trainee = trainee_of(Bound(divergence, weight=3.0))
    trainee.eval()
    found, g, totals = measures.mean_terms(trainee, VECTORS[:50], generator(), 16), generator(), {}
    with torch.no_grad():
        for x in VECTORS[:50].split(16):
            noise = trainee.objective.noise(trainee.vae, x.shape, g)
            for name, term in trainee(x, noise, torch.ones(())).items():
                totals[name] = totals.get(name, 0.0) + term.double().sum().item() / 50
    assert found == pytest.approx(totals)


@pytest.mark.parametrize("corruption", [None, 0.5])
def test_what_is_encoded_already_is_not_encoded_again(corruption):
    """Samples with new noise on them are not those that were encoded."""
    _, trainee = trainee_of(Bound("mmd", corruption=corruption))
    trainee.eval()
    encoded, calls = measures.encode(trainee.vae, VECTORS), []
    expected = measures.mean_terms(trainee, VECTORS, generator(), 100)
    trainee.vae.encoder.register_forward_hook(lambda *_: calls.append(1))
    assert measures.mean_terms(trainee, VECTORS, generator(), 100, encoded) == pytest.approx(expected, rel=1e-6)
    assert len(calls) == (0 if corruption is None else 5)


@pytest.mark.parametrize("divergence", ["mmd", "mmd_moments"])
def test_the_biased_mmd_of_a_test_is_that_of_the_training(divergence):
    """The V-statistic shrinks with the batch: in batches of 500 a test could not be compared with batches of eight."""
    e, trainee = trainee_of(Bound(divergence), batch_size=8)
    trained_on = Training([trainee], [0], VECTORS, batch_size=8, epochs=1, optimiser=e.optimiser).run_epoch()[0]
    tested = measures.mean_terms(trainee.eval(), VECTORS, generator(), 8)
    assert tested["divergence"] == pytest.approx(trained_on["divergence"], rel=0.1)
    assert measures.mean_terms(trainee, VECTORS, generator(), 500)["divergence"] < 0.8 * tested["divergence"]


def test_a_run_is_tested_in_batches_of_its_own_size(tiny, store):
    """What the history says is what the model gives in such batches, with the run's own noise."""
    e = Experiment(data=tiny, network=MLP(16), epochs=1, batch_size=8, objective=Bound("mmd", weight=10.0))
    entry = Study({"mmd": e}).run(store=store, device="cpu")["mmd"]
    trainee, test = trained(entry, "cpu"), data.load(tiny).test
    for size, equal in ((8, True), (500, False)):
        found = measures.mean_terms(trainee, test, training.generator("cpu", 0, "test"), size)
        row = {name: entry.history[f"test_{name}"].iloc[-1] for name in found}
        assert (found == pytest.approx(row, rel=1e-5)) == equal


def test_errors_and_denoising_are_those_of_the_functions(ppca, observed):
    vae, truth = ppca()
    torch.manual_seed(0)
    x = truth.sample((30,)).clamp(0, 1)
    run = observed(vae, Dataset.from_arrays(x[:10], x[10:]))
    for split, samples in (("train", x[:10]), ("test", x[10:])):
        table = measures.Errors(split=split).observe(run)
        assert table["image"].tolist() == list(range(len(samples)))
        assert table["error"].tolist() == pytest.approx(measures.reconstruction_error(vae, samples).tolist())
    table = measures.Denoising((0.0, 2.0)).observe(run)
    assert table["noise"].tolist() == [0.0, 2.0]
    assert table["error"][0] == pytest.approx(measures.reconstruction_error(vae, x[10:]).mean().item(), rel=1e-6)
    loud = measures.noisy(x[10:], 2.0, generator())
    assert table["error"][1] == pytest.approx(measures.reconstruction_error(vae, loud, x[10:]).mean().item(), rel=1e-6)
    rated = measures.Denoising((0.0, 2.0), rated=True).observe(run)
    assert rated["error"].tolist() == table["error"].tolist()
    rates = [kl_divergence(vae.posterior(inputs), vae.prior).mean().item() for inputs in (x[10:], loud)]
    assert rated["rate"].tolist() == pytest.approx(rates, rel=1e-6)


def test_reconstructions_hold_input_decoded_and_error(ppca, observed):
    vae, truth = ppca()
    torch.manual_seed(0)
    x = truth.sample((5,)).clamp(0, 1)
    run = observed(vae, Dataset.from_arrays(x, x))
    clean = measures.Reconstructions((4, 0)).observe(run)
    torch.testing.assert_close(clean["input"], x[[4, 0]])
    torch.testing.assert_close(clean["decoded"], vae.reconstruct(x[[4, 0]]))
    torch.testing.assert_close(clean["error"], (clean["decoded"] - x[[4, 0]]).square().sum(1))
    noisy = measures.Reconstructions((4, 0), noise=1.0).observe(run)
    torch.testing.assert_close(noisy["decoded"], vae.reconstruct(noisy["input"]))
    torch.testing.assert_close(noisy["error"], (noisy["decoded"] - x[[4, 0]]).square().sum(1))
    assert not torch.equal(noisy["input"], x[[4, 0]])
    drawn = measures.Reconstructions((4, 0), drawn=True).observe(run)
    assert not torch.equal(drawn["decoded"], clean["decoded"])
    with torch.no_grad():
        z = vae.latent.draw(vae.posterior(x[[4, 0]]), vae.latent.noise(2, generator()))
        again = measures.Reconstructions((4, 0), drawn=True).observe(observed(vae, run.data))
        torch.testing.assert_close(again["decoded"], vae.likelihood(z).mean)


def test_samples_are_decoded_codes_from_the_prior(ppca, observed):
    vae, truth = ppca()
    x = truth.sample((3,))
    found = measures.Samples(2000).observe(observed(vae, Dataset.from_arrays(x, x)))["decoded"]
    assert found.shape == (2000, 6)
    weights = vae.decoder.weight.detach()
    torch.testing.assert_close(found.T.cov(), weights @ weights.T, atol=0.2, rtol=0)


def test_error_of_codes_that_are_known_is_that_of_encoding_and_decoding():
    vae = Experiment(network="mlp", latent=Gaussian(3)).build((1, 8, 8)).vae.eval()
    samples = torch.randint(0, 256, (700, 1, 8, 8), dtype=torch.uint8, generator=generator(0))  # more than a batch
    codes = measures.posterior(vae, samples).mean
    torch.testing.assert_close(
        measures.decoding_error(vae, codes, samples), measures.reconstruction_error(vae, samples), rtol=1e-5, atol=0
    )
