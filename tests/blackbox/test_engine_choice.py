"""`serving.engine: auto`: every engine is measured, the best one serves, and nobody notices the change."""

import json
import subprocess
import threading
import time

import numpy as np
import onnx_files as onnx
import pytest
from conftest import BIN, wait_for
from test_engines import FIXTURES

SHAPE = (3, 16, 16)


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "cnn.onnx"
    subprocess.run([BIN / "tandem-engine-host", "model", "new", "--arch", "resnet8", "--input", "x".join(map(str, SHAPE)), "--classes", "10",
                    "--out", path], check=True, timeout=60)
    return path


@pytest.fixture
def auto(new_server):
    return new_server("--set", "serving.engine=auto").start()


def version_of(server, name="m", number=1):
    return server.cli("models", "show", name, "--json").json["versions"][number - 1]


def report_of(version):
    return json.loads(version["engine_report"]) if version.get("engine_report") else None


def measured(server, name="m", accept=lambda report: True):
    """The version once it is served by the engine that was chosen."""

    def settled():
        version = version_of(server, name)
        report = report_of(version)
        return version if report and accept(report) and version["state"] == "READY" and version["engine"] == report["chosen"] else None

    return wait_for(f"{name} to be measured and served", settled, 180)


def rows(report):
    return {row["engine"]: row for row in report["engines"]}


def ask(server, name="m", seed=0):
    image = np.random.default_rng(seed).random((1, *SHAPE), dtype=np.float32)
    body = {"inputs": [{"name": "input", "shape": [1, *SHAPE], "datatype": "FP32", "data": image.ravel().tolist()}]}
    status, answer = server.request("POST", f"/v2/models/{name}/infer", body)
    return status, np.array(json.loads(answer)["outputs"][0]["data"]) if status == 200 else answer


