"""The training loop: one model, or a stack of models trained in one vectorised step.

Data stays on the device as bytes. All random numbers of an epoch (the order of the samples, the noise) come from a
generator seeded by the run's seed and the epoch, so that a run depends on nothing that ran before it, and one that
was interrupted goes on with the same bits from its last checkpoint.
"""

import time
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor, nn

from vaelib.divergences import Noise
from vaelib.errors import UserError
from vaelib.models import pixels
from vaelib.objectives import Terms, Trainee
from vaelib.parts import NotNegative, Part
from vaelib.training.machine import generator, keep_freed_memory
from vaelib.training.program import Program, compiled_bodies, program
from vaelib.training.stack import Stack

State = dict[str, Tensor]

BLOCK = 64
"""Batches whose order, noise and finiteness are dealt with at once: long enough to keep an accelerator from waiting for
the host, short enough that the noise of a block is small. Noise is drawn by the block, so this number is a part of the
random stream: to change it is to change every run, and to raise the store's ``SCHEMA``.
"""


PAYS = {"fp32": 2_000_000, "bf16": 500_000}
"""Images after which a compiled step has paid for its compilation on a CPU, by precision (``benchmarks/``)."""


def pays(images: int, precision: str, device: str) -> bool:
    """Whether a run over so many images in all is to be compiled: always the same for the same run."""
    return device == "cpu" and images >= PAYS[precision]


class NonFiniteLoss(UserError):
    """A term of the loss became infinite or not a number."""


class Adam(Part):
    """How the networks are optimised.

    Parameters
    ----------
    rate
        The learning rate of everything that has none of its own (a learned skew has).
    decay
        After t steps all rates are divided by 1 + decay t.
    weight_decay
        So much times each weight of the networks is added to its gradient (an L2 penalty).
    """

    rate: NotNegative = 1e-4
    decay: NotNegative = 0.0
    weight_decay: NotNegative = 0.0

    def build(self, trainee: nn.Module) -> torch.optim.Adam:
        """The optimiser of a trainee's parameters, or of a stack's."""
        own = {
            id(parameter): rate
            for module in trainee.modules()
            if isinstance(rate := getattr(module, "rate", None), float)
            for parameter in module.parameters()
        }
        trained = [p for p in trainee.parameters() if p.requires_grad]
        groups = [{"params": [p for p in trained if id(p) not in own], "weight_decay": self.weight_decay}]
        for rate in sorted(set(own.values())):
            groups.append({"params": [p for p in trained if own.get(id(p)) == rate], "lr": rate})
        return torch.optim.Adam([g for g in groups if g["params"]], lr=self.rate, fused=True)


