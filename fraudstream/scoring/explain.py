"""Why a transaction alerts: the behaviours and the features that raised its score most, in plain words.

Contributions and the base add up to the raw score. They are Shapley values (TreeSHAP), or, where there is no time for
those, what each tree's path says (see `path`).
Source: Lundberg et al., "Consistent Individualized Feature Attribution for Tree Ensembles" (2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
import numpy.typing as npt

from fraudstream.batch import Float64, Int64
from fraudstream.features import Catalog
from fraudstream.records import NOT_EXPLAINED, Group, Reason
from fraudstream.scoring.groups import group_of, group_words
from fraudstream.scoring.model import Model
from fraudstream.scoring.pipeline import Scored
from fraudstream.scoring.sentences import sentences_of
from fraudstream.words import Words


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one row has its score: base + contributions of the reasons + rest, and base + groups, are the raw score.

    Attributes:
        method: see `Alert`.
        language: of the texts.
    """

    reasons: list[Reason]
    groups: list[Group]
    base: float
    rest: float
    method: str
    language: str


@dataclass(frozen=True, slots=True)
class Rows:
    """What an explanation needs of rows.

    Attributes:
        X: [n, features of the catalogue].
        flag_bits: [n].
        currencies: of the transactions, None where one has none; of length n.
    """

    X: Float64
    flag_bits: npt.NDArray[np.uint8]
    currencies: Sequence[str | None]


def rows_of(scored: Scored, rows: Int64, currency: str) -> Rows:
    """Return some rows of a batch; `currency` is the field, or empty."""
    texts = scored.batch.texts[currency] if currency else None
    currencies = [None if texts is None else texts[row] for row in rows.tolist()]
    return Rows(np.ascontiguousarray(scored.X[rows]), scored.flag_bits[rows], currencies)


class Explainer:
    """Explains rows in one language.

    Attributes:
        currency: the field that has it; empty for none.

    Args:
        catalog: of the X that it is given.
        reasons_max: reasons of a row at most.
    """

    def __init__(self, catalog: Catalog, words: Words, reasons_max: int) -> None:
        self.currency = catalog.event.currency
        self._language = words.language
        self._reasons_max = reasons_max
        self._sentences = sentences_of(catalog, words)
        self._group_of = [group_of(feature, catalog.event) for feature in catalog.features]
        self._said = {group: group_words(group, words) for group in self._group_of}

    def explain(self, model: Model, rows: Rows, by_path: bool = False) -> list[Explanation]:
        """Explain rows; each is explained alike whoever is explained with it.

        Args:
            model: that scored them.
            by_path: only by the path, where the model has one.
        """
        if not len(rows.X):
            return []
        contributions = model.contributions(rows.X, by_path)
        of = _Shared(model, model.method(by_path), [self._group_of[i] for i in model.columns.tolist()])
        columns = (rows.X.tolist(), contributions, rows.flag_bits.tolist(), rows.currencies)
        return [self._explained(of, *row) for row in zip(*columns, strict=True)]

    def _explained(
        self, of: _Shared, x: list[float], parts: Float64, flag_bits: int, currency: str | None
    ) -> Explanation:
        reasons = []
        for i in np.argsort(-parts[:-1], kind="stable")[: self._reasons_max].tolist():
            if parts[i] <= 0:
                break
            column = of.columns[i]
            sentence, value = self._sentences[column], x[column]
            text, numbers = sentence.say(value, x, flag_bits, currency)
            reasons.append(
                Reason(
                    feature=sentence.feature,
                    value=None if isnan(value) else value,
                    contribution=float(parts[i]),
                    text=text,
                    group=self._group_of[column],
                    numbers=numbers,
                )
            )
        rest = float(parts[:-1].sum() - sum(reason.contribution for reason in reasons))
        return Explanation(
            reasons, self._groups(of, parts), float(parts[-1]), rest, of.method, self._language
        )

    def _groups(self, of: _Shared, parts: Float64) -> list[Group]:
        """Return the groups' sums, the highest first; none where nothing explains the model."""
        if of.method == NOT_EXPLAINED:
            return []
        sums = np.bincount(of.group_index, parts[:-1], len(of.groups)).tolist()
        ranked = sorted(zip(sums, of.groups, strict=True), key=lambda pair: -pair[0])
        return [Group(name=name, contribution=total, text=self._said[name]) for total, name in ranked]


class _Shared:
    """What all rows of a model share: how they are explained, its columns and their groups."""

    def __init__(self, model: Model, method: str, groups: list[str]) -> None:
        self.method = method
        self.columns = model.columns.tolist()
        self.groups = list(dict.fromkeys(groups))
        number = {group: i for i, group in enumerate(self.groups)}
        self.group_index = np.array([number[group] for group in groups], np.int64)
