"""One new strategy of each family, written here through the public contracts: nothing in the package is touched.

docs/extending.md says the same in words.
"""

import math

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Laplace

from vaelib import (
    MLP,
    Adam,
    Bound,
    Divergence,
    DivergenceModule,
    Estimator,
    Experiment,
    GeometricJS,
    Latent,
    LatentModule,
    LearnedRegulariserModule,
    Network,
    Objective,
    ObjectiveModule,
    Observer,
    Regulariser,
    Study,
    reverse_kl,
    trained,
)
from vaelib.divergences.families import Geometry, register_geometry
from vaelib.measures.base import posterior
from vaelib.models.layers import initialise
from vaelib.models.vae import distortion_of
from vaelib.objectives import outputs_of
from vaelib.parts import Count, NotNegative, Positive, Share
from vaelib.runs import execution, schedule


class Jeffreys(Divergence):
    """a KL(q‖p) + (1 - a) KL(p‖q)."""

    kind = "jeffreys"

    share: Share = 0.5

    tensors = ("share",)

    def build(self):
        return JeffreysModule(self)


class JeffreysModule(DivergenceModule):
    def forward(self, q, p, z, latent, noise, progress):
        return self.share * reverse_kl(q, p) + (1 - self.share) * reverse_kl(p, q)


class Heavy(Latent):
    """Laplace posteriors, with a Laplace prior of a scale that a sweep may vary."""

    kind = "laplace"

    size: Count = 10
    scale: Positive = 1.0

    tensors = ("scale",)

    @property
    def width(self):
        return self.size

    def build(self):
        return HeavyModule(self)


class HeavyModule(LatentModule):
    def __init__(self, part):
        super().__init__(part)
        self.outputs, self.code = 2 * part.size, part.size

    def posterior(self, outputs):
        mean, log_scale = outputs.chunk(2, -1)
        return Independent(Laplace(mean, log_scale.exp(), validate_args=False), 1)

    def prior(self):
        zero = self.scale.new_zeros(self.code)
        return Independent(Laplace(zero, zero + self.scale, validate_args=False), 1)

    def noise(self, n, generator):
        uniform = torch.rand(n, self.code, generator=generator, device=generator.device) - 0.5
        return -uniform.sign() * (1 - 2 * uniform.abs()).clamp_min(1e-7).log()

    def sample(self, distribution, noise, progress=1.0):
        return distribution.base_dist.loc + distribution.base_dist.scale * noise


class Floored(Objective):
    """The bound whose rate, of all latents together, costs nothing below so many nats."""

    kind = "floored"

    free: NotNegative = 2.0

    tensors = ("corruption", "free")

    def build(self, site):
        return FlooredModule(self)


class FlooredModule(ObjectiveModule):
    def forward(self, vae, x, noise, progress, phase="model"):
        q = vae.posterior(self.seen(x, noise), noise)
        z = vae.latent.sample(q, noise["posterior"].transpose(0, 1), progress).flatten(0, 1)
        distortion = distortion_of(vae.likelihood(z, noise), x, self.draws).mean(0)
        rate = reverse_kl(q, vae.prior)
        return {"loss": distortion + rate.clamp_min(self.free), "distortion": distortion, "rate": rate}

    def report(self):
        return {"free": self.free}


class Centred(Regulariser):
    """The squared mean of the batch's codes as a network predicts it from each code: of no use, but with two phases."""

    kind = "centred"

    def build(self, site):
        body = nn.utils.skip_init(nn.Linear, site.latent.width, 1)
        initialise(body, site.generator(self.kind))
        return CentredModule(self, body)


class CentredModule(LearnedRegulariserModule):
    def __init__(self, part, body):
        super().__init__(part)
        self.body = body

    def noise(self, latent, n, draws, generator):
        return {"centred": torch.randn(n, latent.code, generator=generator, device=generator.device)}

    def learn(self, codes):
        target = codes.z.mean((0, 1)).square().sum()
        jittered = codes.z[0] + 0.01 * codes.noise["centred"]
        return (outputs_of(self.body, jittered, frozen=False)[:, 0] - target).square()

    def value(self, codes):
        return outputs_of(self.body, codes.z[0], frozen=True)[:, 0]


class Best(Estimator):
    """The best draw of each sample alone."""

    kind = "best"

    differentiated = True

    def loss(self, own, proposed):
        return -own.log_weight.max(0).values


