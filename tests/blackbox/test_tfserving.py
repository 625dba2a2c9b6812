"""TensorFlow Serving's interfaces as its clients use them, and TensorFlow's own files served as they are.

gRPC messages are made from what the server's reflection says of them. Models are written by the real TensorFlow, which
lives in a Python environment of its own (it is large): made under TANDEM_FULL=1, used where it is there.
"""

import io
import json
import math
import pathlib
import re
import subprocess
import sys
import tarfile

import grpc
import numpy as np
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import onnx_files as onnx
from conftest import FULL

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "perf"))
import perf_analyzer  # noqa: E402

TENSORFLOW = pathlib.Path.home() / ".cache/tandem/tensorflow-venv"
ROWS, SUMS = [[1, 2, 3, 4], [0.5, 0, 0.25, 1]], [[4, 6], [0.75, 1]]


@pytest.fixture(scope="module")
def serving(shared, tmp_path_factory):
    """The shared daemon with the model good, x [N, 4] -> y [N, 2]."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "good.onnx").write_bytes(onnx.linear(onnx.tensor("w", [4, 2], [1, 0, 0, 1, 1, 0, 0, 1])))
    shared.cli("models", "import", "good", folder / "good.onnx")
    shared.cli("models", "deploy", "good")
    shared.cli("models", "alias", "good", "stable", "1")
    return shared


@pytest.fixture
def ask(serving):
    def ask(method, path, body=None):
        code, answer = serving.request(method, "/v1/models/" + path, body)
        return code, json.loads(answer)

    yield ask
    serving.assert_well()


class Grpc:
    def __init__(self, channel):
        self.channel, self.pool = channel, DescriptorPool(ProtoReflectionDescriptorDatabase(channel))

    def message(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))

    def call(self, service, verb, **fields):
        method = self.pool.FindServiceByName("tensorflow.serving." + service).FindMethodByName(verb)
        request, answer = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
        call = self.channel.unary_unary(f"/tensorflow.serving.{service}/{verb}", request.SerializeToString, answer.FromString)
        return call(request(**fields), timeout=60)


@pytest.fixture
def tf_grpc(serving):
    with grpc.insecure_channel(serving.ready["grpc"]) as channel:
        yield Grpc(channel)
    serving.assert_well()


# --- REST ---

@pytest.mark.parametrize("path", ["good", "good/versions/1", "good/labels/stable"])
def test_rows_and_columns_are_predicted(ask, path):
    assert ask("POST", path + ":predict", {"instances": ROWS}) == (200, {"predictions": SUMS})
    assert ask("POST", path + ":predict", {"instances": [{"x": row} for row in ROWS]}) == (200, {"predictions": SUMS})
    assert ask("POST", path + ":predict", {"inputs": ROWS, "signature_name": "serving_default"}) == (200, {"outputs": SUMS})
    assert ask("POST", path + ":predict", {"inputs": {"x": ROWS}}) == (200, {"outputs": SUMS})


def test_numbers_that_json_has_not_go_both_ways(ask):
    code, answer = ask("POST", "good:predict", {"instances": [[math.nan, 1, 1, 1], [0, math.inf, 0, 1], [-math.inf, 0, 0, 1]]})
    assert code == 200
    (nan, _), (_, inf), (minus, _) = answer["predictions"]
    assert math.isnan(nan) and inf == math.inf and minus == -math.inf


def test_the_state_and_the_signature_are_told(ask, serving):
    code, state = ask("GET", "good")
    assert code == 200 and state["ready"] is True and state["name"] == "good"
    assert state["model_version_status"] == [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]
    assert ask("GET", "good/labels/stable")[0] == ask("GET", "good/versions/1")[0] == 200
    code, metadata = ask("GET", "good/metadata")
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in signature["outputs"]["y"]["tensor_shape"]["dim"]] == ["-1", "2"]
    assert json.loads(serving.request("GET", "/")[1]) == {"status": "alive"}


@pytest.mark.parametrize("method, path, body, code, message", [
    ("POST", "good:classify", {"examples": [{"x": 1}]}, 501, "':predict'"),
    ("POST", "good:regress", {}, 501, "':predict'"),
    ("POST", "good:train", {}, 404, "there is ':predict'"),
    ("POST", "nope:predict", {"instances": [1]}, 404, "model 'nope' is not served"),
    ("POST", "good/versions/9:predict", {"instances": [1]}, 404, "version or alias '9'"),
    ("POST", "good/labels/other:predict", {"instances": [1]}, 404, "other"),
    ("GET", "good/versions/9", None, 404, "9"),
    ("POST", "good:predict", b"{", 400, "not JSON"),
    ("POST", "good:predict", {"instances": [[1, 2, 3]]}, 400, "x"),
    ("POST", "good:predict", {"instances": [[1, 2, 3, "a"]]}, 400, "a text"),
    ("POST", "good:predict", {"instances": [[1, 2, 3, 4], [1]]}, 400, "1 entries"),
    ("POST", "good:predict", {"instances": [{"z": 1}]}, 400, "no input 'z'"),
    ("POST", "good:predict", {"instances": [{}]}, 400, "x"),
    ("POST", "good:predict", {"instances": ROWS, "signature_name": "other"}, 400, "'other'"),
])
def test_mistakes_are_named(ask, method, path, body, code, message):
    got, answer = ask(method, path, body)
    assert got == code, answer
    assert message in answer["error"]


# --- gRPC ---

def float_tensor(tf_grpc, rows, **fields):
    shape = {"dim": [{"size": size} for size in np.shape(rows)]}
    return tf_grpc.message("tensorflow.TensorProto")(dtype="DT_FLOAT", tensor_shape=shape, **fields)


def test_predict_takes_bytes_and_lists(tf_grpc):
    values = np.array(ROWS, np.float32)
    for fields in ({"tensor_content": values.tobytes()}, {"float_val": values.flatten()}):
        for spec in ({}, {"version": {"value": 1}}, {"version_label": "stable", "signature_name": "serving_default"}):
            answer = tf_grpc.call("PredictionService", "Predict", model_spec={"name": "good", **spec},
                                  inputs={"x": float_tensor(tf_grpc, ROWS, **fields)})
            assert answer.model_spec.version.value == 1
            assert np.reshape(answer.outputs["y"].float_val, (2, 2)).tolist() == SUMS


def test_metadata_and_status_are_told(tf_grpc):
    answer = tf_grpc.call("PredictionService", "GetModelMetadata", model_spec={"name": "good"}, metadata_field=["signature_def"])
    signatures = tf_grpc.message("tensorflow.serving.SignatureDefMap").FromString(answer.metadata["signature_def"].value)
    assert signatures.signature_def["serving_default"].inputs["x"].tensor_shape.dim[1].size == 4
    status = tf_grpc.call("ModelService", "GetModelStatus", model_spec={"name": "good"}).model_version_status
    assert [(one.version, one.state) for one in status] == [(1, 30)]


@pytest.mark.parametrize("code, message, fields", [
    ("NOT_FOUND", "model 'nope' is not served", {"model_spec": {"name": "nope"}}),
    ("NOT_FOUND", "9", {"model_spec": {"name": "good", "version": {"value": 9}}}),
    ("INVALID_ARGUMENT", "other", {"model_spec": {"name": "good", "signature_name": "other"}}),
    ("INVALID_ARGUMENT", "model_spec.name", {}),
    ("INVALID_ARGUMENT", "x", {"model_spec": {"name": "good"}}),
])
def test_mistakes_have_their_codes(tf_grpc, code, message, fields):
    with pytest.raises(grpc.RpcError) as error:
        tf_grpc.call("PredictionService", "Predict", **fields)
    assert error.value.code().name == code, error.value.details()
    assert message in error.value.details()


def test_perf_analyzer_runs_in_its_tfserving_mode(serving):
    program, environment = perf_analyzer.find()
    if program is None:
        pytest.skip(environment)
    command = [program, "-m", "good", "--service-kind", "tfserving", "-i", "grpc", "-u", serving.ready["grpc"], "-b", "1",
               "--shape", "x:4", "--measurement-mode", "count_windows", "--measurement-request-count", "50", "--stability-percentage", "999"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(re.search(r"Throughput: ([0-9.]+)", done.stdout)[1]) > 0
    serving.assert_well()


# --- TensorFlow's files ---

@pytest.fixture(scope="module")
def tensorflow_models(tmp_path_factory):
    python = TENSORFLOW / "bin/python"
    if not python.exists():
        if not FULL:
            pytest.skip(f"TensorFlow is not in {TENSORFLOW}; TANDEM_FULL=1 installs it")
        subprocess.run([sys.executable, "-m", "venv", TENSORFLOW], check=True)
        installed = subprocess.run([TENSORFLOW / "bin/pip", "install", "--quiet", "tensorflow-cpu"], capture_output=True, text=True)
        if installed.returncode != 0:
            subprocess.run(["rm", "-rf", TENSORFLOW], check=True)
            pytest.skip(f"TensorFlow does not install here: {installed.stderr[-500:]}")
    folder = tmp_path_factory.mktemp("tensorflow")
    made = subprocess.run([python, pathlib.Path(__file__).parent / "tensorflow_files.py", folder], capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr[-3000:]
    return folder


def deploy(server, name, file):
    server.cli("models", "import", name, file)
    server.cli("models", "deploy", name)


@pytest.mark.parametrize("file", ["saved_model", "w.tflite", "frozen.pb"])
def test_files_of_tensorflow_are_served_as_they_are(ask, serving, tensorflow_models, file):
    name = "tf-" + file.replace(".", "-")
    deploy(serving, name, tensorflow_models / file)
    assert ask("POST", name + ":predict", {"instances": ROWS}) == (200, {"predictions": SUMS})
    code, metadata = serving.request("GET", f"/v2/models/{name}")
    assert code == 200 and [tensor["shape"] for tensor in json.loads(metadata)["inputs"]] == [[-1, 4]]


def test_inputs_and_outputs_go_by_name(ask, serving, tensorflow_models):
    deploy(serving, "pair", tensorflow_models / "named")
    rows = [{"a": 2, "b": 3}, {"b": 4, "a": 5}]
    assert ask("POST", "pair:predict", {"instances": rows}) == (200, {"predictions": [{"sum": 5, "product": 6}, {"sum": 9, "product": 20}]})
    assert ask("POST", "pair:predict", {"inputs": {"a": [1], "b": [2]}}) == (200, {"outputs": {"sum": [3], "product": [2]}})


def test_the_same_folder_is_stored_once_and_comes_back(serving, tensorflow_models, tmp_path):
    versions = [serving.cli("models", "import", "twice", tensorflow_models / "saved_model", "--json").json for _ in range(2)]
    assert versions[0]["sha256"] == versions[1]["sha256"] and versions[1]["version"] == 2
    serving.cli("models", "export", "twice", "--out", tmp_path / "model.tar")
    with tarfile.open(tmp_path / "model.tar") as tar:
        assert tar.extractfile("saved_model.pb").read() == (tensorflow_models / "saved_model/saved_model.pb").read_bytes()


def test_training_does_not_start_from_them(serving, tensorflow_models, squares, spec):
    serving.cli("models", "import", "start", tensorflow_models / "saved_model")
    serving.cli("dataset", "add", "squares", squares)
    refused = serving.cli("train", spec(model={"from": "start"}), check=False)
    assert refused.code != 0 and "TensorFlow model (savedmodel)" in refused.err and "ONNX" in refused.err


def test_they_are_served_again_after_a_restart(new_server, tensorflow_models):
    server = new_server().start()
    deploy(server, "flowers", tensorflow_models / "saved_model")
    server.kill()
    server.start()
    code, answer = server.request("POST", "/v1/models/flowers:predict", {"instances": ROWS})
    assert (code, json.loads(answer)) == (200, {"predictions": SUMS})


def entry(name, data=b"x", kind=tarfile.REGTYPE, link=""):
    made = tarfile.TarInfo(name)
    made.size, made.type, made.linkname = len(data), kind, link
    return made, data


@pytest.mark.parametrize("entries, message", [
    ([entry("../../escaped")], "leads out"),
    ([entry("/tmp/escaped")], "absolute name"),
    ([entry("saved_model.pb", b"", tarfile.SYMTYPE, "/etc/passwd")], "is a link"),
    ([entry("saved_model.pb", b"", tarfile.LNKTYPE, "/etc/passwd")], "is a link"),
    ([entry("saved_model.pb", b"", tarfile.CHRTYPE)], "is a device"),
    ([entry("README", b"no model")], "no saved_model.pb"),
    ([entry("saved_model.pb", b"no graph" * 100)], "failed"),
])
def test_hostile_archives_are_refused(serving, entries, message):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for made, data in entries:
            tar.addfile(made, io.BytesIO(data) if data else None)
    code, answer = serving.request("POST", "/api/v1/models/hostile/versions?source=model.tar", archive.getvalue())
    assert code == 400 and message in json.loads(answer)["error"], answer
    assert not pathlib.Path("/tmp/escaped").exists()
    assert not list((serving.folder / "data/run").glob("import-*")), "nothing is left behind"
    serving.assert_well()


@pytest.mark.parametrize("content", [b"\x1c\0\0\0TFL3" + b"\xff" * 500, b"\x0a\xff\xff\xff\x0f" + b"\0" * 500, b"\x0a"])
def test_damaged_files_are_refused(serving, tmp_path, content):
    (tmp_path / "model.tflite").write_bytes(content)
    refused = serving.cli("models", "import", "damaged", tmp_path / "model.tflite", check=False)
    assert refused.code != 0 and "import of" in refused.err
    assert serving.cli("models", "show", "damaged", check=False).code != 0
    serving.assert_well()


def test_a_folder_that_is_no_saved_model_is_refused(serving, tmp_path):
    refused = serving.cli("models", "import", "folder", tmp_path, check=False)
    assert refused.code != 0 and "saved_model.pb" in refused.err
