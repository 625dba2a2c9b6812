"""Run by the Python that has TensorFlow: writes models with known answers into the folder that it is given.

saved_model/  x [N, 4] -> y [N, 2] = x @ W        w.tflite, frozen.pb  the same        named/  a, b [N] -> sum, product
"""

import pathlib
import sys

import tensorflow as tf

WEIGHTS = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]


class Linear(tf.Module):
    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(WEIGHTS)

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": tf.linalg.matmul(x, self.weights)}


class Pair(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="a"), tf.TensorSpec([None], tf.float32, name="b")])
    def __call__(self, a, b):
        return {"sum": a + b, "product": a * b}


def main(folder):
    linear, pair = Linear(), Pair()
    tf.saved_model.save(linear, str(folder / "saved_model"), signatures=linear.__call__.get_concrete_function())
    tf.saved_model.save(pair, str(folder / "named"), signatures=pair.__call__.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved_model"))
    (folder / "w.tflite").write_bytes(converter.convert())
    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder(tf.float32, [None, 4], "x")
        tf.linalg.matmul(x, tf.constant(WEIGHTS), name="y")
    (folder / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())


main(pathlib.Path(sys.argv[1]))
