"""A model with dropout is trained to the same numbers alone, in a stack beside other seeds, and in a thread of many.

Dropout that asks the global generator gives others each time: METABRIC's loss was 53.96 alone, 53.40 in a stack.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from vaelib.data import Block
from vaelib.models import CNC, XVAE, Category, Gaussian, Joint, Relaxation
from vaelib.objectives import Bound, Hybrid, Information, VarianceLoss
from vaelib.runs import Experiment
from vaelib.training import Adam, Training

BLOCKS = (Block("a", 3, "bernoulli"), Block("b", 4, "gaussian"))
SAMPLES = torch.rand(50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NETWORKS = {"cnc": CNC(16, 0.3), "x": XVAE(16, 0.3)}


def experiment(network, **fields):
    fields = {"latent": Gaussian(3), "optimiser": Adam(1e-2), **fields}
    return Experiment(network=network, likelihood="balanced", batch_size=16, **fields)


def start(e, seeds, epochs=3):
    """A training in double precision, so that only rounding far below single precision's is left."""
    members = [e.replace(seed=seed).build((7,), BLOCKS).double() for seed in seeds]
    return Training(members, seeds, SAMPLES, batch_size=16, epochs=epochs, optimiser=e.optimiser)


def trained(e, seeds, epochs=3):
    """For each seed its rows without the times, and its weights."""
    training = start(e, seeds, epochs)
    rows = [training.run_epoch() for _ in range(epochs)]
    kept = [[{n: v for n, v in row[k].items() if n != "seconds"} for row in rows] for k in range(len(seeds))]
    return [(kept[k], {n: t.clone() for n, t in training.member(k).state_dict().items()}) for k in range(len(seeds))]


def agree(found, expected):
    for row, other in zip(found[0], expected[0], strict=True):
        assert row == pytest.approx(other, rel=1e-8)
    for name, tensor in expected[1].items():
        # Adam's first steps turn the last bits of a vanishing gradient into steps that are seen.
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-8, atol=1e-5)


OBJECTIVES = {
    "bound": Bound(),
    "three draws": Bound(draws=3),
    "hybrid": Hybrid(draws=2),
    "proposal": VarianceLoss(0.5, draws=2),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("network", NETWORKS)
def test_beside_other_seeds_a_model_is_the_one_trained_alone(network, objective):
    e = experiment(NETWORKS[network], objective=OBJECTIVES[objective])
    together = trained(e, [0, 1, 2])
    for seed, found in enumerate(together):
        agree(found, trained(e, [seed])[0])
    assert together[0][0][-1]["loss"] != pytest.approx(together[1][0][-1]["loss"], rel=1e-3), "seeds make no difference"


@pytest.mark.parametrize("network", NETWORKS)
def test_with_information_as_well(network):
    latent = Joint((Gaussian(2), Category(3, Relaxation())))
    e = experiment(NETWORKS[network], latent=latent, objective=Bound(information=Information()))
    for seed, found in enumerate(trained(e, [0, 1])):
        agree(found, trained(e, [seed])[0])


@pytest.mark.parametrize("network", NETWORKS)
def test_two_threads_at_once_train_what_one_does(network):
    e = experiment(NETWORKS[network])
    alone = [trained(e, [seed], 6)[0] for seed in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            at_once = list(pool.map(lambda seed: trained(e, [seed], 6)[0], (0, 1)))
            for found, (rows, weights) in zip(at_once, alone):
                assert found[0] == rows
                assert all(torch.equal(found[1][name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("network", NETWORKS)
def test_what_the_global_generator_gives_makes_no_difference(network):
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(trained(experiment(NETWORKS[network]), [0])[0][0])
    assert found[0] == found[1]


@pytest.mark.parametrize("network", NETWORKS)
def test_units_are_dropped_in_training_and_in_training_alone(network):
    """The test has to be able to fail: without dropout the numbers are others."""
    some, none = (trained(experiment(type(NETWORKS[network])(16, share)), [0])[0] for share in (0.3, 0.0))
    assert some[0][0]["distortion"] != pytest.approx(none[0][0]["distortion"], rel=1e-3)
    trainee = start(experiment(NETWORKS[network]), [0]).member(0)
    noise = trainee.objective.noise(trainee.vae, SAMPLES.shape, torch.Generator().manual_seed(0))
    assert [name for name in noise if name.startswith("decoder.")]
    trainee.eval()
    noise = trainee.objective.noise(trainee.vae, SAMPLES.shape, torch.Generator().manual_seed(0))
    assert list(noise) == ["posterior"]


def test_each_draw_of_a_sample_drops_units_of_its_own():
    """The decoder sees all first draws first; a sample's share of the noise goes to its own codes."""
    vae = start(experiment(CNC(16, 0.5)), [0]).member(0).vae.train()
    for module in vae.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()  # it would mix the samples
    noise, z = vae.noise(5, 2, torch.Generator().manual_seed(0)), torch.randn(2, 5, 3, dtype=torch.float64)
    (numbers,) = noise.values()
    assert numbers.shape == (5, 2, 16)
    both = vae.likelihood(z.flatten(0, 1), noise).mean.unflatten(0, (2, 5))
    for k in range(2):
        own = {name: n[:, k : k + 1] for name, n in noise.items()}
        torch.testing.assert_close(both[k], vae.likelihood(z[k], own).mean)
    assert not torch.equal(numbers[:, 0], numbers[:, 1])
