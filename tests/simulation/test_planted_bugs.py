"""Bugs planted into the production objects are found by `fedring simulate faults`, and soon.

Each plant breaks one line of the protocol, as a hurried change might. The command has to end with
status 1 within a bounded number of schedules, for the right reason.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from attrs import evolve, frozen
from click.testing import CliRunner, Result

from fedring.coordinator import gathering, own_bodies, rings, rounds, tables
from fedring.coordinator.gathering import Token
from fedring.coordinator.rings import Ring
from fedring.coordinator.rounds import Ended, Round
from fedring.coordinator.store import CoordinatorStore
from fedring.coordinator.strategies import FedAvg
from fedring.device import member, relay, releases
from fedring.device.effects import Effects, Joined, Spent, Work
from fedring.device.member import Member
from fedring.device.relay import Relay
from fedring.lab.simulate import failures
from fedring.lab.simulate.cli import command
from fedring.lab.simulate.schedules import Schedule
from fedring.lab.simulate.watch import Broken
from fedring.shared import membership
from fedring.shared.effects import Send
from fedring.shared.encryption import OneTimeMask
from fedring.shared.encryption.hybrid import Hybrid
from fedring.shared.envelopes import Signed, open_envelope, sign
from fedring.shared.messages import COORDINATOR_NAME, Announce, Busy
from fedring.shared.pairwise import RoundKey

Patch = pytest.MonkeyPatch


# -- the device ------------------------------------------------------------------------------


def the_threshold_is_checked_by_nobody(patch: Patch) -> None:
    """Both sides check it; one alone would do."""
    objection = releases.objection
    patch.setattr(member, "objection", lambda asked, ring, me, _: objection(asked, ring, me, 0))
    patch.setattr(gathering, "Token", lambda names, body, enough: Token(names, body, enough=True))
    for place in (own_bodies, rings):
        patch.setattr(place, "without_company", lambda _: {})


def joined_is_forgotten(patch: Patch) -> None:
    begin = Member.__init__

    def forgetful(self: Member, **settings: Any) -> None:
        begin(self, **settings | {"joined": (0, 0)})

    patch.setattr(Member, "__init__", forgetful)


def ready_leaves_before_joined_is_durable(patch: Patch) -> None:
    worked = Member.worked

    def hurried(self: Member, *work: Any) -> Effects:
        return sorted(worked(self, *work), key=lambda effect: isinstance(effect, Joined))

    patch.setattr(Member, "worked", hurried)


def a_release_leaves_before_it_is_counted(patch: Patch) -> None:
    asked = Member._asked_for_release

    def hurried(self: Member, *request: Any) -> Effects:
        return sorted(asked(self, *request), key=lambda effect: isinstance(effect, Spent))

    patch.setattr(Member, "_asked_for_release", hurried)


def evaluations_are_counted_after_the_work(patch: Patch) -> None:
    consider = Member._consider

    def hurried(self: Member, *round_: Any) -> Effects:
        return sorted(consider(self, *round_), key=lambda effect: not isinstance(effect, Work))

    patch.setattr(Member, "_consider", hurried)


def releases_are_counted_from_zero_after_a_restart(patch: Patch) -> None:
    begin = Member.__init__

    def forgetful(self: Member, **settings: Any) -> None:
        begin(self, **settings | {"releases": evolve(settings["releases"], total=0)})

    patch.setattr(Member, "__init__", forgetful)


def a_repeated_ready_is_made_anew(patch: Patch) -> None:
    """Recomputed instead of resent: another round key in the same round."""
    tick = Member.tick

    def anew(self: Member, now: float, alive_at: float) -> Effects:
        held = self._round
        if held and held.ready and held.secrets and held.membership is None:
            held.secrets.round_key = self._new_round_key(self._random)
            message = evolve(held.ready.message, round_key=held.secrets.round_key.public)
            held.ready = sign(message, self._identity)
        return tick(self, now, alive_at)

    patch.setattr(Member, "tick", anew)


def a_second_body_is_made_anew(patch: Patch) -> None:
    """Recomputed instead of kept: other noise under the same key."""
    hold: Any = Relay._hold

    def anew(self: Relay, *arguments: Any) -> Any:
        *others, piece, now = arguments
        if self.added:
            piece = (np.frombuffer(piece, np.uint64) + np.uint64(1)).tobytes()
        return hold(self, *others, piece, now)

    patch.setattr(Relay, "_hold", anew)


def one_round_key_serves_for_ever(patch: Patch) -> None:
    begin = Member.__init__

    def thrifty(self: Member, **settings: Any) -> None:
        begin(self, **settings)
        known: list[RoundKey] = []

        def new(random: Any) -> RoundKey:
            known.append(known[0] if known else settings["round_key"](random))
            return known[0]

        self._new_round_key = new

    patch.setattr(Member, "__init__", thrifty)


def the_update_is_not_masked(patch: Patch) -> None:
    body = OneTimeMask.body

    def bare(self: OneTimeMask, values: Any) -> Any:
        masked = body(self, values)
        plain = np.zeros_like(masked)
        self._suite.add_values(plain, values)
        return plain

    patch.setattr(OneTimeMask, "body", bare)


def every_round_has_the_same_key(patch: Patch) -> None:
    prepare = Hybrid.prepare
    patch.setattr(Hybrid, "prepare", lambda self, _, *rest: prepare(self, bytes, *rest))


def an_update_is_changed_on_its_way_to_the_mask(patch: Patch) -> None:
    body = OneTimeMask.body

    def other(self: OneTimeMask, values: Any) -> Any:
        changed = values.copy()
        changed[0] //= 2
        return body(self, changed)

    patch.setattr(OneTimeMask, "body", other)


def a_report_tells_a_key(patch: Patch) -> None:
    where = Member._where

    def told(held: Any) -> Any:
        keys = {"key": held.secrets.round_key.exponent} if held.secrets else {}
        return {**where(held), **{name: repr(key).encode() for name, key in keys.items()}}

    patch.setattr(Member, "_where", staticmethod(told))


def a_message_tells_a_key(patch: Patch) -> None:
    answer = Member._still_here

    def told(self: Member, held: Any, call: Any) -> Any:
        key = held.secrets.round_key.exponent.to_bytes(8, "little")
        told = Busy(**self._tag(held), about=bytes(24) + key)
        return [*answer(self, held, call), Send(COORDINATOR_NAME, sign(told, self._identity).raw)]

    patch.setattr(Member, "_still_here", told)


def releases_have_no_pads(patch: Patch) -> None:
    patch.setattr(releases, "pads", lambda *_, n_pieces, **__: [0] * n_pieces)


def secrets_are_kept_after_the_release(patch: Patch) -> None:
    patch.setattr(Member, "_drop_secrets", lambda *_: None)


def headers_are_repeated_without_a_pause(patch: Patch) -> None:
    patch.setattr(relay, "REPEAT_S", 0.001)


def a_running_round_is_not_left_for_a_newer_one(patch: Patch) -> None:
    announced = Member._round_announced

    def stubborn(self: Member, *announce: Any) -> Effects:
        return [] if self._round is not None else announced(self, *announce)

    patch.setattr(Member, "_round_announced", stubborn)


# -- the coordinator -------------------------------------------------------------------------


def a_round_number_is_used_again_after_a_crash(patch: Patch) -> None:
    next_round = CoordinatorStore.next_round

    def again(self: CoordinatorStore) -> tuple[int, int]:
        left_open = [one.round for one in self.rounds(1) if one.outcome is None]
        return (self.epoch(), left_open[0]) if left_open else next_round(self)

    patch.setattr(CoordinatorStore, "next_round", again)


def a_sum_is_applied_twice(patch: Patch) -> None:
    step = FedAvg.step
    patch.setattr(FedAvg, "step", lambda self, model, u: step(self, step(self, model, u), u))


def a_ring_is_summed_twice(patch: Patch) -> None:
    and_end = Round._and_end

    def twice(self: Round, effects: rounds.Effects) -> rounds.Effects:
        return [
            evolve(one, sums=one.sums * 2) if isinstance(one, Ended) else one
            for one in and_end(self, effects)
        ]

    patch.setattr(Round, "_and_end", twice)


def a_name_is_left_out_of_the_list(patch: Patch) -> None:
    ask = Ring._ask_for_sum

    def short(self: Ring, now: float) -> Any:
        token = self._token
        if len(token.names) > 2:
            assert self.gathering is not None
            self.gathering.best = evolve(token, names=token.names[:-1])
        return ask(self, now)

    patch.setattr(Ring, "_ask_for_sum", short)


def a_ready_counts_for_two_rings(patch: Patch) -> None:
    form = Round._form_cohort

    def careless(self: Round, cohort: int, now: float) -> Any:
        waiting = dict(self._waiting)
        effects = form(self, cohort, now)
        self._late |= waiting
        return effects

    patch.setattr(Round, "_form_cohort", careless)


def a_ready_for_an_older_announce_counts(patch: Patch) -> None:
    """Whoever is that late has another model, plan and key."""
    ready, read = Round._ready, membership.read_ready

    def careless(self: Round, source: str, unverified: Any, raw: bytes, now: float) -> Any:
        announce = self._announce.message
        message = evolve(unverified.message, epoch=announce.epoch, round=announce.round)
        return ready(self, source, evolve(unverified, message=message), raw, now)

    def lenient(raw: bytes, announce: Signed[Announce], *others: Any) -> Any:
        answer: Any = open_envelope(raw).message
        message = evolve(announce.message, epoch=answer.epoch, round=answer.round)
        older: Any = SimpleNamespace(message=message, digest=answer.announce)
        return read(raw, older, *others)

    patch.setattr(Round, "_ready", careless)
    patch.setattr(rounds, "read_ready", lenient)


def questions_are_asked_once(patch: Patch) -> None:
    """One lost message, and a ring is void or a member dropped."""

    def never(self: Ring, now: float) -> list[Send]:
        self._repeat_at = now + self._repeat_s
        return []

    patch.setattr(Ring, "_repeat", never)


def silence_has_no_end(patch: Patch) -> None:
    patch.setattr(Ring, "_too_late", lambda *_: [])


def rounds_are_not_settled(patch: Patch) -> None:
    patch.setattr(tables, "settle", lambda *_: None)


@frozen
class Plant:
    """A bug.

    Attributes:
        sow: puts it in place.
        promise: what is said when it is found.
        within: schedules by which it is found.
    """

    sow: Callable[[Patch], None]
    promise: str
    within: int = 150


PLANTS = [
    Plant(the_threshold_is_checked_by_nobody, "more than its threshold"),
    Plant(joined_is_forgotten, "one key, one body"),
    Plant(ready_leaves_before_joined_is_durable, "joined is durable before ready"),
    Plant(a_release_leaves_before_it_is_counted, "a release is counted durably before it leaves"),
    Plant(evaluations_are_counted_after_the_work, "an evaluation is durable before the work"),
    Plant(
        releases_are_counted_from_zero_after_a_restart,
        "a release is counted durably before it leaves",
    ),
    Plant(a_repeated_ready_is_made_anew, "one ready a round"),
    Plant(a_second_body_is_made_anew, "a token is the sum of the bodies that it names"),
    Plant(one_round_key_serves_for_ever, "round keys are fresh"),
    Plant(every_round_has_the_same_key, "no key serves twice"),
    Plant(the_update_is_not_masked, "every coefficient is masked"),
    Plant(an_update_is_changed_on_its_way_to_the_mask, "the sum is exact"),
    Plant(a_report_tells_a_key, "reports hold nothing but words and numbers"),
    Plant(a_message_tells_a_key, "round keys stay"),
    Plant(releases_have_no_pads, "less than all releases of a list open nothing"),
    Plant(secrets_are_kept_after_the_release, "secrets are dropped with the release"),
    Plant(headers_are_repeated_without_a_pause, "few messages"),
    Plant(a_running_round_is_not_left_for_a_newer_one, "those who stay up form a ring"),
    Plant(a_round_number_is_used_again_after_a_crash, "no round number twice"),
    Plant(rounds_are_not_settled, "versions have their rounds"),
    Plant(a_sum_is_applied_twice, "the step is by the mean of the sum, once"),
    Plant(a_ring_is_summed_twice, "a device contributed to two rings of one round"),
    Plant(a_name_is_left_out_of_the_list, "sums hold"),
    Plant(
        a_ready_counts_for_two_rings, "nobody is dropped for nothing|undisturbed rings end in sums"
    ),
    Plant(a_ready_for_an_older_announce_counts, "a ring shares one announce"),
    Plant(questions_are_asked_once, "whoever stays up|nobody is dropped for nothing"),
    Plant(silence_has_no_end, "every round ends"),
]


def faults(*options: str) -> Result:
    return CliRunner().invoke(command, ["faults", "--processes=1", "--exit-first", *options])


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.sow.__name__)
def test_a_planted_bug_is_found(plant: Plant, monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setattr(failures, "MOST_TRIES", 0)
    plant.sow(monkeypatch)
    report = tmp_path / "faults.json"
    result = faults(f"--schedules={plant.within}", f"--json={report}")
    assert result.exit_code == 1, result.output
    assert json.loads(report.read_text())["broken"] == 1
    assert re.search(plant.promise, result.output.splitlines()[0])


def test_a_failure_is_made_small_drawn_and_pasted_as_a_test(monkeypatch: Patch) -> None:
    joined_is_forgotten(monkeypatch)
    result = faults("--schedules=150")
    promise, _, rest = result.output.partition("\n")
    found = re.match(r"seed (\d+): one key, one body: ", promise)
    assert found is not None
    drawing, _, rest = rest.partition("As a test:")
    assert re.search(r"\n +[0-9.]+ +\|<[-|]+\|.* ready\n", drawing)
    test = re.split(r"\n\d+ schedules, ", rest)[0]
    drawn = Schedule.draw(int(found[1]))
    assert test.count("Happening(") <= sum(map(len, drawn.rounds))
    pasted: dict[str, Any] = {}
    exec(test, pasted)
    with pytest.raises(Broken, match="one key, one body"):
        pasted[f"test_schedule_{found[1]}"]()
    monkeypatch.undo()
    pasted[f"test_schedule_{found[1]}"]()
