"""What the papers state and what is recorded of it: the models, and the ledger's book in ``claims.yaml``.

The JSON Schema of both is in ``claims.schema.json`` beside this module, for readers in other languages.
"""

import difflib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict

from vaelib.errors import Invalid
from vaelib.runs.experiment import Experiment

STAND_INS = {
    "mnist5k": ("mnist", "the embedded 5,000 digits"),
    "sprites": ("dsprites", "re-rendered sprites"),
    "gse7390": ("metabric", "198 other patients (GSE7390)"),
    "simulated_cohort": ("metabric", "simulated patients"),
    "cifar10-jpeg": ("cifar10", "JPEG copies of the images"),
}
"""By a data set's name, without its size: the papers' data set that it stands for, and what it is."""

DATA = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "dsprites": "dSprites",
    "chairs": "rendered chairs",
    "celeba": "CelebA",
    "cifar10": "CIFAR-10",
    "svhn": "SVHN",
    "metabric": "METABRIC",
    "mnist5k": "5,000 MNIST digits",
    "sprites": "re-rendered sprites",
    "cifar10-jpeg": "JPEG copies of CIFAR-10",
    "gse7390": "GSE7390",
    "simulated_cohort": "simulated patients",
    "mixture": "a mixture of Gaussians",
}
"""What data sets are called on boards and in captions; the papers' own come first."""

PAPERS = {
    "thesis": "Thesis: learning skew",
    "avae": "α-VAE",
    "varloss": "Variance loss",
    "mivae": "MI-VAE",
    "fgvae": "Representation learning",
    "theory": "Theory",
    "vaelib": "The companion's own",
    "errata": "Errata",
}
"""By short name, what papers are called on boards and in reports."""


class Frozen(BaseModel):
    """A model that does not change, is strict about names, and holds finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Setting(Frozen):
    """How something was measured; what is left out is not known.

    Attributes
    ----------
    data
        The data set; several where a paper states the same of each.
    network, likelihood
        Their kinds.
    epochs, batch_size, learning_rate, latents
        As in :class:`vaelib.Experiment`.
    """

    data: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    network: str | None = None
    likelihood: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    latents: int | None = None

    @classmethod
    def of(cls, experiment: Experiment, **others: Any) -> Self:
        """The setting of an experiment, but for what is given.

        Examples
        --------
        >>> Setting.of(Experiment(network="mlp", epochs=3), data="metabric").epochs
        3
        """
        kind, *options = [
            "-".join(map(str, v)) if isinstance(v, list) else str(v if name == "kind" else name)
            for name, v in experiment.network.canonical().items()
        ]
        plain = experiment.latent.kind in ("gaussian", "point")
        found: dict[str, Any] = {
            "data": experiment.data,
            "network": " ".join([kind, *options]),
            "likelihood": experiment.likelihood.kind,
            "epochs": experiment.epochs,
            "batch_size": experiment.batch_size,
            "learning_rate": experiment.optimiser.rate,
            "latents": experiment.latent.width if plain else None,
        }
        return cls(**found | others)


class Claim(Frozen):
    """One statement of a paper.

    Attributes
    ----------
    id
        Paper, table or statement, data set and method: ``avae/t3/mnist/js``.
    kind
        A printed value, a statement that becomes margins, a fact of pure theory, or an erratum.
    where
        Its place in the paper: section, table or figure, and the sentence in our words.
    says
        The statement, or what the value is of.
    value, sd, n
        The number that the paper prints, with its spread and number of seeds where it prints them.
    setting
        The paper's; what it does not say is left out.
    tolerance
        How far from the value is still the same; by default 5 % of it.
    neutral
        The value that speaks for no side: 1 for ratios, the majority's share for accuracies.
    unit, worth
        Of a statement's margins, and the smallest that is worth having.
    because
        Why this tolerance, or this margin.
    parts
        The names of the margins of a compound statement: each has to hold.
    requires
        The preconditions of :data:`vaelib.companion.verdicts.PRECONDITIONS` that have to be shown.
    proved
        Of a fact: the notebook has the proof.
    vacuous
        Why the statement cannot fail, where it cannot.
    needs
        The notebook and the study that measure it: ``02_alpha_convergence.learning``.
    missing
        Why it is not measured, where it is not.
    note
        A remark.
    """

    id: str
    kind: Literal["value", "statement", "fact", "erratum"]
    where: str = ""
    says: str
    value: float | None = None
    sd: float | None = None
    n: int | None = None
    setting: Setting = Setting()
    tolerance: float | None = None
    neutral: float | None = None
    unit: str = ""
    worth: float = 0.0
    because: str = ""
    parts: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    proved: bool = False
    vacuous: str = ""
    needs: str = ""
    missing: str = ""
    note: str = ""

    @property
    def paper(self) -> str:
        """The paper's short name."""
        return self.id.split("/")[0]

    @property
    def stated(self) -> str:
        """What the paper states, in short: ``0.36 ± 0.001 (n = 5)``, or ``holds``."""
        if self.value is None:
            return "holds"
        digits = 3 if abs(self.value) < 1000 else 4
        spread = "" if self.sd is None else f" ± {rounded(self.sd, digits - 1)}"
        return rounded(self.value, digits) + spread + (f" (n = {self.n})" if self.n else "")

    @property
    def unstated(self) -> tuple[str, ...]:
        """The fields of the setting that the paper does not give; none for pure theory."""
        theory = self.kind in ("fact", "erratum")
        return () if theory else tuple(name for name in Setting.model_fields if not getattr(self.setting, name))

    @property
    def band(self) -> float:
        """How far from the printed value is still the same: twice the paper's spread, or the tolerance."""
        assert self.value is not None
        tolerance = 0.05 * abs(self.value) if self.tolerance is None else self.tolerance
        return max(2 * (self.sd or 0.0), tolerance)


