"""Explorers: small pictures that a reader moves, as HTML that needs no kernel and loads nothing.

Each is made of a tidy table; :class:`Explorer` makes a fragment of it for notebooks and for the site alike.

==============  =====================================================================================
function        what is explored
==============  =====================================================================================
``skew``        two Gaussians, their geometric mean, and the three forms, at each skew
``landscape``   the divergence against the skew, epoch by epoch
``equal_rate``  a method beside the β-VAE of the same rate, in numbers and in reconstructions
==============  =====================================================================================
"""

from vaelib.companion.explorers.base import Explorer, Panel
from vaelib.companion.explorers.committed import committed
from vaelib.companion.explorers.landscapes import landscape
from vaelib.companion.explorers.rates import Measured, equal_rate
from vaelib.companion.explorers.skews import PAIRS, skew
