"""Experiments: frozen descriptions of runs, and what they build."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from vaelib import training
from vaelib.data import Block
from vaelib.divergences import FORMS
from vaelib.estimators import COMPARING, ESTIMATORS, PROPOSING, REPARAMETERISED
from vaelib.latents import Bernoulli, Categorical, Gaussian, Joint, Point
from vaelib.networks import NETWORKS, Shape, initialise
from vaelib.objectives import DIVERGENCES, ELBO, ENTROPIES, SKEW_UPDATES, Information, Trainee
from vaelib.store import Entry, key_of
from vaelib.vae import LIKELIHOODS, VAE


def _discrete(e: "Experiment", kind: type[Bernoulli | Categorical], size: int) -> Bernoulli | Categorical:
    return kind(size, e.temperature or 1.0, e.final_temperature, bool(e.straight_through))


class LatentKind(NamedTuple):
    """How a latent is built from an experiment's fields, and which of them it has."""

    build: Callable[["Experiment"], nn.Module]
    relaxed: bool = True  # has a temperature
    categories: bool = False  # the number of categories is a field of its own


LATENTS: dict[str, LatentKind] = {
    "gaussian": LatentKind(lambda e: Gaussian(e.latents), relaxed=False),
    "point": LatentKind(lambda e: Point(e.latents), relaxed=False),
    "bernoulli": LatentKind(lambda e: _discrete(e, Bernoulli, e.latents)),
    "categorical": LatentKind(lambda e: _discrete(e, Categorical, e.latents)),
    "categoricals": LatentKind(
        lambda e: Joint(*(_discrete(e, Categorical, e.categories) for _ in range(e.latents))), categories=True
    ),
    "joint": LatentKind(lambda e: Joint(Gaussian(e.latents), _discrete(e, Categorical, e.categories)), categories=True),
}
"""The latents by name."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that changes the numbers of a run, and nothing that does not.

    A field that is None takes no part in the run, nor in its key: a field added in a later version, None by default,
    leaves older keys as they are.

    Parameters
    ----------
    dataset
        A name that :func:`vaelib.data.load` knows.
    network, latent, likelihood, divergence
        One of :data:`~vaelib.networks.NETWORKS`, :data:`LATENTS`, :data:`~vaelib.vae.LIKELIHOODS`,
        :data:`~vaelib.objectives.DIVERGENCES`.
    latents
        Number of latent dimensions, Gaussian or bits; of categories in ``"categorical"``, and of variables in
        ``"categoricals"``.
    categories
        Number of categories of each variable in ``"categoricals"``, and beside the Gaussian in ``"joint"``.
    temperature, final_temperature, straight_through
        Of the relaxation of what is discrete, as :class:`~vaelib.latents.Discrete` takes them; where it is relaxed.
    information, information_weight, information_entropy
        What :class:`~vaelib.objectives.Information` keeps in the code, ``"category"`` or the numbers of Gaussian
        latents such as ``"3,7"``, its λ, and whose entropy; None: nothing.
    weight, capacity, corruption, skew, skew_update, draws, estimator, proposal
        As :class:`~vaelib.objectives.ELBO` takes them; those of the skew only with a divergence that has one.
    epochs, batch_size, learning_rate, skew_learning_rate, decay, weight_decay
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
    categories: int | None = None
    temperature: float | None = None
    final_temperature: float | None = None
    straight_through: bool | None = None
    likelihood: str = "bernoulli"
    divergence: str = "kl"
    weight: float = 1.0
    capacity: float | None = None
    information: str | None = None
    information_weight: float | None = None
    information_entropy: str | None = None
    corruption: float | None = None
    skew: float | None = None
    skew_update: str | None = None
    draws: int | None = None
    estimator: str | None = None
    proposal: float | None = None
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-4
    skew_learning_rate: float | None = None
    decay: float | None = None
    weight_decay: float | None = None
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
        # What was the only way before there was another has no place in the key.
        if self.estimator == "pathwise":
            object.__setattr__(self, "estimator", None)
        if self.draws == 1:
            object.__setattr__(self, "draws", None)
        kind = LATENTS[self.latent]
        relaxed = kind.relaxed and (self.estimator or "pathwise") in REPARAMETERISED
        if relaxed:
            self._default(temperature=1.0, straight_through=False)
        if kind.categories:
            self._default(categories=10)
        if self.information is not None:
            self._default(information_weight=1.0, information_entropy="prior")
            allowed = f"one of {', '.join(ENTROPIES)}"
            self._require("information_entropy", self.information_entropy in ENTROPIES, allowed)
            self._require("information", self._informed() is not None, "'category' or numbers of Gaussian latents")
        if self.skew_update == "gradient":
            self._default(skew_learning_rate=self.learning_rate)
        for name, low, high in (
            ("latents", 1, math.inf),
            ("categories", 2, math.inf),
            ("temperature", 1e-3, math.inf),
            ("final_temperature", 1e-3, math.inf),
            ("weight", 0, math.inf),
            ("capacity", 0, math.inf),
            ("information_weight", 0, math.inf),
            ("corruption", 0, math.inf),
            ("skew", 0, 1),
            ("draws", 1, math.inf),
            ("proposal", 0, 1),
            ("epochs", 1, math.inf),
            ("batch_size", 1, math.inf),
            ("learning_rate", 0, math.inf),
            ("skew_learning_rate", 0, math.inf),
            ("decay", 0, math.inf),
            ("weight_decay", 0, math.inf),
            ("landscape", 2, math.inf),
            ("seed", 0, math.inf),
        ):
            self._number(name, low, high)
        for name in ("skew", "skew_update"):
            without = f"left out with the divergence {self.divergence!r}, which has no skew"
            self._require(name, getattr(self, name) is None or self.divergence in FORMS, without)
        for name in ("temperature", "final_temperature", "straight_through"):
            without = f"left out with the latent {self.latent!r} and this estimator, where nothing is relaxed"
            self._require(name, getattr(self, name) is None or relaxed, without)
        only = f"given with {' or '.join(name for name, kind in LATENTS.items() if kind.categories)} only"
        self._require("categories", (self.categories is not None) == kind.categories, only)
        self._check_estimator()
        for name in ("information_weight", "information_entropy"):
            unused = "left out unless information is given"
            self._require(name, self.information is not None or getattr(self, name) is None, unused)
        self._require("straight_through", self.straight_through in (None, True, False), "true or false")
        fixed = "left out unless skew_update is 'gradient'"
        self._require("skew_learning_rate", self.skew_learning_rate is None or self.skew_update == "gradient", fixed)

    def _check_estimator(self) -> None:
        names = f"pathwise or one of {', '.join(ESTIMATORS)}"
        self._require("estimator", self.estimator is None or self.estimator in ESTIMATORS, names)
        if self.estimator is not None:
            for name, plain in (("divergence", "kl"), ("weight", 1.0), ("capacity", None), ("information", None)):
                value = "left out" if plain is None else repr(plain)
                allowed = f"{value} with the estimator {self.estimator!r}, which is of the evidence lower bound"
                self._require(name, getattr(self, name) == plain, allowed)
        closed = "'gaussian' with the estimator 'pathwise_sampled': what is relaxed has no density under q"
        self._require("latent", self.estimator != "pathwise_sampled" or self.latent == "gaussian", closed)
        noise = "'pathwise' with the latent 'point', which has no noise"
        self._require("estimator", self.estimator is None or self.latent != "point", noise)
        several = f"2 or more with the estimator {self.estimator!r}, which compares draws"
        self._require("draws", self.estimator not in COMPARING or self.draws is not None, several)
        taken = f"left out unless the estimator is {' or '.join(PROPOSING)}"
        self._require("proposal", self.proposal is None or self.estimator in PROPOSING, taken)

    def _informed(self) -> list[int] | None:
        """The places in the code that information is kept about; None if the field does not name any."""
        if self.information == "category":
            gaussians = 0 if self.latent == "categorical" else self.latents
            count = {"categorical": self.latents, "joint": self.categories or 0}.get(self.latent, 0)
            return list(range(gaussians, gaussians + count)) or None
        numbers = [int(n) for n in str(self.information).split(",") if n.strip().isdecimal()]
        distinct = len(numbers) == len(set(numbers)) == str(self.information).count(",") + 1
        return numbers if distinct and self.latent in ("gaussian", "joint") and max(numbers) < self.latents else None

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
        latent = LATENTS[self.latent].build(self)
        with torch.random.fork_rng(devices=[]):  # constructors draw weights, which are drawn again below
            sizes = [block.size for block in blocks]
            encoder, decoder = NETWORKS[self.network](shape, latent.outputs, latent.code, sizes)
        likelihood = partial(LIKELIHOODS[self.likelihood], blocks=[(b.size, b.likelihood) for b in blocks])
        vae = VAE(encoder, decoder, latent, likelihood)
        initialise(vae, training.generator("cpu", self.seed, "start"))
        information = self._information(shape, sizes)
        skew = {} if self.skew is None else {"skew": self.skew, "skew_update": self.skew_update}
        objective = ELBO(
            self.divergence,
            weight=self.weight,
            capacity=self.capacity or 0.0,
            corruption=self.corruption,
            information=information,
            draws=self.draws or 1,
            estimator=self.estimator or "pathwise",
            proposal=self.proposal,
            **skew,
        )
        return Trainee(vae, objective)

    def _information(self, shape: Shape, sizes: Sequence[int]) -> Information | None:
        """The regulariser with its own network, a body like the encoder's, whose start leaves the VAE's as it is."""
        if self.information is None:
            return None
        places, kind = self._informed(), "category" if self.information == "category" else "gaussian"
        outputs = len(places) * (1 if kind == "category" else 2)
        with torch.random.fork_rng(devices=[]):
            body, _ = NETWORKS[self.network](shape, outputs, 1, sizes)
        initialise(body, training.generator("cpu", self.seed, "information"))
        return Information(body, kind, places, self.information_weight, self.information_entropy)

    def structure(self) -> tuple[Any, ...]:
        """What has to be equal for experiments to be trained in one stack: all but what is a tensor's value."""
        free = {
            "seed",
            "skew",
            "weight",
            "capacity",
            "corruption",
            "information_weight",
            "temperature",
            "final_temperature",
        }
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
