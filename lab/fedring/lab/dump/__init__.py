"""Everything that a broker saw, and everything that can be made of it.

A recorder keeps all messages of a fleet. An adversary has that recording, all that the coordinator
holds, and all that some of the contributors hold. `recover` tries every way it can think of to
learn more from it than sums that the devices agreed to; `breaks` tells whether it did.

An attempt that fails proves nothing by itself. That the same attempts succeed as soon as a defence
is taken out, or as soon as all contributors but one are in on it, shows that they would have found
something. What nobody thought of is not tried: see docs/threat-model.md.
"""

from fedring.lab.dump.attempts import Finding, own_values, recover
from fedring.lab.dump.evidence import Evidence, Participant
from fedring.lab.dump.knowledge import Knowledge
from fedring.lab.dump.promise import breaks, promised

__all__ = [
    "Evidence",
    "Finding",
    "Knowledge",
    "Participant",
    "breaks",
    "own_values",
    "promised",
    "recover",
]
