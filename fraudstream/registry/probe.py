"""The child process that loads a candidate: `python -m fraudstream.registry.probe FOLDER`.

It may die of what it loads; that is what it is for. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lightgbm as lgb
import numpy as np

from fraudstream.errors import ModelError
from fraudstream.registry.bundle import read_bundle, read_golden


def probe(folder: Path) -> dict[str, object]:
    """Load the bundle's model and score its golden rows."""
    _, parts = read_bundle(folder)
    booster = lgb.Booster(model_str=parts.booster_text)
    problems = []
    if booster.feature_name() != list(parts.feature_names):
        problems.append(f"{folder / 'booster.txt'}: has other features than bundle.json")
    try:
        golden = read_golden(folder, parts.feature_names)
    except ModelError as error:
        return {"golden_rows": 0, "problems": [*problems, str(error)]}
    raw = booster.predict(golden.X, raw_score=True, num_threads=1)
    differing = int((raw != golden.raw).sum()) if len(raw) == len(golden.raw) else len(golden.raw)
    if differing or not np.isfinite(raw).all():
        problems.append(f"{folder / 'golden.parquet'}: {differing} of {len(raw)} rows score otherwise")
    return {"golden_rows": len(raw), "problems": problems}


if __name__ == "__main__":
    print(json.dumps(probe(Path(sys.argv[1]))))
