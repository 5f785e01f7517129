"""Training: the one loop, stacks of models, and what makes a run depend on its own seed alone."""

from vaelib.training.loop import BLOCK, Adam, NonFiniteLoss, State, Training, pays
from vaelib.training.machine import derive, generator, keep_freed_memory, threads
from vaelib.training.stack import Stack
