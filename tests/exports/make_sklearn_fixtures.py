#!/usr/bin/env python3
"""Makes tests/exports/engines/*.onnx: models of scikit-learn as skl2onnx exports them, and what scikit-learn computes.

The results are kept in the repository (tests/blackbox/test_engines.py reads them). Run it by hand for new versions:

    python3 -m venv /tmp/venv
    /tmp/venv/bin/pip install scikit-learn==1.9.1 skl2onnx==1.20.0 onnx==1.22.0
    /tmp/venv/bin/python tests/exports/make_sklearn_fixtures.py [--out DIR]

What it writes:
    trees.onnx      gradient-boosted trees, 3 classes; logistic.onnx: logistic regression; trees.npz, logistic.npz: x, probabilities
    zipmap.onnx     the same regression exported without options: its second output is a sequence of maps
    words.onnx      two columns of text in, the label as text out; words.json: rows, labels, probabilities
"""

import argparse
import json
import pathlib

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

PLAIN = {"zipmap": False}


def make_samples():
    random = np.random.default_rng(1)
    x = random.standard_normal((200, 4)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(np.int64) + (x[:, 3] > 1)


def make_numbers(out):
    x, y = make_samples()
    for name, estimator in (("trees", GradientBoostingClassifier(n_estimators=8, max_depth=3, random_state=1)), ("logistic", LogisticRegression())):
        estimator.fit(x, y)
        model = to_onnx(estimator, x[:1], options={id(estimator): PLAIN}, target_opset=17)
        (out / f"{name}.onnx").write_bytes(model.SerializeToString())
        np.savez(out / f"{name}.npz", x=x[:20], probabilities=estimator.predict_proba(x[:20]))
        if name == "logistic":
            (out / "zipmap.onnx").write_bytes(to_onnx(estimator, x[:1], target_opset=17).SerializeToString())


def make_words(out):
    rows = [[colour, size] for colour in ("red", "green", "blue") for size in ("small", "grün \0 groß", "")]
    labels = ["ja" if row[0] == "red" or row[1] == "small" else "nein" for row in rows]
    pipeline = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(C=10))
    pipeline.fit(np.array(rows, dtype=object), labels)
    options = {id(pipeline): PLAIN}
    model = to_onnx(pipeline, initial_types=[("words", StringTensorType([None, 2]))], options=options, target_opset=17)
    (out / "words.onnx").write_bytes(model.SerializeToString())
    rows.append(["unheard of", "small"])
    table = np.array(rows, dtype=object)
    answers = {"rows": rows, "labels": pipeline.predict(table).tolist(), "probabilities": pipeline.predict_proba(table).tolist()}
    (out / "words.json").write_text(json.dumps(answers, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "engines")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    make_numbers(out)
    make_words(out)


if __name__ == "__main__":
    main()
