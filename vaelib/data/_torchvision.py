"""The one place that imports torchvision, because importing it beside a CPU-only torch needs help.

The published torchvision wheel carries operators compiled against a CUDA build of torch. Beside a CPU-only torch they
cannot be loaded, and torchvision, which attaches shape rules to two of them by name, fails at import with "operator
torchvision::nms does not exist" (pytorch/vision issue 9077). This package uses none of the operators, only the data
sets, so it is enough that the two names exist: their schemas are declared here, without any code behind them.
"""

import contextlib
import importlib
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# Schemas live as long as the library that declared them.
_declared = torch.library.Library("torchvision", "FRAGMENT")


@cache
def torchvision() -> ModuleType:
    """Import torchvision, whether or not its compiled operators fit this torch.

    Returns
    -------
    ModuleType
        The ``torchvision`` module.
    """
    # With a matching wheel the operators are real, and declaring one again is an error: so they are loaded first.
    # torchvision loads the same file once more, which does nothing.
    spec = find_spec("torchvision")
    for folder in (spec and spec.submodule_search_locations) or ():
        for suffix in EXTENSION_SUFFIXES:
            if (file := Path(folder) / f"_C{suffix}").exists():
                with contextlib.suppress(OSError):
                    torch.ops.load_library(file)
    for schema in _SCHEMAS:
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
            _declared.define(schema)
    return importlib.import_module("torchvision")
