"""--model-repository: a folder in the layout of Triton and TensorFlow Serving, followed or loaded by name."""

import json
import os
import shutil

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

import onnx_files as onnx
from conftest import wait_for

SMALL = onnx.tensor("w", [4, 2], [1, 0, 0, 1, 1, 0, 0, 1])
DOUBLE = onnx.tensor("w", [4, 2], [2, 0, 0, 2, 2, 0, 0, 2])
ROW = [[1, 2, 3, 4]]


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name("." + path.name)
    temporary.write_bytes(data if isinstance(data, bytes) else data.encode())
    os.replace(temporary, path)


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    put(folder / "m/1/model.onnx", onnx.linear(SMALL))
    return folder


@pytest.fixture
def start(new_server, models):
    def run(*more, mode="poll"):
        return new_server("--model-repository", models, "--model-control", mode, "--set", "serving.poll_interval=0.2", *more).start()

    return run


def client(server):
    return triton.InferenceServerClient(server.ready["http"])


def answer(server, model="m", version=""):
    given = triton.InferInput("x", [1, 4], "FP32")
    given.set_data_from_numpy(np.array(ROW, np.float32))
    return client(server).infer(model, [given], model_version=version).as_numpy("y").tolist()


def answers(server, wanted, **which):
    def condition():
        try:
            return answer(server, **which) == wanted
        except InferenceServerException:
            return False

    wait_for(f"the answer {wanted}", condition)


def index(server, model="m"):
    return [entry for entry in client(server).get_model_repository_index() if entry["name"] == model]


def reason(server, words, model="m"):
    """Waits for an entry of the index whose reason has these words."""

    def condition():
        found = [e for e in index(server, model) if e["state"] == "UNAVAILABLE" and all(word in e["reason"] for word in words)]
        return found and found[0]["reason"]

    return wait_for(f"a reason with {words}", condition)


def test_what_lies_there_is_served_when_the_server_is_ready(start, models):
    for path in models.rglob("*"):
        os.utime(path)
    server = start()
    answers(server, [[4, 6]])
    shown = server.cli("models", "show", "m", "--json").json
    assert shown["versions"][0]["source"] == f"repository {models}/m/1"
    server.stop()
    server.start()  # known files are served at once
    assert answer(server) == [[4, 6]]


def test_versions_that_appear_change_and_disappear_are_followed(start, models):
    server = start()
    answers(server, [[4, 6]])
    put(models / "m/3/model.onnx", onnx.linear(DOUBLE))
    answers(server, [[8, 12]])
    assert answer(server, version="3") == [[8, 12]]
    put(models / "m/3/model.onnx", onnx.linear(SMALL))
    answers(server, [[4, 6]], version="3")
    shutil.rmtree(models / "m/3")
    answers(server, [[4, 6]], version="1")
    wait_for("version 3 to go", lambda: not any(entry["version"] == "3" for entry in index(server)))
    put(models / "n/7/model.onnx", onnx.linear(DOUBLE))
    answers(server, [[8, 12]], model="n")
    shutil.rmtree(models / "m")
    wait_for("the model to go", lambda: index(server) == [])
    assert answer(server, model="n") == [[8, 12]]
    server.assert_well()


