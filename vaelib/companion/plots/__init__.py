"""Kinds of figures: each function draws one tidy table as a figure, and takes options that JSON can hold.

A function ``plot(table, **options) -> Figure`` knows nothing of notebooks and runs: all that it draws is in the table,
so that :func:`vaelib.companion.figures.redraw` can draw a figure again from its csv and json alone. Notebooks hand them
to :func:`vaelib.companion.figures.show`.

===============  =======================================================================================
module           what it draws
===============  =======================================================================================
``curves``       means over seeds with bands, by method, one panel a measure
``courses``      single runs, one line each
``points``       one dot for each seed with means and their intervals, by method; the path of means along a third
``scatters``     one number against another, a dot a case, with a trend
``tradeoffs``    two measures of a family along its weight, and everything else as points
``scans``        what fixed values of a parameter give, and where runs that learn it end
``landscapes``   anything against the skew, a curve an epoch
``intervals``    values with ends that were computed beforehand
``heatmaps``     one number for each pair of values
``pictures``     images in named rows and in grids, and the column of a table that holds them
``functions``    theory: functions of one variable, and formulas against each other
``densities``    Gaussians in the plane
``gradients``    estimators of gradients
``estimates``    estimates of log p(x)
``projections``  codes in the plane, a marker and a colour for each class
``cohorts``      methods in each cell of a design, on patients
``survival``     what happened to groups of patients
``style``        colours, labels, axes and legends: what all of them share
===============  =======================================================================================

Some options are the same everywhere. ``names`` gives words for columns (axis labels, with units), and ``labels`` words
for values (methods have theirs in :data:`vaelib.companion.plots.style.LOOKS`); the keys of both are text, as in JSON.
``panels`` is the column with one panel for each of its values, ``log`` lists the columns whose axes are logarithmic,
``limits`` gives the ends of axes by column, and ``size`` is the width and height of one panel in inches. Rows whose
column ``kind`` is ``reference`` are horizontal lines: values that a paper prints, say.
"""

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """A kind of figures, imported when it is first asked for."""
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise AttributeError(f"there is no kind of figures called {name!r}") from error