class Training:
    """The training of one trainee, or of several of the same structure at once.

    Parameters
    ----------
    members
        What to train; their tensors are used in place by a solo training, copied by a stack.
    seeds
        One seed a member.
    images
        Training samples ``(n, *shape)``, bytes or floats in [0, 1].
    batch_size
        Samples in a step; the last step of an epoch takes what is left.
    epochs
        How many epochs the whole training has (schedules are relative to it).
    optimiser
        How.
    device
        Where to train.
    compiled
        Whether the steps of a whole batch are one compiled program, and the bodies are where they are evaluated, see
        :func:`pays`; a stack's are not.
    """

    def __init__(
        self,
        members: Sequence[Trainee],
        seeds: Sequence[int],
        images: Tensor,
        *,
        batch_size: int,
        epochs: int,
        optimiser: Adam,
        device: torch.device | str = "cpu",
        compiled: bool = False,
    ):
        keep_freed_memory()
        self.device, self.seeds, self.batch_size, self.epochs = torch.device(device), seeds, batch_size, epochs
        self.images, self.epoch = images.to(self.device), 0
        self._members = [member.to(self.device) for member in members]
        if len(members) == 1:
            self._trainee: Trainee | Stack = members[0]
            self.trainee = members[0]
            self.trainee.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch lacks it
        else:
            self._trainee = Stack(self._members)
            self.trainee = self._trainee.stacked
        self._programs: dict[str, Program | None] = {}
        self._evaluated: Trainee | None = None
        self.compiled = compiled and len(members) == 1 and batch_size <= len(images)
        self.optimiser = optimiser.build(self.trainee)
        self._rates, self._decay = [group["lr"] for group in self.optimiser.param_groups], optimiser.decay

    def run_epoch(self) -> list[dict[str, float]]:
        """Train for one epoch.

        Returns
        -------
        list of dict
            For each member the mean of each term over the epoch, what the objective reports at its end (a skew), and
            the seconds it took (a stack's time is shared out evenly).

        Raises
        ------
        NonFiniteLoss
            If a term is infinite or not a number; the epoch, the step and the term are named.
        """
        started = time.perf_counter()
        generators = [generator(self.device, seed, "epoch", self.epoch) for seed in self.seeds]
        orders = torch.stack([torch.randperm(len(self.images), generator=g, device=self.device) for g in generators])
        steps = -(-len(self.images) // self.batch_size)
        totals: dict[str, Tensor] = {}
        for module in (self.trainee, *self._members):
            module.train()
        for first in range(0, steps, BLOCK):
            block = orders[:, first * self.batch_size : (first + BLOCK) * self.batch_size]
            shape = (block.shape[1], *self.images.shape[1:])
            noises = [m.objective.noise(m.vae, shape, g) for m, g in zip(self._members, generators)]
            noise = {name: torch.stack([n[name] for n in noises]) for name in noises[0]}
            terms = []
            for step, index in enumerate(block.split(self.batch_size, dim=1), start=first):
                start = (step - first) * self.batch_size
                part = {name: n[:, start : start + index.shape[1]] for name, n in noise.items()}
                self._set_rates(self.epoch * steps + step)
                terms.append(self._step(index, part, (self.epoch + step / steps) / self.epochs, index.shape[1]))
            for name, total in self._sum(terms, first).items():
                totals[name] = totals.get(name, 0) + total
        self.epoch += 1
        seconds = (time.perf_counter() - started) / len(self.seeds)
        means = {name: (total / len(self.images)).tolist() for name, total in totals.items()}
        means |= {name: value.reshape(-1).tolist() for name, value in self.trainee.objective.report().items()}
        return [{**{name: mean[k] for name, mean in means.items()}, "seconds": seconds} for k in range(len(self.seeds))]

    def _set_rates(self, step: int) -> None:
        for group, rate in zip(self.optimiser.param_groups, self._rates):
            group["lr"] = rate / (1 + self._decay * step)

    def _step(self, index: Tensor, noise: Noise, progress: float, count: int) -> Terms:
        """One step on the samples at `index` ``(members, count)``; each term summed over the samples."""
        if isinstance(self._trainee, Trainee):
            index, noise = index[0], {name: n[0] for name, n in noise.items()}
        x, done = pixels(self.images[index]), torch.tensor(progress, device=self.device)
        for phase in self.trainee.objective.phases:
            terms = self._gradients(x, noise, done, phase)
            self.optimiser.step()
        self.trainee.objective.project_()
        return {name: term.detach().sum(-1).reshape(-1) for name, term in terms.items()}

    def _gradients(self, x: Tensor, noise: Noise, done: Tensor, phase: str) -> Terms:
        """The terms of a phase; the parameters get the gradients of its loss."""
        if self.compiled and isinstance(self._trainee, Trainee) and len(x) == self.batch_size:
            if phase not in self._programs:
                self._programs[phase] = program(self._trainee, phase, x, noise, done)
            if (compiled := self._programs[phase]) is not None:
                return compiled(x, noise, done)
            self.compiled = False
        self.optimiser.zero_grad()
        terms: Terms = self._trainee(x, noise, done, phase)
        terms["loss"].mean(-1).sum().backward()
        return terms

    def _sum(self, terms: list[Terms], first: int) -> Terms:
        """The terms ``(members,)`` summed over a block of steps, if all of them are finite."""
        stacked = {name: torch.stack([t[name] for t in terms]).double() for name in terms[0]}
        # The loss comes last: the term that broke it says more.
        broken = [
            (int(bad[0, 0]), name, int(bad[0, 1]))
            for name in sorted(stacked, key=lambda name: name == "loss")
            if len(bad := (~stacked[name].isfinite()).nonzero())
        ]
        if broken:
            step, name, member = min(broken, key=lambda b: b[0])
            raise NonFiniteLoss(
                f"{name} is {stacked[name][step, member].item()} in epoch {self.epoch + 1}, step {first + step + 1} "
                f"(seed {self.seeds[member]}): lower the learning rate or the weight, or check the data"
            )
        return {name: values.sum(0) for name, values in stacked.items()}

    def member(self, k: int) -> Trainee:
        """Member `k` with its weights as they are now."""
        if self._trainee is not self._members[0]:
            with torch.no_grad():
                tensors = dict(self.trainee.named_parameters()) | dict(self.trainee.named_buffers())
                own = dict(self._members[k].named_parameters()) | dict(self._members[k].named_buffers())
                for name, tensor in own.items():
                    tensor.copy_(tensors[name][k])
        return self._members[k]

    def evaluated(self, k: int, sizes: Collection[int]) -> Trainee:
        """Member `k`, ready to be evaluated in batches of these sizes: by compiled programs, where its steps are."""
        member = self.member(k).eval()
        if not self.compiled:
            return member
        if self._evaluated is None:
            self._evaluated = Trainee(compiled_bodies(member.vae, sizes), member.objective)
        return self._evaluated.eval()

    def _tensors(self, k: int) -> Iterator[tuple[str, Tensor]]:
        """All tensors that the next step of member `k` depends on, by name; views, to be read or written."""
        solo = len(self.seeds) == 1
        for name, tensor in (*self.trainee.named_parameters(), *self.trainee.named_buffers()):
            yield name, tensor.detach() if solo else tensor.detach()[k]
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.trainee.named_parameters()}
        for parameter, state in self.optimiser.state.items():
            for key, tensor in state.items():
                shared = solo or key == "step"
                yield f"{names[parameter]}/{key}", tensor if shared else tensor[k]

    def state(self, k: int) -> State:
        """A copy of everything that the training of member `k` goes on from, apart from the epoch."""
        return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in self._tensors(k)}

    def resume(self, states: Sequence[State], epoch: int) -> None:
        """Go on after `epoch` epochs from the members' states."""
        for group in self.optimiser.param_groups:
            for parameter in group["params"]:
                moments = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
                self.optimiser.state[parameter] = {"step": torch.zeros((), device=self.device), **moments}
        for k, state in enumerate(states):
            for name, tensor in self._tensors(k):
                tensor.copy_(state[name])
        self.epoch = epoch
