import pytest
import torch

from vaelib.divergences import DualGeometricJS, Fixed, Learned, Newton
from vaelib.objectives import Bound
from vaelib.runs import Experiment
from vaelib.training import Adam, NonFiniteLoss, Training, derive

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = (torch.rand(100, 1, 32, 32, generator=GENERATOR) * 255).to(torch.uint8)


def start(*experiments, images=IMAGES, epochs=3):
    first = experiments[0]
    return Training(
        [e.build((1, 32, 32)) for e in experiments],
        [e.seed for e in experiments],
        images,
        batch_size=first.batch_size,
        epochs=epochs,
        optimiser=first.optimiser,
    )


def weights(training, k=0):
    return {name: t.clone() for name, t in training.member(k).state_dict().items()}


def without_seconds(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def learned(skew=None, weight=1.0, rate=1e-3, **changes):
    """The skew's rate is by default the networks'."""
    objective = Bound(DualGeometricJS(Learned(0.2, rate) if skew is None else skew), weight=weight)
    settings = {"objective": objective, "optimiser": Adam(rate), "network": "mlp", "batch_size": 16}
    return Experiment(**{**settings, **changes})


UPDATES = {"gradient": lambda start: Learned(start, 1e-3), "newton": Newton, "fixed": Fixed}


def test_a_loss_falls():
    training = start(learned(network="burgess"), epochs=8)
    losses = [training.run_epoch()[0]["loss"] for _ in range(8)]
    assert losses[-1] < losses[0] - 5


def test_one_epoch_is_what_plain_autograd_and_adam_give():
    """The same start, order and noise, in a loop written out by hand."""
    e = learned(Learned(0.2, 0.01))
    training = start(e)
    reference = e.build((1, 32, 32))
    row = training.run_epoch()[0]

    skew = reference.objective.divergence.skew.value
    adam = torch.optim.Adam([{"params": reference.vae.parameters()}, {"params": [skew], "lr": 0.01}], lr=1e-3)
    g = torch.Generator().manual_seed(derive(e.seed, "epoch", 0))
    order = torch.randperm(100, generator=g)
    noise = torch.randn(100, 10, generator=g)
    losses = []
    for first in range(0, 100, 16):
        batch = IMAGES[order[first : first + 16]].float() / 255
        terms = reference(batch, {"posterior": noise[first : first + 16, None]}, torch.tensor(0.0))
        adam.zero_grad()
        terms["loss"].mean().backward()
        adam.step()
        losses += terms["loss"].tolist()
    assert row["loss"] == pytest.approx(sum(losses) / 100, rel=1e-5)
    assert row["skew"] == pytest.approx(reference.objective.divergence.skew.value.item(), abs=1e-6)
    for name, tensor in reference.state_dict().items():
        torch.testing.assert_close(weights(training)[name], tensor, rtol=1e-3, atol=1e-5)


def test_the_same_seed_gives_the_same_bits_whatever_ran_before():
    a = start(learned())
    rows = without_seconds(a.run_epoch() + a.run_epoch())
    torch.manual_seed(99)
    torch.rand(1000)
    b = start(learned())
    assert without_seconds(b.run_epoch() + b.run_epoch()) == rows
    for name, tensor in weights(a).items():
        assert torch.equal(weights(b)[name], tensor), name
    other = start(learned(seed=1))
    assert without_seconds(other.run_epoch()) != rows[:1]


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    training = start(learned())
    training.run_epoch()
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("update", UPDATES)
def test_a_resumed_training_gives_the_same_bits(update):
    e = learned(UPDATES[update](0.2))
    whole = start(e)
    rows = without_seconds([whole.run_epoch()[0] for _ in range(3)])
    first = start(e)
    first.run_epoch()
    second = start(e)
    second.resume([first.state(0)], first.epoch)
    assert without_seconds([second.run_epoch()[0] for _ in range(2)]) == rows[1:]
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(second)[name], tensor), name


@pytest.mark.parametrize("network", ["mlp", "burgess"])
@pytest.mark.parametrize("update", UPDATES)
def test_a_stack_is_its_members_trained_alone(network, update):
    starting = (lambda start: Learned(start, 1e-4)) if update == "gradient" else UPDATES[update]
    members = [learned(starting(0.2 + 0.3 * k), weight=1.0 + k, rate=1e-4, network=network, seed=k) for k in range(3)]
    stack = start(*members)
    together = [stack.run_epoch() for _ in range(2)]
    for k, e in enumerate(members):
        alone = start(e)
        for epoch in range(2):
            found, expected = together[epoch][k], alone.run_epoch()[0]
            for name in expected.keys() - {"seconds"}:
                assert found[name] == pytest.approx(expected[name], rel=3e-3), (name, k, epoch)
        for name, tensor in weights(alone).items():
            # In norm: Adam's first steps turn the last bits of a vanishing gradient into whole steps.
            assert (weights(stack, k)[name] - tensor).norm() <= 1e-2 * tensor.norm() + 1e-5, name


def test_a_stack_resumes_from_what_its_members_saved():
    members = [learned(seed=k) for k in range(2)]
    whole = start(*members)
    whole.run_epoch()
    states = [whole.state(k) for k in range(2)]
    rows = without_seconds(whole.run_epoch())
    again = start(*members)
    again.resume(states, 1)
    assert without_seconds(again.run_epoch()) == rows


