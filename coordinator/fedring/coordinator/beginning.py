"""How a round begins: its number made durable, model and plan announced, devices noted.

Slow, with a large model and for the first round of a process: the service runs it in a thread.

Source: docs/protocol.md, section 4, step 1.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from fedring.coordinator.announcing import make_announce
from fedring.coordinator.planning import plan_of, terms_of
from fedring.coordinator.records import Version
from fedring.coordinator.rosters import Bench, Cohorts
from fedring.coordinator.rounds import Round
from fedring.coordinator.running import Running
from fedring.coordinator.settings import CoordinatorSettings
from fedring.coordinator.standing import Standing
from fedring.coordinator.strategies import STATISTICS_BITS
from fedring.shared.tasks import n_values


def begin(
    settings: CoordinatorSettings,
    standing: Standing,
    version: Version,
    *,
    present: Mapping[int, str],
    rate: float,
    now: float,
    bytes_before: Mapping[str, int],
) -> Running:
    """Take a round number, durably, and make all that its announce needs.

    Args:
        settings: the owner's.
        standing: store, identity and keys.
        version: of the model that the round starts from.
        present: devices seen alive: number -> name.
        rate: bytes a second that links are taken to carry.
        now: the clock.
        bytes_before: payload bytes until now, by topic class.

    Returns:
        The round, not announced yet.
    """
    store, training, ring = standing.store, settings.training, settings.ring
    epoch, number = store.next_round()
    model = store.model(version)
    plan = plan_of(training, model)
    cohorts = Cohorts(store.devices.cohorts())
    identity = standing.credentials.identity
    announcing = make_announce(
        identity=identity,
        epoch=epoch,
        round_number=number,
        model=model,
        version=version.version,
        parent=version.parent,
        plan=plan,
        ring=terms_of(
            ring, n_values(model, plan.task), members=cohorts.largest(ring.size), rate=rate
        ),
        suite_name=ring.suite,
        bits=STATISTICS_BITS if plan.task == "statistics" else training.bits,
        public_key=standing.key.public_key,
        revocation=standing.revocation.number,
        random=os.urandom,
    )
    strikes, until = store.devices.bench()
    round_ = Round(
        announce=announcing.announce,
        exchange_key=announcing.exchange_key,
        identity=identity,
        authority=standing.credentials.authority,
        revoked=standing.revocation.revoked,
        suite=announcing.suite,
        cohorts=cohorts,
        bench=Bench(strikes, until),
        present=present,
    )
    store.devices.note(present)
    return Running(announcing, round_, model, version, began=now, bytes_before=bytes_before)
