#!/usr/bin/env python3
"""Makes tests/exports/engines/tensorflow: one small network in each of TensorFlow's file formats, and its answers.

The results are kept in the repository (tests/blackbox/test_engines.py reads them). Run it by hand for new versions:

    python3 -m venv /tmp/venv
    /tmp/venv/bin/pip install tensorflow-cpu==2.21.0
    /tmp/venv/bin/python tests/exports/make_tensorflow_fixtures.py [--out DIR]

What it writes:
    saved_model/    a SavedModel with variables; frozen.pb: the same as a frozen graph; lite.tflite: for TensorFlow Lite
    answers.npz     x, y: the network's answers
"""

import argparse
import os
import pathlib
import shutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2  # noqa: E402


class Network(tf.Module):
    def __init__(self):
        super().__init__()
        random = np.random.default_rng(1)
        self.weight = tf.Variable(random.standard_normal((4, 3)).astype(np.float32))
        self.bias = tf.Variable(random.standard_normal(3).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": tf.nn.softmax(tf.matmul(tf.tanh(x), self.weight) + self.bias)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "engines/tensorflow")
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    network = Network()
    saved = out / "saved_model"
    tf.saved_model.save(network, str(saved), signatures=network.__call__)
    (out / "lite.tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(saved)).convert())
    frozen = convert_variables_to_constants_v2(network.__call__.get_concrete_function())
    (out / "frozen.pb").write_bytes(frozen.graph.as_graph_def().SerializeToString())
    x = np.random.default_rng(2).standard_normal((5, 4)).astype(np.float32)
    np.savez(out / "answers.npz", x=x, y=network(tf.constant(x))["y"].numpy())


if __name__ == "__main__":
    main()
