"""Somebody who sees everything, plaintexts included, and says at once when a promise is broken.

`watch` tells which invariant is checked how, and where else.
"""

from fedring.lab.simulate.watch.checks import Broken, require
from fedring.lab.simulate.watch.liveness import can_form_a_ring
from fedring.lab.simulate.watch.watch import Watch

__all__ = ["Broken", "Watch", "can_form_a_ring", "require"]
