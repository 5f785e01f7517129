"""Experiments: frozen descriptions of runs, and what they build."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from vaelib import training
from vaelib.datasets import Block
from vaelib.divergences import FORMS
from vaelib.latents import LATENTS
from vaelib.networks import NETWORKS, Shape, initialise
from vaelib.objectives import DIVERGENCES, ELBO, SKEW_UPDATES, Trainee
from vaelib.store import Entry, key_of
from vaelib.vae import LIKELIHOODS, VAE


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that changes the numbers of a run, and nothing that does not.

    A field that is None takes no part in the run, nor in its key: a field added in a later version, None by default,
    leaves older keys as they are.

    Parameters
    ----------
    dataset
        A name that :func:`vaelib.datasets.load` knows.
    network, latent, likelihood, divergence
        One of :data:`~vaelib.networks.NETWORKS`, :data:`~vaelib.latents.LATENTS`,
        :data:`~vaelib.vae.LIKELIHOODS`, :data:`~vaelib.objectives.DIVERGENCES`.
    latents
        Number of latent dimensions.
    weight, capacity, corruption, skew, skew_update
        As :class:`~vaelib.objectives.ELBO` takes them; the last two only with a divergence that has a skew.
    epochs, batch_size, learning_rate, skew_learning_rate, decay
        As :class:`~vaelib.training.Training` takes them; a learned skew's rate is by default the networks'.
    landscape
        With how many grid points the divergence against the skew is recorded after each epoch; None: not at all.
    seed
        Decides the start, the order of the samples and all noise; runs of the same seed share them.

    Raises
    ------
    ValueError
        If a field has a value that is not allowed; the sentence names field, value and what is.
    """

    dataset: str = "mnist5k"
    network: str = "burgess"
    latent: str = "gaussian"
    latents: int = 10
    likelihood: str = "bernoulli"
    divergence: str = "kl"
    weight: float = 1.0
    capacity: float | None = None
    corruption: float | None = None
    skew: float | None = None
    skew_update: str | None = None
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-4
    skew_learning_rate: float | None = None
    decay: float | None = None
    landscape: int | None = None
    seed: int = 0

    def __post_init__(self):
        for name, choices in (
            ("network", NETWORKS),
            ("latent", LATENTS),
            ("likelihood", LIKELIHOODS),
            ("divergence", DIVERGENCES),
        ):
            self._require(name, getattr(self, name) in choices, f"one of {', '.join(choices)}")
        if self.divergence in FORMS:
            self._default(skew=0.5, skew_update="fixed")
            self._require("skew_update", self.skew_update in SKEW_UPDATES, f"one of {', '.join(SKEW_UPDATES)}")
        if self.skew_update == "gradient":
            self._default(skew_learning_rate=self.learning_rate)
        for name, low, high in (
            ("latents", 1, math.inf),
            ("weight", 0, math.inf),
            ("capacity", 0, math.inf),
            ("corruption", 0, math.inf),
            ("skew", 0, 1),
            ("epochs", 1, math.inf),
            ("batch_size", 1, math.inf),
            ("learning_rate", 0, math.inf),
            ("skew_learning_rate", 0, math.inf),
            ("decay", 0, math.inf),
            ("landscape", 2, math.inf),
            ("seed", 0, math.inf),
        ):
            self._number(name, low, high)
        for name in ("skew", "skew_update"):
            without = f"left out with the divergence {self.divergence!r}, which has no skew"
            self._require(name, getattr(self, name) is None or self.divergence in FORMS, without)
        fixed = "left out unless skew_update is 'gradient'"
        self._require("skew_learning_rate", self.skew_learning_rate is None or self.skew_update == "gradient", fixed)

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ValueError(f"{name}: {getattr(self, name)!r} is not allowed; it has to be {allowed}")

    def _default(self, **values: Any) -> None:
        """Fill in fields that are None; the dataclass is frozen for everybody else."""
        for name, value in values.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    def _number(self, name: str, low: float, high: float) -> None:
        value, kind = getattr(self, name), self.__dataclass_fields__[name].type
        if value is None and kind in (float | None, int | None):
            return
        whole = kind in (int, int | None)
        right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        bounds = f"at least {low}" if high == math.inf else f"from {low} to {high}"
        self._require(
            name, right and math.isfinite(value) and low <= value <= high, f"a {'whole ' * whole}number {bounds}"
        )
        object.__setattr__(self, name, int(value) if whole else float(value))

    def canonical(self) -> dict[str, Any]:
        """The fields that take part, as plain values: what the key is the hash of."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def key(self) -> str:
        """The run's name in the store."""
        return key_of(self.canonical())

    def build(self, shape: Shape, blocks: Sequence[Block] = ()) -> Trainee:
        """The untrained model and objective for samples of a shape, as this experiment's seed starts them."""
        latent = LATENTS[self.latent](self.latents)
        with torch.random.fork_rng(devices=[]):  # constructors draw weights, which are drawn again below
            sizes = [block.size for block in blocks]
            encoder, decoder = NETWORKS[self.network](shape, latent.outputs, latent.code, sizes)
        likelihood = partial(LIKELIHOODS[self.likelihood], blocks=[(b.size, b.likelihood) for b in blocks])
        vae = VAE(encoder, decoder, latent, likelihood)
        initialise(vae, training.generator("cpu", self.seed, "start"))
        skew = {} if self.skew is None else {"skew": self.skew, "skew_update": self.skew_update}
        objective = ELBO(
            self.divergence, weight=self.weight, capacity=self.capacity or 0.0, corruption=self.corruption, **skew
        )
        return Trainee(vae, objective)

    def structure(self) -> tuple[Any, ...]:
        """What has to be equal for experiments to be trained in one stack: all but what is a tensor's value."""
        free = {"seed", "skew", "weight", "capacity", "corruption"}
        return tuple((name, value is None if name in free else value) for name, value in asdict(self).items())


METHODS: dict[str, dict[str, Any]] = {
    "kl": {"divergence": "kl"},
    "beta4": {"divergence": "kl", "weight": 4.0},
    "mmd": {"divergence": "mmd", "weight": 500.0},
    "forward_kl": {"divergence": "forward_kl"},
    "half_js": {"divergence": "geometric_js"},
    "half_dual": {"divergence": "dual_geometric_js"},
    "learned_js": {"divergence": "geometric_js", "skew_update": "gradient"},
    "learned_dual": {"divergence": "dual_geometric_js", "skew_update": "gradient"},
}
"""What the papers compare (α-VAE table 1, thesis tables 3 and 4): fields of an :class:`Experiment`.

The skews are fixed at, or start from, one half.
"""


def description(entry: Entry) -> Experiment:
    """The experiment of a stored run."""
    return Experiment(**entry.experiment)


def trained(entry: Entry) -> Trainee:
    """The trained model and objective of a stored run, ready to be evaluated, on the accelerator where there is one.

    Raises
    ------
    ValueError
        If the run was stored without its weights.
    """
    if not entry.has_weights:
        raise ValueError(f"weights: run {entry.key[:12]} was stored without; sweep it with weights=True")
    blocks = [Block(*block) for block in entry.provenance.get("blocks", [])]
    trainee = description(entry).build(tuple(entry.provenance["shape"]), blocks)
    trainee.load_state_dict(entry.weights())
    return trainee.to("cuda" if torch.cuda.is_available() else "cpu").eval()
