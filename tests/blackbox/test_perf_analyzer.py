"""perf_analyzer, the protocol's own load generator, in its modes: what it asks for beyond the protocol must be there too."""

import csv
import json
import pathlib
import subprocess
import sys

import pytest

import onnx_files as onnx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "perf"))
import perf_analyzer  # noqa: E402

PROGRAM, ENVIRONMENT = perf_analyzer.find()
pytestmark = pytest.mark.skipif(not PROGRAM, reason=str(ENVIRONMENT))

MODELS = {  # file, configuration
    "plain": (onnx.identity(), {}),
    "batching": (onnx.identity(), {"max_batch_size": 8, "max_queue_delay_ms": 1}),
    "single": (onnx.identity(shape=["N"]), {}),
    "text": (onnx.identity(8, ["N"]), {"engine": "onnxruntime"}),
    "summing": (onnx.accumulator(32000), {"max_batch_size": 4, "sequence": {
        "strategy": "oldest", "controls": [{"input": "START", "kind": "start"}], "states": [{"input": "sum_in", "output": "sum_out"}]}}),
}
# It takes each latency out of a list by itself, and while it is at that, more come: from about 12,000 answers a second on it never ends.
# So what is not about concurrency goes at a rate, and what is sends tensors that take their time.
PACED = ("--request-rate-range", 1000)
WIRES = pytest.mark.parametrize("wire", ("http", "grpc"))


@pytest.fixture
def analyze(shared, serve, tmp_path):
    """Runs it with short windows; the rows of its report, after checks that hold in every mode."""

    def run(model, wire, *options):
        serve(model, *MODELS[model])
        report = tmp_path / "report.csv"
        command = [PROGRAM, "-m", model, "-u", shared.ready[wire], "-i", wire, "-f", report, "--measurement-interval", 500,
                   "--stability-percentage", 999, "--max-trials", 5, *options]
        done = subprocess.run(list(map(str, command)), env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Failed" not in done.stdout + done.stderr, done.stdout + done.stderr
        rows = list(csv.DictReader(report.open()))
        assert rows and all(float(row["Inferences/Second"]) > 0 for row in rows), done.stdout
        # What the server counted came through, which needs its statistics.
        assert all(float(row["Server Compute Infer"]) >= 0 and row["Server Queue"] != "" for row in rows)
        shared.assert_well()
        return rows

    return run


@WIRES
def test_it_finds_the_model_and_its_statistics(analyze, wire):
    (row,) = analyze("plain", wire, "--shape", "x:8000,4", "--concurrency-range", 2)
    assert row["Concurrency"] == "2"


@pytest.mark.slow
@WIRES
def test_concurrency_rises_step_by_step(analyze, wire):
    rows = analyze("plain", wire, "--shape", "x:8000,4", "--concurrency-range", "1:9:4")
    assert sorted(int(row["Concurrency"]) for row in rows) == [1, 5, 9]


@pytest.mark.slow
@WIRES
@pytest.mark.parametrize("distribution", ("constant", "poisson"))
def test_requests_come_at_a_rate(analyze, wire, distribution):
    rows = analyze("plain", wire, "--shape", "x:1,4", "--request-rate-range", "50:100:50", "--request-distribution", distribution)
    assert sorted(float(row["Request Rate"]) for row in rows) == [50, 100]


@pytest.mark.slow
@WIRES
def test_tensors_go_through_shared_memory(analyze, wire):
    analyze("plain", wire, "--shape", "x:1000,4", *PACED, "--shared-memory", "system", "--output-shared-memory-size", 16000)


@pytest.mark.slow
@pytest.mark.parametrize("sent", ("binary", "json"))
@pytest.mark.parametrize("answered", ("binary", "json"))
def test_tensors_are_binary_or_json(analyze, sent, answered):
    # As JSON it sends one element whatever the shape says.
    analyze("single", "http", "--shape", "x:1", *PACED, "--input-tensor-format", sent, "--output-tensor-format", answered)


@pytest.mark.slow
@WIRES
def test_requests_of_four_rows(analyze, wire):
    analyze("batching", wire, "-b", 4, *PACED)


@pytest.mark.slow
@WIRES
def test_text(analyze, wire):
    analyze("text", wire, "--shape", "x:3", "--string-length", 100, *PACED)


@pytest.mark.slow
@WIRES
@pytest.mark.parametrize("load", (("--concurrency-range", 4), ("--request-rate-range", 100, "--num-of-sequences", 4, "--serial-sequences")))
def test_sequences(analyze, wire, load):
    analyze("summing", wire, "--sequence-length", 10, "--sequence-length-variation", 0, *load)


@pytest.mark.slow
@WIRES
@pytest.mark.parametrize("how", ("--async", "--sync"))
def test_clients_wait_or_do_not(analyze, wire, how):
    analyze("plain", wire, "--shape", "x:1,4", how, *PACED)


@pytest.mark.slow
def test_answers_come_over_one_stream(analyze):
    analyze("plain", "grpc", "--shape", "x:1,4", "--streaming", "--async", *PACED)


@pytest.mark.slow
def test_streamed_sequences(analyze):
    analyze("summing", "grpc", "--streaming", "--async", "--sequence-length", 5, *PACED, "--num-of-sequences", 4)


@pytest.mark.slow
@WIRES
def test_answers_are_compared_with_what_is_expected(analyze, wire, tmp_path):
    row = [1.5, 2.5, 3.5, 4.5]
    (tmp_path / "data.json").write_text(json.dumps({"data": [{"x": row}], "validation_data": [{"y": row}]}))
    analyze("batching", wire, "--input-data", tmp_path / "data.json", "--concurrency-range", 2)


@pytest.mark.slow
def test_messages_are_compressed(analyze):
    analyze("plain", "grpc", "--shape", "x:100,4", "--grpc-compression-algorithm", "gzip", *PACED)
