"""tritonclient, unmodified, over HTTP and gRPC: every type, shared memory, classes, sequences, the repository, and the rest."""

import asyncio
import json
import os
import pathlib
import shutil
import subprocess
import urllib.request
import uuid

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, serialize_byte_tensor, triton_to_np_dtype
from tritonclient.utils import shared_memory as shm

import onnx_files as onnx
from conftest import wait_for

# The protocol's types, as ONNX numbers them, and the values at their edges.
TYPES = {
    "BOOL": (9, [True, False, True, True]), "UINT8": (2, [0, 1, 254, 255]), "INT8": (3, [-128, -1, 0, 127]),
    "UINT16": (4, [0, 1, 2, 65535]), "INT16": (5, [-32768, -1, 0, 32767]), "UINT32": (12, [0, 1, 2, 2**32 - 1]),
    "INT32": (6, [-2**31, -1, 0, 2**31 - 1]), "UINT64": (13, [0, 1, 2**53 + 1, 2**64 - 1]), "INT64": (7, [-2**63, -1, 2**53 + 1, 2**63 - 1]),
    "FP16": (10, [-65504, 6e-8, 0.5, 1]), "BF16": (16, [-3e38, 1e-30, 0.5, 1]), "FP32": (1, [-3.4e38, 1e-45, 0.1, 1]),
    "FP64": (11, [-1.7e308, 5e-324, 0.1, 1]), "BYTES": (8, [b"", b"text", b"\0\xff\n", "Zürich".encode()]),
}
JSON_TYPES = [name for name in TYPES if name not in ("FP16", "BF16")]
WIRES = ("http", "grpc")
SEQUENCE = {"max_batch_size": 4, "sequence": {"strategy": "oldest", "controls": [{"input": "START", "kind": "start"}],
                                              "states": [{"input": "sum_in", "output": "sum_out"}]}}


def array_of(name, rows=1):
    values = [TYPES[name][1]] * rows
    return np.array(values, dtype=ml_dtypes.bfloat16 if name == "BF16" else triton_to_np_dtype(name)).reshape(rows, 4)


class Client:
    """tritonclient over one wire; the few differences between its two halves stay here."""

    def __init__(self, wire, server):
        self.wire = wire
        self.module = triton_http if wire == "http" else triton_grpc
        self.made = self.module.InferenceServerClient(server.ready[wire])

    def __getattr__(self, verb):
        return getattr(self.made, verb)

    def document(self, verb, *args):
        """What a verb gives, as one JSON document."""
        return getattr(self.made, verb)(*args, **({} if self.wire == "http" else {"as_json": True}))

    def input(self, name, array, **options):
        tensor = self.module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, **options)
        return tensor

    def ask(self, model, array, name="x", output="y", **options):
        return self.made.infer(model, [self.input(name, array)], **options).as_numpy(output)


@pytest.fixture(params=WIRES)
def client(request, shared):
    if request.param not in shared.ready:
        pytest.fail("the daemon says no gRPC address in its ready file")
    made = Client(request.param, shared)
    yield made
    made.close()
    shared.assert_well()


@pytest.fixture
def http(shared):
    made = Client("http", shared)
    yield made
    made.close()
    shared.assert_well()


@pytest.fixture
def echo(serve):
    """x [N, 4] -> y [N, 4], the same."""
    return serve("echo4", onnx.identity())


ROW = np.array([[1, 2, 3, 4]], np.float32)


# --- what it says of itself ---

def test_the_server_and_its_model_are_described(client, echo):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready(echo) and client.is_model_ready(echo, "1")
    assert not client.is_model_ready("nothing")
    server = client.document("get_server_metadata")
    assert server["name"] == "tandem" and {"binary_tensor_data", "sequence", "statistics", "system_shared_memory"} <= set(server["extensions"])
    model = client.document("get_model_metadata", echo)
    assert model["name"] == echo and model["versions"] == ["1"]
    (tensor,) = model["inputs"]
    assert (tensor["name"], tensor["datatype"], [int(dim) for dim in tensor["shape"]]) == ("x", "FP32", [-1, 4])
    assert [tensor["name"] for tensor in model["outputs"]] == ["y"]


