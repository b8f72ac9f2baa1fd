"""The ways to score LightGBM's trees that `benchmarks.scoring` puts side by side, each on one thread."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from benchmarks.scoring_models import Made
from benchmarks.scoring_turns import Contender
from fraudstream.batch import Float64
from fraudstream.scoring.forest import compile_forest

INSTALL = "pip install onnxruntime onnxmltools tl2cgen treelite"
PACKAGES = ("onnxruntime", "onnxmltools", "onnx", "tl2cgen", "treelite")
RAW_SCORE, FLOAT64 = 1, 1  # LightGBM's C_API_PREDICT_RAW_SCORE and C_API_DTYPE_FLOAT64
SOURCES = 16  # C files for tl2cgen's trees: one for all takes the compiler longer, and is no faster


class LeftOut(Exception):  # noqa: N818  # not an error: the others are measured
    """Why a contender is not measured."""


def contenders_of(made: Made, folder: Path) -> tuple[dict[str, Contender], dict[str, str]]:
    """Return the contenders, and why others are left out."""
    makers: dict[str, Callable[[Made, Path], Contender]] = {
        "forest": of_forest,
        "booster": of_booster,
        "single_row_fast": of_single_row_fast,
        "onnxruntime": of_onnxruntime,
        "tl2cgen": of_tl2cgen,
    }
    contenders, left_out = {}, {}
    for name, maker in makers.items():
        try:
            contenders[name] = maker(made, folder)
        except LeftOut as reason:
            left_out[name] = str(reason)
    return contenders, left_out


def optional(*names: str) -> tuple[Any, ...]:
    """Import packages that are installed for the benchmark only."""
    try:
        return tuple(import_module(name) for name in names)
    except ImportError as error:
        raise LeftOut(f"{error}; {INSTALL}") from None


def of_forest(made: Made, folder: Path) -> Contender:
    """Return the project's compiled forest."""
    return Contender(compile_forest(made.trees).raw_scores)


def of_booster(made: Made, folder: Path) -> Contender:
    """Return LightGBM as one calls it from Python."""
    booster = made.booster
    return Contender(lambda X: booster.predict(X, raw_score=True, num_threads=1))


def of_single_row_fast(made: Made, folder: Path) -> Contender:
    """Return LightGBM's C call for one row; what does not change between rows is set up before."""
    library, fast = lightgbm.basic._LIB, ctypes.c_void_p()
    failed = library.LGBM_BoosterPredictForMatSingleRowFastInit(
        made.booster._handle, RAW_SCORE, 0, 0, FLOAT64, made.trees.features, b"num_threads=1",
        ctypes.byref(fast),
    )  # fmt: skip
    assert not failed, library.LGBM_GetLastError()
    call, score, length = library.LGBM_BoosterPredictForMatSingleRowFast, np.empty(1), ctypes.c_int64()
    to, length_to = ctypes.c_void_p(score.ctypes.data), ctypes.byref(length)

    def answer(row: ctypes.c_void_p) -> Float64:
        call(fast, row, length_to, to)
        return score

    return Contender(answer, lambda X: ctypes.c_void_p(X.ctypes.data), rows_max=1)


def of_onnxruntime(made: Made, folder: Path) -> Contender:
    """Return ONNX Runtime with the model converted to a sum of trees, so that it gives raw scores too."""
    onnxruntime, onnxmltools = optional("onnxruntime", "onnxmltools")
    (data_types,) = optional("onnxmltools.convert.common.data_types")
    text = made.text.replace("objective=binary sigmoid:1", "objective=regression")
    text = text.replace("[objective: binary]", "[objective: regression]")
    converted = onnxmltools.convert_lightgbm(
        lightgbm.Booster(model_str=text),
        initial_types=[("X", data_types.FloatTensorType([None, made.trees.features]))],
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        converted.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return Contender(lambda given: session.run(None, given)[0], lambda X: {"X": X.astype(np.float32)})


def of_tl2cgen(made: Made, folder: Path) -> Contender:
    """Return the trees as C, compiled; with `quantize`, which was the faster of its two ways for these models."""
    treelite, tl2cgen = optional("treelite", "tl2cgen")
    if shutil.which("gcc") is None:
        raise LeftOut("tl2cgen needs gcc, which is not there")
    source, library = folder / "tl2cgen.txt", folder / "tl2cgen.so"
    source.write_text(made.text, "utf-8")
    model = treelite.frontend.load_lightgbm_model(str(source))
    parameters = {"quantize": 1, "parallel_comp": SOURCES}
    tl2cgen.export_lib(model, toolchain="gcc", libpath=str(library), params=parameters, nthread=1)
    predictor = tl2cgen.Predictor(str(library), nthread=1)
    return Contender(lambda rows: predictor.predict(rows, pred_margin=True), tl2cgen.DMatrix)