def test_a_half_copied_file_is_not_served(start, models):
    server = start()
    answers(server, [[4, 6]])
    whole = onnx.linear(DOUBLE)
    (models / "m/2").mkdir()
    (models / "m/2/model.onnx").write_bytes(whole[: len(whole) // 2])
    reason(server, ["cut short"])
    assert answer(server) == [[4, 6]]
    (models / "m/2/model.onnx").write_bytes(whole)
    answers(server, [[8, 12]])
    wait_for("the problem to go", lambda: all(entry["state"] == "READY" for entry in index(server) if entry["version"] == "2"))


def test_data_files_beside_the_model_come_with_it(start, models):
    put(models / "d/1/weights.bin", np.array([1, 0, 0, 1, 1, 0, 0, 1], np.float32).tobytes())
    put(models / "d/1/model.onnx", onnx.linear(onnx.external_tensor("w", [4, 2], location="weights.bin", length=32)))
    answers(start(), [[4, 6]], model="d")


def test_the_configuration_file_is_honoured_and_its_other_parts_are_named(start, models):
    put(models / "m/labels.txt", "cat\ndog\n")
    put(models / "m/config.pbtxt", """
        name: "m"  # as the folder
        platform: "onnxruntime_onnx"
        max_batch_size: 8
        input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
        output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" } ]
        dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }
        instance_group [ { count: 2 kind: KIND_CPU } ]
        optimization { execution_accelerators { cpu_execution_accelerator { name: "openvino" } } }
        """)
    server = start()
    answers(server, [[4, 6]])
    config = client(server).get_model_config("m")
    assert config["max_batch_size"] == 8
    assert config["dynamic_batching"]["preferred_batch_size"] == [4, 8]
    assert config["instance_group"][0]["count"] == 2
    wait_for("the warning", lambda: "m/config.pbtxt:9:9: optimization" in server.log_text())
    wanted = triton.InferRequestedOutput("y", class_count=1)
    given = triton.InferInput("x", [1, 4], "FP32")
    given.set_data_from_numpy(np.array(ROW, np.float32))
    best = client(server).infer("m", [given], outputs=[wanted]).as_numpy("y").ravel()[0].decode()
    assert best.endswith(":1:dog"), best


def test_the_version_policy_picks(start, models):
    put(models / "m/2/model.onnx", onnx.linear(DOUBLE))
    put(models / "m/config.pbtxt", "version_policy { specific { versions: [ 1 ] } }")
    server = start()
    answers(server, [[4, 6]])
    put(models / "m/config.pbtxt", "version_policy { all { } }")
    answers(server, [[8, 12]])
    assert answer(server, version="1") == [[4, 6]]


WRONG = {
    "syntax": ("max_batch_size: 8\ninput [ {\n", ["m/config.pbtxt:3:1:", "'}' is missing"]),
    "value": ("name: 'm'\nmax_batch_size: many", ["m/config.pbtxt:2:17: max_batch_size"]),
    "name": ("name: 'other'", ["name is 'other'", "the folder is 'm'"]),
    "dims": ("max_batch_size: 4\ninput { name: 'x' dims: [ 5 ] }", ["config.pbtxt:2:25: input.dims of 'x' is [5]", "[-1,4]"]),
    "type": ("output { name: 'y' data_type: TYPE_INT64 }", ["output.data_type of 'y' is INT64", "FP32"]),
    "tensor": ("input { name: 'z' }", ["no input 'z'", "it has 'x'"]),
    "backend": ("backend: 'python'", ["backend is 'python'", "not supported", "onnxruntime"]),
    "ensemble": ("platform: 'ensemble' ensemble_scheduling { step [ { model_name: 'a' } ] }", ["ensembles cannot be served"]),
    "labels": ("output { name: 'y' label_filename: '../../server/data/tandem.db' }", ["label_filename", "without a folder"]),
    "file": ("default_model_filename: '../../x.onnx'", ["default_model_filename", "name of a file"]),
    "bytes": (b"name: '\xff\xfe'", ["UTF-8"]),
}


def test_a_wrong_configuration_file_is_named_and_harms_nobody(start, models):
    put(models / "good/1/model.onnx", onnx.linear(SMALL))
    server = start()
    answers(server, [[4, 6]])
    for text, words in WRONG.values():
        put(models / "m/config.pbtxt", text)
        reason(server, words)
        assert answer(server) == [[4, 6]] and answer(server, model="good") == [[4, 6]]
    (models / "m/config.pbtxt").unlink()
    wait_for("the problem to go", lambda: all(entry["state"] == "READY" for entry in index(server)))
    server.assert_well()


def test_odd_files_and_links_are_refused_by_name(start, models, tmp_path):
    secret = tmp_path / "secret.onnx"
    secret.write_bytes(onnx.linear(SMALL))
    (models / "link/1").mkdir(parents=True)
    (models / "link/1/model.onnx").symlink_to(secret)
    (models / "loop/1").mkdir(parents=True)
    (models / "loop/1/again").symlink_to(".")
    (models / "pipe/1").mkdir(parents=True)
    os.mkfifo(models / "pipe/1/model.onnx")
    (models / "whole").symlink_to("/")
    (models / "lost").symlink_to("nowhere")
    put(models / "text/1/model.onnx", "I am no model")
    put(models / "script/1/model.py", "print('hello')")
    (models / "none").mkdir()
    server = start()
    for model, words in {"link": ["link out of the repository"], "loop": ["folders deep"], "pipe": ["neither a file nor a folder"],
                         "whole": ["link out of the repository"], "lost": ["leads nowhere"], "text": ["not an ONNX file"],
                         "script": ["no model.onnx", "model.py"], "none": ["no folder of a version"]}.items():
        reason(server, words, model)
    answers(server, [[4, 6]])
    checks = {check["name"]: check for check in server.cli("doctor", "--json", check=False).json["checks"]}
    assert checks["model repository"]["state"] == "warning"
    server.assert_well()


def test_a_model_that_was_imported_by_hand_stays_as_it_is(start, models, tmp_path):
    server = start()
    mine = tmp_path / "mine.onnx"
    mine.write_bytes(onnx.linear(DOUBLE))
    server.cli("models", "import", "mine", mine)
    server.cli("models", "deploy", "mine")
    put(models / "mine/1/model.onnx", onnx.linear(SMALL))
    reason(server, ["not from the repository", "mine.onnx"], "mine")
    assert answer(server, model="mine") == [[8, 12]]


def test_a_model_is_deleted_by_its_folder(start, models):
    server = start()
    answers(server, [[4, 6]])
    for name in ("m", "m/1"):
        refused = server.cli("models", "delete", name, check=False)
        assert refused.code == 5 and f"remove its folder '{models / 'm' / '1'}'" in refused.err, refused.err
    assert answer(server) == [[4, 6]]
    shutil.rmtree(models / "m")
    wait_for("the model to go", lambda: index(server) == [])


def test_explicit_models_are_loaded_and_unloaded_by_name(start, models):
    put(models / "n/1/model.onnx", onnx.linear(DOUBLE))
    server = start(mode="explicit")
    reason(server, ["not loaded"])
    with pytest.raises(InferenceServerException):
        answer(server)
    client(server).load_model("m")
    assert answer(server) == [[4, 6]]
    reason(server, ["not loaded"], "n")
    put(models / "m/2/model.onnx", onnx.linear(DOUBLE))
    client(server).load_model("m")
    assert answer(server) == [[8, 12]]
    client(server).unload_model("m")
    wait_for("the model to go", lambda: not client(server).is_model_ready("m"))
    reason(server, ["unloaded"])
    client(server).load_model("m", config=json.dumps({"max_batch_size": 4}))
    assert client(server).get_model_config("m")["max_batch_size"] == 4
    for name in ("nothing", "../m", "m/1"):
        with pytest.raises(InferenceServerException):
            client(server).load_model(name)
    put(models / "bad/1/model.onnx", "no model")
    with pytest.raises(InferenceServerException, match="not an ONNX file"):
        client(server).load_model("bad")
    server.assert_well()


def test_a_repository_that_is_not_there_is_refused_at_the_start(new_server, tmp_path):
    server = new_server("--model-repository", tmp_path / "nowhere").start(wait=False)
    assert server.process.wait(20) != 0
    assert "--model-repository" in server.log_text() and "No such file" in server.log_text()