def test_the_configuration_leaves_the_batch_out_of_the_shapes(client, serve):
    model = serve("batching", onnx.identity(), {"max_batch_size": 8, "preferred_batch_sizes": [4, 8], "max_queue_delay_ms": 0.1})
    config = client.document("get_model_config", model)
    config = config.get("config", config)  # gRPC wraps it
    assert config["name"] == model and config["max_batch_size"] == 8
    assert [int(dim) for dim in config["input"][0]["dims"]] == [4] and config["input"][0]["data_type"] == "TYPE_FP32"
    assert config["dynamic_batching"]["preferred_batch_size"] == [4, 8]
    assert int(config["dynamic_batching"]["max_queue_delay_microseconds"]) == 100


# --- tensors ---

@pytest.fixture
def echo_of(serve):
    """x [N, 4] -> y [N, 4] of any type. OpenVINO would compute INT64 with 32 bits."""
    return lambda datatype: serve(f"echo-{datatype.lower()}", onnx.identity(TYPES[datatype][0]), {"engine": "onnxruntime"})


@pytest.mark.parametrize("datatype", TYPES)
def test_every_type_comes_back_bit_for_bit(client, echo_of, datatype):
    array = array_of(datatype, rows=2)
    answer = client.ask(echo_of(datatype), array)
    assert np_to_triton_dtype(answer.dtype) == datatype and answer.shape == array.shape
    assert np.array_equal(answer, array) if datatype == "BYTES" else answer.tobytes() == array.tobytes()


@pytest.mark.parametrize("datatype", JSON_TYPES)
def test_every_type_comes_back_as_json(http, echo_of, datatype):
    array = array_of(datatype)
    if datatype == "BYTES":
        array = np.array([["", "text", "a\n\"b\"", "Zürich"]], dtype=object)
    wanted = triton_http.InferRequestedOutput("y", binary_data=False)
    result = http.infer(echo_of(datatype), [http.input("x", array, binary_data=False)], outputs=[wanted])
    assert result.get_output("y")["datatype"] == datatype and "data" in result.get_output("y")
    answer = result.as_numpy("y")
    assert [str(v, "utf-8") if isinstance(v, bytes) else v for v in answer[0]] == list(array[0])


@pytest.mark.parametrize("datatype", ("FP32", "INT64", "BYTES"))
def test_a_tensor_without_rows_comes_back_as_such(client, echo_of, datatype):
    assert client.ask(echo_of(datatype), array_of(datatype)[:0]).shape == (0, 4)


def test_nan_and_infinities_pass(client, echo):
    row = np.array([[np.nan, np.inf, -np.inf, -0.0]], np.float32)
    answer = client.ask(echo, row)
    assert np.array_equal(answer, row, equal_nan=True) and np.signbit(answer[0, 3])


def test_nan_and_infinities_pass_as_json_of_python(http, echo):
    row = np.array([[np.nan, np.inf, -np.inf, 0.5]], np.float32)
    wanted = triton_http.InferRequestedOutput("y", binary_data=False)
    result = http.infer(echo, [http.input("x", row)], outputs=[wanted])
    assert np.array_equal(result.as_numpy("y"), row, equal_nan=True)


def test_sixteen_megabytes_pass(client, echo):
    rows = np.random.default_rng(1).random((1 << 20, 4), dtype=np.float32)
    assert np.array_equal(client.ask(echo, rows), rows)


def test_outputs_are_those_that_were_asked_for(client, serve):
    two = onnx.model([onnx.node("Relu", ["x"], ["y"]), onnx.node("Neg", ["x"], ["z"])], [onnx.value("x", ["N", 4])],
                     [onnx.value("y", ["N", 4]), onnx.value("z", ["N", 4])])
    model = serve("two-outputs", two)
    result = client.infer(model, [client.input("x", ROW)], outputs=[client.module.InferRequestedOutput("z")])
    assert np.array_equal(result.as_numpy("z"), -ROW) and result.as_numpy("y") is None
    result = client.infer(model, [client.input("x", ROW)])
    assert np.array_equal(result.as_numpy("y"), ROW) and np.array_equal(result.as_numpy("z"), -ROW)


@pytest.mark.parametrize("sent", (None, "gzip", "deflate"))
@pytest.mark.parametrize("answered", (None, "gzip", "deflate"))
def test_bodies_are_compressed_both_ways(http, echo, sent, answered):
    rows = np.zeros((1000, 4), np.float32)
    result = http.infer(echo, [http.input("x", rows)], request_compression_algorithm=sent, response_compression_algorithm=answered)
    assert np.array_equal(result.as_numpy("y"), rows)