@pytest.mark.parametrize("count", [1, 3])
def test_a_loss_that_is_not_finite_stops_with_its_place(count):
    images = IMAGES.float() / 255
    images[40] = float("nan")
    training = start(*[learned(seed=k) for k in range(count)], images=images)
    with pytest.raises(NonFiniteLoss, match=r"is nan in epoch 1, step \d \(seed \d\): ") as caught:
        training.run_epoch()
    assert str(caught.value).split()[0] in ("distortion", "rate", "divergence")


def test_a_short_last_batch_counts_by_its_samples():
    e = learned(rate=0.0)
    halves = start(e.replace(batch_size=64)).run_epoch()[0]
    whole = start(e.replace(batch_size=100)).run_epoch()[0]
    assert halves["distortion"] == pytest.approx(whole["distortion"], rel=1e-5)


def test_derived_seeds_differ():
    seeds = {derive(s, label, e) for s in range(20) for label in ("epoch", "test") for e in range(20)}
    assert len(seeds) == 800
    assert all(0 <= s < 2**63 for s in seeds)


def test_the_rates_decay_with_the_steps():
    """As plain Adam with every step's rate set by hand."""
    images, e = IMAGES[:48], learned(Learned(0.2, 0.01), optimiser=Adam(1e-3, decay=0.5))
    training = start(e, images=images, epochs=2)
    reference, batches = e.build((1, 32, 32)), []
    for epoch in range(2):
        g = torch.Generator().manual_seed(derive(0, "epoch", epoch))
        order, noise = torch.randperm(48, generator=g), torch.randn(48, 10, generator=g)
        batches += [(order[i : i + 16], noise[i : i + 16, None], epoch / 2 + i / 96) for i in (0, 16, 32)]
        training.run_epoch()
    groups = [{"params": reference.vae.parameters()}, {"params": [reference.objective.divergence.skew.value]}]
    adam = torch.optim.Adam(groups)
    for step, (index, noise, progress) in enumerate(batches):
        for group, rate in zip(adam.param_groups, (1e-3, 1e-2)):
            group["lr"] = rate / (1 + 0.5 * step)
        adam.zero_grad()
        reference(images[index].float() / 255, {"posterior": noise}, torch.tensor(progress))["loss"].mean().backward()
        adam.step()
    for name, tensor in reference.state_dict().items():
        torch.testing.assert_close(weights(training)[name], tensor, rtol=1e-3, atol=1e-5)


def groups(e, *, count=1):
    """The optimiser's groups of a training of `count` members: rate, weight decay, and the names of the parameters."""
    training = start(*[e.replace(seed=k) for k in range(count)])
    names = {id(p): name for name, p in training.trainee.named_parameters()}
    found = [(g["lr"], g["weight_decay"], {names[id(p)] for p in g["params"]}) for g in training.optimiser.param_groups]
    assert sum(len(members) for *_, members in found) == len(names), "a parameter is in two groups, or in none"
    return found


@pytest.mark.parametrize("count", [1, 2])
def test_a_learned_skew_has_its_own_rate_and_no_weight_decay(count):
    e = learned(Learned(0.2, 0.03), optimiser=Adam(1e-3, weight_decay=0.5))
    networks, skew = groups(e, count=count)
    assert networks[:2] == (1e-3, 0.5)
    assert all(name.startswith("vae.") for name in networks[2])
    assert skew == (0.03, 0, {"objective.divergence.skew.value"})


@pytest.mark.parametrize("skew", [Fixed(0.2), Newton(0.2)])
def test_without_a_learned_skew_there_is_one_group(skew):
    ((rate, weight_decay, members),) = groups(learned(skew, optimiser=Adam(1e-2, weight_decay=0.1)))
    assert (rate, weight_decay) == (1e-2, 0.1)
    assert "objective.divergence.skew.value" not in members


def test_a_skew_at_rate_zero_stays_and_one_at_the_networks_rate_moves():
    rows = {rate: start(learned(Learned(0.2, rate))).run_epoch()[0]["skew"] for rate in (0.0, 1e-3)}
    assert rows[0.0] == pytest.approx(0.2)
    # Adam's first steps are about as long as the rate: at most seven of them.
    assert 1e-3 < abs(rows[1e-3] - 0.2) <= 7.5e-3


def test_weight_decay_is_an_l2_penalty_on_the_networks_alone():
    """As Adam on the loss plus half the weighted squared norm, in a loop written out by hand."""
    e = learned(Learned(0.2, 0.01), optimiser=Adam(1e-3, weight_decay=0.3))
    training, reference = start(e, images=IMAGES[:16]), e.build((1, 32, 32))
    training.run_epoch()
    g = torch.Generator().manual_seed(derive(0, "epoch", 0))
    order, noise = torch.randperm(16, generator=g), torch.randn(16, 10, generator=g)
    terms = reference(IMAGES[order].float() / 255, {"posterior": noise[:, None]}, torch.tensor(0.0))
    penalty = sum(p.square().sum() for p in reference.vae.parameters())
    (terms["loss"].mean() + 0.3 / 2 * penalty).backward()
    skew = reference.objective.divergence.skew.value
    torch.optim.Adam([{"params": reference.vae.parameters()}, {"params": [skew], "lr": 0.01}], lr=1e-3).step()
    for name, tensor in reference.state_dict().items():
        torch.testing.assert_close(weights(training)[name], tensor, rtol=1e-4, atol=1e-5)
