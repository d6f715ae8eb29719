"""What a demo came to: facts as JSON, and a few lines for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import attrs
from attrs import field, frozen

from fedring.fleet.screen import percent
from fedring.fleet.view import VersionView
from fedring.lab.benchmarks import machine, versions
from fedring.lab.demo.observer import TrainingRound
from fedring.lab.demo.wishes import Wishes

PHASES = {"ready": "training", "rings": "rings", "opening": "opening the sum"}
"""Phases of a round in order, and what they are called: training lasts until rings are formed."""


@frozen(kw_only=True)
class Report:
    """What a demo came to.

    Attributes:
        wishes: what was asked for.
        broker: which one it was, for people.
        rounds: the training rounds, >= 1.
        untrained: the model before training; None when nobody tried it.
        lost: how each device that did not stay to the end came to its end, by name.
        first_result_s: from the start of the demo to the result of the first training round.
        total_s: from the start of the demo to its last result.
        uncounted: messages that came too fast to be in the byte counts.
    """

    wishes: Wishes
    broker: str
    rounds: Sequence[TrainingRound]
    untrained: VersionView | None = None
    lost: Mapping[str, str] = field(factory=dict)
    first_result_s: float
    total_s: float
    uncounted: int = 0

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        threshold = self.wishes.effective_threshold
        return {
            "rounds": [_facts(one) for one in self.rounds],
            "untrained": None if self.untrained is None else dict(self.untrained.metrics),
            "settings": {**attrs.asdict(self.wishes), "threshold": threshold},
            "broker": self.broker,
            "seconds": {
                "first_result": round(self.first_result_s, 1),
                "total": round(self.total_s, 1),
            },
            "lost_devices": dict(self.lost),
            "uncounted_messages": self.uncounted,
            "machine": machine(),
            "versions": versions(),
        }

    def write(self, file: Path) -> None:
        """Write it as JSON."""
        file.write_text(json.dumps(self.as_dict(), indent=1) + "\n", "utf-8")

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """Give (round, value) wherever a metric is known; round 0 is the untrained model."""
        points = [(0, self.untrained)] if self.untrained is not None else []
        known = [*points, *((one.number, one.version) for one in self.rounds)]
        return [(at, it.metrics[metric]) for at, it in known if metric in it.metrics]

    def summary(self) -> Iterator[str]:
        """Tell what came out, a line at a time."""
        last = self.rounds[-1].version.metrics
        before = self.untrained.metrics.get("accuracy") if self.untrained is not None else None
        yield (
            f"People who never took part: {percent(last.get('accuracy'))} of their movements"
            f" recognised."
        )
        yield (
            f"Before training it was {percent(before)};"
            f" macro F1 is {percent(last.get('macro_f1'))} now."
        )
        contributors = [one.version.contributors for one in self.rounds]
        void = sum(one.void_rings for one in self.rounds)
        yield (
            f"{_several(len(self.rounds), 'round')}, {_span(contributors)} contributors each,"
            f" {_several(void, 'void ring')}."
        )
        seconds = {
            phase: fmean(one.version.seconds.get(phase, 0.0) for one in self.rounds)
            for phase in ("total", *PHASES)
        }
        megabytes = fmean(sum(one.bytes.values()) for one in self.rounds) / 1e6
        yield (
            f"A round took {seconds['total']:.1f} s"
            f" ({', '.join(f'{PHASES[one]} {seconds[one]:.1f}' for one in PHASES)})"
            f" and {megabytes:.1f} MB on the broker."
        )
        yield (
            f"First result after {self.first_result_s:.0f} s, the last after {self.total_s:.0f} s."
        )
        for name, ending in self.lost.items():
            yield f"{name} has {ending}; the others went on."


def _facts(one: TrainingRound) -> dict[str, Any]:
    version = one.version
    return {
        "round": one.number,
        "protocol_round": version.round,
        "version": version.version,
        "contributors": version.contributors,
        "void_rings": one.void_rings,
        "accuracy": version.metrics.get("accuracy"),
        "macro_f1": version.metrics.get("macro_f1"),
        "loss": version.metrics.get("loss"),
        "fleet_accuracy": version.metrics.get("fleet_accuracy"),
        "seconds": dict(version.seconds),
        "bytes": one.bytes,
    }


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _several(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