@pytest.mark.parametrize("algorithm", ("gzip", "deflate"))
def test_messages_are_compressed(shared, echo, algorithm):
    client = Client("grpc", shared)
    rows = np.zeros((1000, 4), np.float32)
    assert np.array_equal(client.ask(echo, rows, compression_algorithm=algorithm), rows)
    client.close()


# --- requests ---

def test_id_version_and_foreign_parameters(client, echo):
    result = client.infer(echo, [client.input("x", ROW)], model_version="1", request_id="número 7", parameters={"mine": "text", "other": 3, "flag": True})
    answer = result.get_response() if client.wire == "http" else result.get_response(as_json=True)
    assert answer["id"] == "número 7" and answer["model_name"] == echo and answer["model_version"] == "1"


@pytest.mark.parametrize("model, version, words", (("nothing", "", "nothing"), ("echo4", "7", "7")))
def test_what_is_not_there_is_not_found(client, echo, model, version, words):
    with pytest.raises(InferenceServerException, match=words) as error:
        client.infer(model, [client.input("x", ROW)], model_version=version)
    assert error.value.status() in ("404", "StatusCode.NOT_FOUND")


@pytest.mark.parametrize("array, words", ((np.zeros((1, 5), np.float32), r"\[1,5\]"), (np.zeros((1, 4), np.int32), "INT32")))
def test_what_does_not_fit_is_the_clients_mistake(client, echo, array, words):
    with pytest.raises(InferenceServerException, match=words) as error:
        client.ask(echo, array)
    assert error.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")


def test_priority_and_timeout_are_taken(client, serve):
    model = serve("levels", onnx.identity(), {"priority_levels": 3, "default_priority": 2})
    for priority in (0, 1, 3):
        assert np.array_equal(client.ask(model, ROW, priority=priority, timeout=10_000_000), ROW)


def test_a_deadline_that_cannot_be_met_is_said_so(client, serve):
    model = serve("levels", onnx.identity(), {"priority_levels": 3, "default_priority": 2})
    with pytest.raises(InferenceServerException) as error:
        client.ask(model, np.zeros((1 << 18, 4), np.float32), timeout=1)
    assert error.value.status() in ("503", "504", "StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"), error.value
    assert np.array_equal(client.ask(model, ROW), ROW)


# --- classification ---

LABELS = ["cat", "dog", "bird", "fish"]


def test_classes_come_with_their_labels(client, serve):
    model = serve("classes", onnx.identity(), {"max_batch_size": 8, "labels": {"y": LABELS}})
    rows = np.array([[0.25, 0.5, 4, 1], [9, 0, 0, 8]], np.float32)
    result = client.infer(model, [client.input("x", rows)], outputs=[client.module.InferRequestedOutput("y", class_count=2)])
    answer = [[bytes(cell).decode() for cell in row] for row in result.as_numpy("y")]
    assert answer == [["4.000000:2:bird", "1.000000:3:fish"], ["9.000000:0:cat", "8.000000:3:fish"]]


def test_classes_without_labels_are_numbers(client, echo):
    result = client.infer(echo, [client.input("x", ROW)], outputs=[client.module.InferRequestedOutput("y", class_count=9)])
    assert [bytes(cell).decode() for cell in result.as_numpy("y").reshape(-1)] == ["4.000000:3", "3.000000:2", "2.000000:1", "1.000000:0"]


# --- shared memory ---