class Residual(Network):
    """A hidden layer that is added to a linear map."""

    kind = "residual"

    units: Count = 16

    def encoder(self, shape, outputs, sizes=()):
        return nn.Sequential(nn.Flatten(), Sum(math.prod(shape), self.units, outputs))

    def decoder(self, shape, code, sizes=()):
        return nn.Sequential(Sum(code, self.units, math.prod(shape)), nn.Unflatten(1, tuple(shape)))


class Sum(nn.Module):
    def __init__(self, inputs, units, outputs):
        super().__init__()
        self.straight = nn.utils.skip_init(nn.Linear, inputs, outputs)
        self.bent = nn.Sequential(
            nn.utils.skip_init(nn.Linear, inputs, units), nn.SiLU(), nn.utils.skip_init(nn.Linear, units, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.straight(x) + self.bent(x)


class Spread(Observer):
    """The standard deviation over the test samples of each posterior mean."""

    kind = "spread"

    def observe(self, run):
        spread = posterior(run.vae, run.data.test).mean.std(0).cpu()
        return pd.DataFrame({"latent": range(len(spread)), "spread": spread.numpy()})


BASE = Experiment(network=MLP(16), optimiser=Adam(1e-3), epochs=2, batch_size=32)
NEW = {
    "divergence": lambda data: [BASE.replace(data=data, objective=Bound(Jeffreys(share))) for share in (0.2, 0.8)],
    "latent": lambda data: [BASE.replace(data=data, latent=Heavy(3, scale)) for scale in (1.0, 2.0)],
    "objective": lambda data: [BASE.replace(data=data, objective=Floored(free)) for free in (0.0, 5.0)],
    "regulariser": lambda data: [
        BASE.replace(data=data, objective=Bound(regularisers=(Centred(weight=weight),))) for weight in (0.1, 0.2)
    ],
    "estimator": lambda data: [BASE.replace(data=data, objective=Best(draws=draws)) for draws in (3, 3)],
    "network": lambda data: [BASE.replace(data=data, network=Residual(), seed=seed) for seed in (0, 1)],
}


@pytest.mark.parametrize("family", NEW)
def test_a_new_strategy_trains_is_stored_and_found_again(family, tiny, store, capsys):
    experiments = NEW[family](tiny)
    study = Study(dict(enumerate(experiments)), observe=[Spread()])
    results = study.run(store=store, workers=1)
    for k, e in enumerate(experiments):
        history = results[k].history
        assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[1]
        assert Experiment(**results[k].experiment) == e
        assert trained(results[k]).vae.latent.code == e.latent.width
    spread = results.observed(Spread())
    assert spread["spread"].gt(0).all()
    assert len(spread) == sum(e.latent.width for e in experiments)
    study.run(store=store)
    assert "none to run" in capsys.readouterr().out


@pytest.mark.parametrize("family", [name for name in NEW if name != "estimator"])
def test_a_new_strategy_trains_in_a_stack(family, tiny, store, tmp_path):
    study = Study(dict(enumerate(NEW[family](tiny))))
    alone = study.run(store=store, workers=1)
    (group,) = schedule._stacks([execution.Job(e) for e in study.values()], store)
    from vaelib import data

    options = execution.Options(tmp_path / "stacked", {tiny: data.fingerprint(tiny)}, "cpu")
    execution.do(group, options)
    stacked = study.run(store=type(store)(tmp_path / "stacked"))
    assert stacked[0].provenance["stack"] == 2
    columns = ["train_loss", "test_rate"]
    pd.testing.assert_frame_equal(stacked.history[columns], alone.history[columns], rtol=1e-3)


def test_what_the_new_objective_reports_is_in_the_history(tiny, store):
    results = Study({0: BASE.replace(data=tiny, objective=Floored(5.0), epochs=1)}).run(store=store)
    assert results.history["free"].tolist() == [5.0, 5.0]


def test_a_new_family_of_distributions_has_every_form_once_its_geometry_is_registered(tiny, store):
    e = BASE.replace(data=tiny, latent=Heavy(3))
    with pytest.raises(ValueError, match=r"objective.divergence: 'geometric_js' is not allowed.*Laplace"):
        e.replace(objective=Bound(GeometricJS(0.3)))

    @register_geometry(Laplace)
    class LaplaceGeometry(Geometry):
        """Not closed under geometric means unless the centres agree: good enough to be seen here."""

        parameters = ("loc", "scale")

        def mean(self, q, p, skew):
            rate = skew / q.scale + (1 - skew) / p.scale
            mean = Laplace(q.loc, 1 / rate, validate_args=False)
            return mean, skew * q.scale.log() + (1 - skew) * p.scale.log() - rate.log()

    assert e.replace(objective=Bound(GeometricJS(0.3))).objective.divergence.skew.start == 0.3