class Asking:
    """Requests from a thread, some 50 a second: what is measured behind them has the lowest class, and needs a turn."""

    def __init__(self, server):
        self.server, self.answers, self.stop = server, [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop.wait(0.02):
            self.answers.append(ask(self.server))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def test_a_model_is_served_at_once_then_by_the_engine_that_was_measured_best(auto, cnn):
    auto.cli("models", "import", "m", cnn)
    auto.cli("models", "configure", "m", "--set", "engine=torch")  # so that the engine changes in any case
    auto.cli("models", "deploy", "m")
    assert version_of(auto)["engine"] == "torch" and not report_of(version_of(auto)), "an engine that is named is not measured"
    with Asking(auto) as asking:
        auto.cli("models", "configure", "m", "--set", "engine=auto")
        version = measured(auto)
        seen = len(asking.answers)
        wait_for("more answers", lambda: len(asking.answers) >= seen + 20)
    assert [status for status, _ in asking.answers if status != 200] == []
    expected = asking.answers[0][1]
    assert all(np.abs(answer - expected).max() < 1e-4 for _, answer in asking.answers)

    report = report_of(version)
    engines = rows(report)
    assert engines.keys() == {"torch", "openvino", "onnxruntime"}
    assert all(row["ok"] and row["latency_ms"]["1"] > 0 for row in engines.values()), report
    assert all(0 <= engines[name]["max_difference"] < 1e-4 for name in ("openvino", "onnxruntime"))
    assert report["reference"] == "interpreter" and report["samples"] == "made"
    assert report["chosen"] == version["engine"] and report["why"]
    text = auto.cli("models", "show", "m").out
    assert "engines measured" in text and "chosen" in text and "the reference" in text and report["why"] in text
    derived = next((auto.folder / "data/artifacts/derived").iterdir())
    wait_for("what lost to be removed", lambda: [path.name for path in derived.iterdir()] == [f"{report['chosen']}-f32"])

    auto.stop()
    log = len(auto.log_text())
    auto.start()
    assert version_of(auto)["engine"] == report["chosen"], "from the start"
    assert ask(auto)[0] == 200
    # Another model, measured after it, shows that the thread has passed over this one.
    auto.cli("models", "import", "n", cnn)
    auto.cli("models", "deploy", "n")
    measured(auto, "n")
    assert report_of(version_of(auto)) == report
    assert auto.log_text()[log:].count("engine chosen") == 1


def test_what_the_default_engine_cannot_serve_is_served_by_one_that_can(auto):
    auto.cli("models", "import", "m", FIXTURES / "words.onnx")
    auto.cli("models", "deploy", "m")
    version = version_of(auto)
    assert version["engine"] == "onnxruntime" and version["state"] == "READY"
    report = report_of(version)
    assert report["chosen"] == "onnxruntime" and report["why"] == "the only one that serves it"
    assert report["reference"] == "onnxruntime" and "the interpreter does not run it" in report["note"]
    assert all(rows(report)[name]["error"] for name in ("openvino", "torch"))
    answers = json.loads((FIXTURES / "words.json").read_text())
    texts = [text for row in answers["rows"] for text in row]
    body = {"inputs": [{"name": "words", "shape": [len(answers["rows"]), 2], "datatype": "BYTES", "data": texts}]}
    status, answer = auto.request("POST", "/v2/models/m/infer", body)
    assert status == 200, answer
    assert json.loads(answer)["outputs"][0]["data"] == answers["labels"]
    auto.stop()
    auto.start()
    assert version_of(auto)["engine"] == "onnxruntime", "it is known at the next start"


def test_the_preferred_batch_decides_and_another_one_is_measured_anew(auto, cnn):
    auto.cli("models", "import", "m", cnn)
    auto.cli("models", "deploy", "m")
    first = report_of(measured(auto))
    assert first["batch"] == 1 and set(rows(first)["openvino"]["latency_ms"]) == {"1"}
    auto.cli("models", "configure", "m", "--set", "max_batch_size=16", "--set", "preferred_batch_sizes=[4,8]")
    second = report_of(measured(auto, accept=lambda report: report["batch"] == 8))
    latency = rows(second)["openvino"]["latency_ms"]
    assert latency.keys() == {"1", "8"} and latency["8"] > latency["1"]


def test_what_a_job_made_is_measured_with_its_validation_split(new_server, squares, spec):
    server = new_server("--set", "serving.engine=auto").start()
    server.cli("dataset", "add", "squares", squares)
    end = server.train(spec())
    assert end["deploy"] == "promoted", end
    report = report_of(measured(server, "squares"))
    assert report["samples"] == "validation split of squares"
    assert all(row["ok"] for row in report["engines"])


def test_what_no_engine_serves_is_refused_with_the_reason_of_each(auto, tmp_path):
    (tmp_path / "m.onnx").write_bytes(onnx.chain("NoSuchOperator"))
    auto.cli("models", "import", "m", tmp_path / "m.onnx")
    refused = auto.cli("models", "deploy", "m", check=False)
    assert refused.code != 0 and "NoSuchOperator" in refused.err
    assert "onnxruntime: " in refused.err and "torch: " in refused.err
    begin = time.monotonic()
    assert auto.cli("models", "deploy", "m", check=False).code != 0
    assert time.monotonic() - begin < 30, "what is known is not measured again"
    auto.assert_well()


def test_measuring_can_be_asked_for(new_server, cnn):
    server = new_server("--set", "serving.engine=openvino").start()
    server.cli("models", "import", "m", cnn)
    server.cli("models", "deploy", "m")
    assert not report_of(version_of(server)), "the server's engine has a name: nothing is measured by itself"
    table = server.cli("models", "measure", "m/1").out
    assert "openvino" in table and "onnxruntime" in table and "BATCH 1" in table and "chosen" in table
    first = report_of(version_of(server))
    again = server.cli("models", "measure", "m", "--json").json
    assert json.loads(again["engine_report"])["when_ms"] > first["when_ms"]
    assert server.cli("models", "measure", "absent", check=False).code != 0
