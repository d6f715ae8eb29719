"""The decoders that the rule holds for: all that takes bytes from outside.

Left out on purpose: SQLite files in our own private state folders (nobody else writes there; a
backup, which travels, is in), the command line (click's), a device's own Python function, and MQTT
packets (the library's, which `tests/integration/test_hostile_broker.py` is about).
"""

from __future__ import annotations

from fedring.lab.fuzzing import enrolment, files, updates, wire
from fedring.lab.fuzzing.corpus import Corpus
from fedring.lab.fuzzing.target import Target


def targets(corpus: Corpus) -> dict[str, Target]:
    """Every target by its name."""
    found = [*wire.targets(corpus), *files.targets(), *enrolment.targets(), *updates.targets()]
    return {target.name: target for target in found}
