"""Experiments: frozen descriptions of runs, and what they build."""

from functools import partial
from typing import Annotated, Any

from pydantic import Field

from vaelib import data as datasets
from vaelib.data import Block, Dataset
from vaelib.divergences import MMD, DualGeometricJS, ForwardKL, GeometricJS, Learned
from vaelib.models import VAE, BernoulliLikelihood, Burgess, Gaussian, Latent, Likelihood, Network, initialise
from vaelib.models.networks import Shape
from vaelib.models.vae import Precision
from vaelib.objectives import Bound, Objective, Site, Trainee
from vaelib.parts import Count, Part
from vaelib.training import Adam, generator


class Experiment(Part):
    """Everything that changes the numbers of a run, and nothing that does not.

    Its key is the hash of its canonical form, in which what is as by default is left out.

    Parameters
    ----------
    data
        A name that :func:`vaelib.data.load` knows.
    network, latent, likelihood, objective, optimiser
        The parts. Where a part's defaults serve, its kind will do: ``network="mlp"``.
    epochs, batch_size
        Passes over the training samples, and samples in a step.
    seed
        Decides the start, the order of the samples and all noise; runs of the same seed share them.
    precision
        Of the networks while they are trained: ``"fp32"``, or ``"bf16"``, which is faster where the processor has
        units for it, and slower where it has not. All else, and all that is measured, is in float32.

    Raises
    ------
    Invalid
        If a field has a value that is not allowed; the sentence names field, value and what is.

    Examples
    --------
    >>> from vaelib import DualGeometricJS, Learned
    >>> e = Experiment(objective=Bound(DualGeometricJS(Learned(0.1))), epochs=5)
    >>> e.key == Experiment(**e.canonical()).key
    True
    """

    data: str = "mnist5k"
    network: Network = Burgess()
    latent: Latent = Gaussian()
    likelihood: Likelihood = BernoulliLikelihood()
    objective: Objective = Bound()
    optimiser: Adam = Adam()
    epochs: Count = 10
    batch_size: Count = 64
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    precision: Precision = "fp32"

    tensors = ("seed",)

    def __init__(self, /, *values: Any, **fields: Any):
        super().__init__(*values, **fields)
        datasets.check(self.data)
        self.objective.check(self.latent)

    def check(self, data: Dataset) -> None:
        """Refuse the data of this experiment where its parts cannot take them: what is seen only once they are loaded.

        Raises
        ------
        Invalid
            The sentence names the field.
        """
        self.network.check(data.shape, len(data.train) % self.batch_size or min(self.batch_size, len(data.train)))
        self.likelihood.check(data)

    def site(self, shape: Shape, blocks: tuple[Block, ...] = ()) -> Site:
        """What the objective is built with."""
        sizes = [block.size for block in blocks]
        return Site(self.network, self.latent, shape, sizes, partial(generator, "cpu", self.seed))

    def build(self, shape: Shape, blocks: tuple[Block, ...] = ()) -> Trainee:
        """The untrained model and objective for samples of a shape, as this experiment's seed starts them."""
        site, latent = self.site(shape, blocks), self.latent.build()
        encoder = self.network.encoder(shape, latent.outputs, site.sizes)
        wide = (shape[0] * self.likelihood.numbers, *shape[1:])
        decoder = self.network.decoder(wide, latent.code, site.sizes)
        vae = VAE(encoder, decoder, latent, self.likelihood.build(blocks), self.precision)
        initialise(vae, site.generator("start"))
        return Trainee(vae, self.objective.build(site))


COMPARED: dict[str, Bound] = {
    "kl": Bound(),
    "beta4": Bound(weight=4.0),
    "mmd": Bound(divergence=MMD(), weight=500.0),
    "forward_kl": Bound(divergence=ForwardKL()),
    "half_js": Bound(divergence=GeometricJS()),
    "half_dual": Bound(divergence=DualGeometricJS()),
    "learned_js": Bound(divergence=GeometricJS(skew=Learned())),
    "learned_dual": Bound(divergence=DualGeometricJS(skew=Learned())),
}
"""The objectives that the papers compare (α-VAE table 1, thesis tables 3 and 4).

The skews are fixed at, or start from, one half; learned ones at the papers' rate of 1e-4.
"""
