"""Score -> outcome, by the user's `[[outcomes]]`.

They are tried in the order of the file. The first whose filter the transaction fulfils, and whose every threshold it
reaches, decides; where none does, `decisions.otherwise` stands. Thresholds are on risk points, on the calibrated
probability, and on the expected loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64, TransactionBatch
from fraudstream.errors import ConfigError
from fraudstream.event import EventType
from fraudstream.features.where import Condition, fulfilled, parse_where, spell_where
from fraudstream.sections import Outcome, Settings

OUTCOMES_MAX = 100
MEASURES = {"points_min": "risk_points", "probability_min": "score", "expected_loss_min": "expected_loss"}
OTHERWISE = "otherwise"
FAILED = ("fail_open", "fail_closed")

Rows = npt.NDArray[np.bool_]


def expected_loss(batch: TransactionBatch, probability: Float64, event: EventType) -> Float64:
    """Return probability times amount in major units, [n]: one product of doubles, as an alert shows both."""
    loss: Float64 = probability * amounts(batch, event)
    return loss


def amounts(batch: TransactionBatch, event: EventType) -> Float64:
    """Return the amounts in major units, [n], each in the currency of its transaction.

    One is its minor units through 10**digits, correctly rounded.
    """
    major: Float64 = batch.measures[event.amount] / 10 ** event.fields[event.amount].digits
    return major


@dataclass(frozen=True, slots=True)
class Rule:
    """One outcome, ready to be tried.

    Attributes:
        where: conditions that a transaction must fulfil.
        least: least value by what is measured: a value of MEASURES.
        text: the rule in the words of a decision's own fields, `channel = "online" and risk_points >= 990`.
    """

    outcome: Outcome
    where: tuple[Condition, ...]
    least: dict[str, float]
    text: str

    def covers(self, other: Rule) -> bool:
        """Tell whether every transaction that the other would take is taken by this one; no measure is below 0."""
        return set(self.where) <= set(other.where) and all(
            least <= other.least.get(measure, 0) for measure, least in self.least.items()
        )


@dataclass(frozen=True)
class Policy:
    """The rules in their order, and what stands where none applies. Made by `build_policy`."""

    rules: tuple[Rule, ...]
    otherwise: str
    event: EventType

    @cached_property
    def names(self) -> list[str]:
        """Return the outcome of each rule, the one where none applies, then those without a score: open, closed.

        Several may be the same.
        """
        outcomes = [rule.outcome.name for rule in self.rules] + [self.otherwise]
        return [*outcomes, self.otherwise, outcomes[0]]

    @cached_property
    def texts(self) -> list[str]:
        """Return each rule as decisions name it, in the order of `names`."""
        return [rule.text for rule in self.rules] + [OTHERWISE, *FAILED]

    @property
    def fields_used(self) -> set[str]:
        """Return the fields that a batch must carry for these rules."""
        return {condition.field for rule in self.rules for condition in rule.where}

    def decide(self, batch: TransactionBatch, points: Int64, probability: Float64) -> Int64:
        """Return the position in `names` of each row's outcome, [n]."""
        measured: dict[str, Int64 | Float64] = {"risk_points": points, "score": probability}
        if self._weighs_money:
            measured["expected_loss"] = expected_loss(batch, probability, self.event)
        fulfilling: dict[tuple[Condition, ...], Rows] = {}
        decided = np.full(len(batch), len(self.rules), np.int64)
        for position in range(len(self.rules) - 1, -1, -1):
            rule = self.rules[position]
            reached = [measured[measure] >= least for measure, least in rule.least.items()]
            if rule.where:
                if rule.where not in fulfilling:
                    fulfilling[rule.where] = fulfilled(rule.where, batch)
                reached.append(fulfilling[rule.where])
            np.putmask(decided, reached[0] if len(reached) == 1 else np.logical_and.reduce(reached), position)
        return decided

    def without_score(self, rows: int, closed: bool) -> Int64:
        """Return what stands in the place of `decide` where no score can be had; it never alerts."""
        return np.full(rows, len(self.rules) + 1 + closed, np.int64)

    def alerting(self, decided: Int64) -> Rows:
        """Return which rows' outcomes alert, [n]."""
        flagged: Rows = self._alerts[decided]
        return flagged

    @cached_property
    def _alerts(self) -> Rows:
        return np.array([rule.outcome.alert for rule in self.rules] + [False] * (1 + len(FAILED)))

    @cached_property
    def _weighs_money(self) -> bool:
        return any("expected_loss" in rule.least for rule in self.rules)


def build_policy(settings: Settings) -> Policy:
    """Return the policy of the settings.

    Raises:
        ConfigError: naming the first outcome that has no threshold, a filter that does not fit the event type, or
            another one before it that leaves nothing to it.
    """
    if len(settings.outcomes) > OUTCOMES_MAX:
        raise ConfigError(f"outcomes: {len(settings.outcomes)} are given; {OUTCOMES_MAX} at most")
    rules: list[Rule] = []
    for number, outcome in enumerate(settings.outcomes):
        rule = _rule(outcome, f"outcomes[{number}]", settings.event)
        for earlier, before in enumerate(rules):
            if before.covers(rule):
                raise ConfigError(
                    f"outcomes[{number}] ({outcome.name}, {rule.text}): is never decided, since outcomes[{earlier}] "
                    f"({before.outcome.name}, {before.text}) takes all of it first; put the stricter one first"
                )
        rules.append(rule)
    return Policy(tuple(rules), settings.decisions.otherwise, settings.event)


def _rule(outcome: Outcome, key: str, event: EventType) -> Rule:
    where = parse_where(outcome.where, f"{key}.where", event)
    given = {measure: getattr(outcome, name) for name, measure in MEASURES.items()}
    least = {measure: value for measure, value in given.items() if value is not None}
    if not least:
        raise ConfigError(f"{key} ({outcome.name}): no threshold; give one or more of {', '.join(MEASURES)}")
    spelled = [f"{measure} >= {repr(value).removesuffix('.0')}" for measure, value in least.items()]
    return Rule(outcome, where, least, " and ".join([spell_where(where, event)] * bool(where) + spelled))