class Record(Frozen):
    """What was measured of a claim: a value for each unit, or for each unit and each part of a compound statement.

    Attributes
    ----------
    claim
        Its id.
    measured
        By part (``""`` where there is but one) a value for each unit.
    unit
        What a unit is: a seed, or a fold in which seeds are averaged.
    setting
        How it was measured.
    stand_in
        What the data are, where they are not the paper's.
    differs
        Further differences from the paper's setting.
    variant
        Which reading of the claim this is, where there are several.
    checks
        What was found for preconditions, by name.
    runs
        Keys of the runs that it was measured on.
    note
        How it was measured, where that is not plain.
    """

    claim: str
    measured: dict[str, tuple[float, ...]]
    unit: str = "seed"
    setting: Setting = Setting()
    stand_in: str = ""
    differs: tuple[str, ...] = ()
    variant: str = ""
    checks: dict[str, float] = {}
    runs: tuple[str, ...] = ()
    note: str = ""

    @property
    def place(self) -> tuple[str, ...]:
        """A record takes the place of an earlier one that has the same."""
        return self.claim, *self.setting.data, self.setting.likelihood or "", self.variant


def rounded(value: float, digits: int) -> str:
    """A number to so many significant digits.

    Examples
    --------
    >>> rounded(259.52, 2)
    '260'
    """
    return f"{float(f'{value:.{digits}g}'):g}"  # 260, not 2.6e+02


def counterpart(dataset: str) -> str:
    """The papers' data set that a data set stands for, whole or not: ``mnist`` for ``mnist5k``."""
    name = unpadded(dataset)
    return STAND_INS.get(name.split(":")[0], (name, ""))[0]


def unpadded(dataset: str) -> str:
    """The name of a data set without its size of 28x28: the same images, without a frame of zeros around them."""
    return dataset.removesuffix(":28")


def ids() -> list[str]:
    """The ids of all claims."""
    return list(_book())


def get(claim: str) -> Claim:
    """The claim with this id.

    Raises
    ------
    Invalid
        If there is none; the sentence names the closest ones.
    """
    if claim not in _book():
        near = ", ".join(difflib.get_close_matches(claim, _book(), n=3, cutoff=0.3))
        raise Invalid("claim", claim, f"in the ledger, where the closest are {near}")
    return _book()[claim]


@cache
def _book() -> dict[str, Claim]:
    file = resources.files("vaelib.companion").joinpath("claims.yaml")
    quick = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as quick, where it was compiled
    return {claim.id: claim for claim in _claims(yaml.load(file.read_text(encoding="utf-8"), quick))}


def _claims(book: Mapping[str, Any]) -> Iterator[Claim]:
    """All claims of the file: cells of tables take what their table, its quantity and their setting say."""
    settings = book["settings"]
    for table in book["tables"]:
        shared = {**book["quantities"][table["quantity"]], "where": table["where"], "needs": table["needs"]}
        for setting, cells in table["cells"].items():
            for cell, (value, *sd) in cells.items():
                name = f"{table['table']}/{cell}"
                printed = {"value": value, "sd": sd[0], "n": table.get("n")} if sd else {"value": value}
                for pattern, remarks in book["remarks"].items():
                    printed |= remarks if fnmatchcase(name, pattern) else {}
                yield Claim.model_validate(
                    {"id": name, "kind": "value", "setting": settings[setting], **shared, **printed}
                )
    for kind, section in (("statement", "statements"), ("fact", "facts"), ("erratum", "errata")):
        for name, entry in book[section].items():
            setting = {"setting": settings[entry["setting"]]} if "setting" in entry else {}
            yield Claim.model_validate({"id": name, "kind": kind, **entry, **setting})
