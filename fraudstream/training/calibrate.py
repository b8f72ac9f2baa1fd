"""Raw scores and outcomes -> a probability that rises with the score, so that no two scores share one.

Isotonic regression is a step function: scores of one step would tie, and a ranking by probability would be worse than
one by raw score. Here the centre of each step is a knot, with straight lines between.

Source: Oron and Flournoy, "Centered Isotonic Regression", Statistics in Biopharmaceutical Research 9 (2017).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

from fraudstream.batch import Float64
from fraudstream.scoring.model import Knots

NEVER, ALWAYS = -100.0, 100.0  # log odds beyond those of any model: probability 0 and 1


def calibrated(raw: Float64, fraud: npt.NDArray[np.bool_]) -> Knots:
    """Return the share of fraud as a strictly rising function of the raw score.

    Args:
        raw: [n] log odds between NEVER and ALWAYS; fraud: [n] with both classes.

    Steps without fraud join the next that has some, those of fraud alone the one before: a probability of 0 or 1
    is never said for certain.
    """
    steps = IsotonicRegression().fit_transform(raw, fraud.astype(np.float64))
    levels, step = np.unique(steps, return_inverse=True)
    lowest, highest = int(levels[0] == 0.0), len(levels) - 1 - int(levels[-1] == 1.0)
    step = np.clip(step, lowest, max(lowest, highest))
    rows = np.bincount(step)
    kept = rows > 0
    x = np.bincount(step, raw)[kept] / rows[kept]
    y = np.bincount(step, fraud)[kept] / rows[kept]
    return Knots([NEVER, *x.tolist(), ALWAYS], [0.0, *y.tolist(), 1.0])