class Region:
    """A piece of shared memory, made and registered; taken away at the end."""

    def __init__(self, client, name, size):
        self.client, self.name, self.size = client, name, size
        key = f"/tandem-test-{uuid.uuid4().hex}"
        self.handle = shm.create_shared_memory_region(name, key, size)
        client.register_system_shared_memory(name, key, size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.unregister_system_shared_memory(self.name)
        shm.destroy_shared_memory_region(self.handle)


def regions_of(client):
    status = client.document("get_system_shared_memory_status")
    return {region["name"]: region for region in (status if client.wire == "http" else status.get("regions", {}).values())}


@pytest.mark.parametrize("offset", (0, 64, 100))
def test_tensors_lie_in_shared_memory_on_both_sides(client, echo, offset):
    rows = np.random.default_rng(1).random((256, 4), dtype=np.float32)
    with Region(client, "in", 8192) as there, Region(client, "out", 8192) as back:
        shm.set_shared_memory_region(there.handle, [rows], offset)
        tensor = client.module.InferInput("x", list(rows.shape), "FP32")
        tensor.set_shared_memory("in", rows.nbytes, offset)
        wanted = client.module.InferRequestedOutput("y")
        wanted.set_shared_memory("out", rows.nbytes, offset)
        result = client.infer(echo, [tensor], outputs=[wanted])
        assert result.get_output("y") is not None
        assert np.array_equal(shm.get_contents_as_numpy(back.handle, np.float32, rows.shape, offset), rows)
        assert regions_of(client).keys() == {"in", "out"}
        assert int(regions_of(client)["in"]["byte_size"]) == 8192
    assert regions_of(client) == {}


def test_text_lies_in_shared_memory_too(client, echo_of):
    model = echo_of("BYTES")
    array = array_of("BYTES")
    size = sum(4 + len(item) for item in array.reshape(-1))
    with Region(client, "in", 4096) as there:
        shm.set_shared_memory_region(there.handle, [serialize_byte_tensor(array)])
        tensor = client.module.InferInput("x", [1, 4], "BYTES")
        tensor.set_shared_memory("in", size)
        assert np.array_equal(client.infer(model, [tensor]).as_numpy("y"), array)


def test_a_region_that_is_too_small_is_refused_with_both_sizes(client, echo):
    with Region(client, "out", 8) as back:
        wanted = client.module.InferRequestedOutput("y")
        wanted.set_shared_memory("out", 8)
        with pytest.raises(InferenceServerException, match="16.*8|8.*16"):
            client.infer(echo, [client.input("x", ROW)], outputs=[wanted])
        assert not shm.get_contents_as_numpy(back.handle, np.uint8, [8]).any()


def test_a_region_that_nobody_registered_is_named(client, echo):
    tensor = client.module.InferInput("x", [1, 4], "FP32")
    tensor.set_shared_memory("absent", 16)
    with pytest.raises(InferenceServerException, match="absent"):
        client.infer(echo, [tensor])


def test_the_same_region_is_seen_over_both_wires(shared, echo):
    clients = [Client(wire, shared) for wire in WIRES]
    with Region(clients[0], "both", 64):
        assert all(regions_of(client).keys() == {"both"} for client in clients)
        with pytest.raises(InferenceServerException, match="both"):
            clients[1].register_system_shared_memory("both", "/another", 64)
    for client in clients:
        client.unregister_system_shared_memory()  # all of them
        client.unregister_cuda_shared_memory()
        client.close()


# --- sequences ---

@pytest.fixture
def summing(serve):
    return serve("summing", onnx.accumulator(), SEQUENCE)


def add(client, model, sequence, value, **flags):
    result = client.infer(model, [client.input("x", np.array([[value]], np.float32))], sequence_id=sequence, **flags)
    return result.as_numpy("total")[0, 0], result.as_numpy("began")[0, 0]


@pytest.mark.parametrize("first, second", ((1001, 2**62 + 5), ("alpha", "beta")))
def test_each_sequence_keeps_its_state(client, summing, first, second):
    assert add(client, summing, first, 1, sequence_start=True) == (1, 1)
    assert add(client, summing, second, 10, sequence_start=True) == (10, 1)
    assert add(client, summing, first, 2) == (3, 0)
    assert add(client, summing, second, 20) == (30, 0)
    assert add(client, summing, first, 3, sequence_end=True) == (6, 0)
    assert add(client, summing, second, 30, sequence_end=True) == (60, 0)
    assert add(client, summing, first, 5, sequence_start=True, sequence_end=True) == (5, 1)


def test_a_sequence_goes_on_where_it_began_whatever_takes_over(client, shared, serve, tmp_path):
    model = serve(f"moving-{client.wire}", onnx.accumulator(), {**SEQUENCE, "sequence": {**SEQUENCE["sequence"], "max_idle_s": 60}})
    file = tmp_path / "next.onnx"
    file.write_bytes(onnx.accumulator())
    shared.cli("models", "import", model, file)
    assert add(client, model, 5, 1, sequence_start=True) == (1, 1)
    shared.cli("models", "deploy", f"{model}/2")
    assert add(client, model, 5, 2) == (3, 0)
    assert add(client, model, 6, 10, sequence_start=True) == (10, 1)
    shared.cli("models", "configure", model, "--set", "engine=onnxruntime")
    wait_for("the other engine", lambda: all(version["engine"] == "onnxruntime" for version in shared.cli("models", "show", model, "--json").json["versions"]))
    assert add(client, model, 5, 3) == (6, 0)
    assert add(client, model, 6, 20, sequence_end=True) == (30, 0)
    assert add(client, model, 5, 4, sequence_end=True) == (10, 0)
    with pytest.raises(InferenceServerException, match="sequence_start"):
        add(client, model, 5, 1)


def test_a_sequence_that_did_not_start_is_refused(client, summing):
    with pytest.raises(InferenceServerException, match="sequence_start"):
        add(client, summing, 77, 1)
    with pytest.raises(InferenceServerException, match="sequence_id"):
        add(client, summing, 0, 1)


def test_states_and_controls_are_not_the_clients(client, summing):
    model = client.document("get_model_metadata", summing)
    assert [tensor["name"] for tensor in model["inputs"]] == ["x"]
    assert [tensor["name"] for tensor in model["outputs"]] == ["total", "began"]


# --- statistics, the repository, logging ---

def test_statistics_count_what_was_asked(client, serve):
    model = serve(f"counted-{client.wire}", onnx.identity())
    before = statistics(client, model)
    for _ in range(5):
        client.ask(model, ROW)
    with pytest.raises(InferenceServerException):
        client.ask(model, np.zeros((1, 5), np.float32))
    after = statistics(client, model)
    parts = {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"}
    assert parts <= after["inference_stats"].keys()
    assert count(after, "success") - count(before, "success") == 5
    assert count(after, "queue") - count(before, "queue") >= 5, "perf_analyzer finds the version by it"
    assert count(after, "fail") - count(before, "fail") == 1
    assert int(after["inference_stats"]["compute_infer"]["ns"]) > int(before["inference_stats"]["compute_infer"].get("ns", 0))
    assert int(after["inference_count"]) - int(before.get("inference_count", 0)) == 5
    assert int(after["last_inference"]) > 1_600_000_000_000, "milliseconds"


def statistics(client, model):
    (one,) = client.document("get_inference_statistics", model)["model_stats"]
    assert one["name"] == model and one["version"] == "1"
    return one


def count(one, part):
    return int(one["inference_stats"][part].get("count", 0))  # protobuf's JSON leaves zeros out


def index_of(client, model):
    index = client.document("get_model_repository_index")
    rows = index if client.wire == "http" else index.get("models", [])
    return {row["version"]: row["state"] for row in rows if row["name"] == model}


def test_a_model_is_unloaded_and_loaded_again(client, serve):
    model = serve(f"coming-{client.wire}", onnx.identity())
    assert index_of(client, model) == {"1": "READY"}
    client.unload_model(model, unload_dependents=True)
    assert not client.is_model_ready(model)
    with pytest.raises(InferenceServerException):
        client.ask(model, ROW)
    wait_for("the old version is gone", lambda: index_of(client, model) == {"1": "UNAVAILABLE"}, timeout=10)
    client.load_model(model)
    assert client.is_model_ready(model) and np.array_equal(client.ask(model, ROW), ROW)


def test_a_configuration_comes_with_load(client, serve):
    model = serve(f"reconfigured-{client.wire}", onnx.identity())
    client.load_model(model, config=json.dumps({"name": model, "max_batch_size": 4, "dynamic_batching": {"max_queue_delay_microseconds": 200}}))
    config = client.document("get_model_config", model)
    assert config.get("config", config)["max_batch_size"] == 4
    assert np.array_equal(client.ask(model, ROW), ROW)
    with pytest.raises(InferenceServerException, match="max_batch_size"):
        client.load_model(model, config=json.dumps({"max_batch_size": -1}))
    with pytest.raises(InferenceServerException, match="decoupled"):
        client.load_model(model, config=json.dumps({"model_transaction_policy": {"decoupled": True}}))
    config = client.document("get_model_config", model)
    assert config.get("config", config)["max_batch_size"] == 4, "what was wrong changed nothing"


def test_a_file_comes_with_load(client):
    model = f"uploaded-{client.wire}"
    with pytest.raises(InferenceServerException):
        client.load_model(model)
    client.load_model(model, config=json.dumps({"name": model, "max_batch_size": 0}), files={"file:1/model.onnx": onnx.chain("Neg")})
    assert np.array_equal(client.ask(model, ROW), -ROW)
    client.load_model(model, config="{}", files={"file:1/model.onnx": onnx.chain("Relu")})
    assert np.array_equal(client.ask(model, -ROW), 0 * ROW), "the newer file answers"
    with pytest.raises(InferenceServerException):
        client.load_model(model, config="{}", files={"file:1/model.onnx": b"no model"})
    assert np.array_equal(client.ask(model, -ROW), 0 * ROW), "a file that is none changed nothing"


def test_the_log_is_made_talkative_and_quiet_again(client):
    before = client.document("get_log_settings")
    client.update_log_settings({"log_verbose_level": 1})
    assert int(log_setting(client.document("get_log_settings"), "log_verbose_level")) >= 1
    client.update_log_settings({"log_verbose_level": 0, "log_info": True})
    assert client.document("get_log_settings") == before
    with pytest.raises(InferenceServerException):
        client.update_log_settings({"log_file": "/tmp/elsewhere"})


def log_setting(document, key):
    value = document.get("settings", document)[key]
    return next(iter(value.values())) if isinstance(value, dict) else value


# --- many at a time ---

def test_asynchronous_requests_find_their_answers(shared, echo):
    client = triton_http.InferenceServerClient(shared.ready["http"], concurrency=8)
    pending = []
    for i in range(64):
        tensor = triton_http.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(ROW + i)
        pending.append(client.async_infer(echo, [tensor], request_id=str(i)))
    for i, one in enumerate(pending):
        result = one.get_result()
        assert result.get_response()["id"] == str(i) and np.array_equal(result.as_numpy("y"), ROW + i)
    client.close()


def test_asyncio_requests_find_their_answers(shared, echo):
    async def one(client, i):
        tensor = triton_aio.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(ROW + i)
        result = await client.infer(echo, [tensor], request_compression_algorithm="gzip" if i % 2 else None)
        return np.array_equal(result.as_numpy("y"), ROW + i)

    async def all_of_them():
        async with triton_aio.InferenceServerClient(shared.ready["http"], conn_limit=8) as client:
            assert await client.is_server_ready()
            assert (await client.get_model_metadata(echo))["name"] == echo
            with pytest.raises(InferenceServerException, match="nothing"):
                await client.get_model_metadata("nothing")
            return await asyncio.gather(*(one(client, i) for i in range(64)))

    assert all(asyncio.run(all_of_them()))


def test_rows_of_many_clients_are_batched_and_come_back_to_them(shared, serve):
    model = serve("merged", onnx.identity(), {"max_batch_size": 16, "max_queue_delay_ms": 20, "instances": 1})

    async def all_of_them():
        async with triton_aio.InferenceServerClient(shared.ready["http"], conn_limit=32) as client:
            tensors = []
            for i in range(32):
                tensor = triton_aio.InferInput("x", [1 + i % 3, 4], "FP32")
                tensor.set_data_from_numpy(np.full((1 + i % 3, 4), i, np.float32))
                tensors.append(tensor)
            results = await asyncio.gather(*(client.infer(model, [tensor]) for tensor in tensors))
            return [result.as_numpy("y") for result in results]

    for i, rows in enumerate(asyncio.run(all_of_them())):
        assert rows.shape == (1 + i % 3, 4) and (rows == i).all()
    client = Client("http", shared)
    one = statistics(client, model)
    client.close()
    assert int(one["execution_count"]) < 32, "some ran together"
    assert int(one["inference_count"]) == sum(1 + i % 3 for i in range(32)), "rows are counted, the warm-up is not"


# --- metrics ---

PROMTOOL = shutil.which("promtool") or pathlib.Path(os.environ.get("TANDEM_TOOLS", pathlib.Path.home() / ".cache/tandem/tools"), "promtool/promtool")


@pytest.mark.skipif(not pathlib.Path(PROMTOOL).exists(), reason="promtool is missing; scripts/setup --test installs it")
def test_promtool_finds_nothing_in_the_metrics_but_the_names_of_triton(shared, echo):
    client = Client("http", shared)
    client.ask(echo, ROW)
    client.close()
    with urllib.request.urlopen(f"http://{shared.ready['metrics']}/metrics") as answer:
        text = answer.read()
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, timeout=60)
    found = (done.stdout + done.stderr).decode().splitlines()
    # What dashboards for Triton ask for does not follow Prometheus' rules for names. Exit code 3: lint only, 1: it cannot be read.
    assert done.returncode in (0, 3) and [line for line in found if not line.startswith("nv_")] == [], found
