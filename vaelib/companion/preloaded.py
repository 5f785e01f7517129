"""What notebooks and the processes that run them import: imported once, by the process that these are forked from."""

import os
from importlib import import_module

# As in a kernel of its own, where both are read when matplotlib, numpy and torch are imported.
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
os.environ["OMP_NUM_THREADS"] = "1"

for name in (
    "tqdm.auto",  # papermill's, before a kernel's modules: after them it asks for ipywidgets
    "ipykernel.kernelapp",
    "matplotlib.pyplot",
    "scipy.stats",
    "seaborn",
    "sklearn.decomposition",
    "sklearn.manifold",
    "sksurv.nonparametric",
    "torch.func",
    "vaelib.companion.claims",
    "vaelib.companion.explorers",
    "vaelib.companion.figures",
    "vaelib.companion.kernels",
    "vaelib.companion.margins",
    "vaelib.companion.plots.curves",
    "vaelib.companion.plots.pictures",
    "vaelib.companion.plots.points",
    "vaelib.divergences.fitting",
    "vaelib.measures",
    "vaelib.runs",
):
    import_module(name)

# In a kernel pandas shows so many columns; imported outside of one it would go by the width of a terminal.
import_module("pandas").set_option("display.max_columns", 20)
