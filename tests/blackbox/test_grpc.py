"""The gRPC port as its users meet it: tritonclient, the health and reflection clients, and a second gRPC stack."""

import json
import os
import pathlib
import queue
import re
import subprocess
import threading

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

import onnx_files as onnx
from conftest import wait_for

ROWS = np.array([[1, 2, 3, 4]], np.float32)
SUMS = [[4, 6]]
TOOLS = pathlib.Path(os.environ.get("TANDEM_TOOLS", pathlib.Path.home() / ".cache/tandem/tools"))
NODE_CLIENT = pathlib.Path(__file__).parent / "clients" / "grpc_js.js"


@pytest.fixture(scope="module")
def serving(shared, tmp_path_factory):
    """The shared daemon with a model: x [N, 4] -> y [N, 2]."""
    file = tmp_path_factory.mktemp("models") / "good.onnx"
    file.write_bytes(onnx.linear(onnx.tensor("w", [4, 2], [1, 0, 0, 1, 1, 0, 0, 1])))
    shared.cli("models", "import", "good", file)
    shared.cli("models", "deploy", "good")
    return shared


@pytest.fixture
def client(serving):
    with triton.InferenceServerClient(serving.ready["grpc"]) as client:
        yield client
    serving.assert_well()


@pytest.fixture
def stub(serving):
    with grpc.insecure_channel(serving.ready["grpc"]) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)
    serving.assert_well()


def tensor(rows=ROWS):
    made = triton.InferInput("x", rows.shape, "FP32")
    made.set_data_from_numpy(rows)
    return made


def request(model="good", rows=ROWS, **fields):
    message = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[rows.tobytes()], **fields)
    message.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    return message


def test_the_client_finds_the_server_and_the_model(client):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("good")
    assert client.get_server_metadata().name == "tandem"
    metadata = client.get_model_metadata("good")
    assert [t.name for t in metadata.inputs] == ["x"] and list(metadata.inputs[0].shape) == [-1, 4]
    config = client.get_model_config("good").config
    assert config.name == "good" and config.input[0].name == "x"
    assert {m.name: m.state for m in client.get_model_repository_index().models}["good"] == "READY"


def test_answers_are_those_of_http(serving, client):
    result = client.infer("good", [tensor()], request_id="seven")
    assert result.as_numpy("y").tolist() == SUMS
    assert result.get_response().id == "seven"
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROWS.flatten().tolist()}]}
    status, answer = serving.request("POST", "/v2/models/good/infer", body)
    assert status == 200 and json.loads(answer)["outputs"][0]["data"] == SUMS[0]


def test_large_tensors_and_both_compressions(client):
    rows = np.random.default_rng(1).integers(0, 9, (100_000, 4)).astype(np.float32)
    for packed in (None, "gzip", "deflate"):
        result = client.infer("good", [tensor(rows)], compression_algorithm=packed)
        assert np.array_equal(result.as_numpy("y"), rows[:, :2] + rows[:, 2:])


def test_asynchronous_calls(client):
    answers = queue.Queue()
    for i in range(100):
        client.async_infer("good", [tensor(ROWS * i)], callback=lambda result, error: answers.put((result, error)), request_id=str(i))
    for _ in range(100):
        result, error = answers.get(timeout=60)
        assert error is None
        i = int(result.get_response().id)
        assert result.as_numpy("y").tolist() == [[4 * i, 6 * i]]


def test_a_stream_answers_each_request_and_goes_on_after_an_error(client):
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for i in range(50):
        client.async_stream_infer("good", [tensor(ROWS * i)], request_id=str(i), enable_empty_final_response=True)
    for _ in range(50):
        result, error = answers.get(timeout=60)
        assert error is None
        i = int(result.get_response().id)
        assert result.as_numpy("y").tolist() == [[4 * i, 6 * i]]
        assert result.get_response().parameters["triton_final_response"].bool_param
    client.async_stream_infer("nope", [tensor()])
    result, error = answers.get(timeout=60)
    assert result is None and "nope" in error.message()
    client.async_stream_infer("good", [tensor()], request_id="last")
    result, error = answers.get(timeout=60)
    assert error is None and result.get_response().id == "last"
    client.stop_stream()


def test_a_stream_ends_with_a_status_where_its_client_wants_it(stub):
    answers = stub.ModelStreamInfer(iter([request("nope")]), metadata=[("triton_grpc_error", "true")])
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_stream_may_be_cancelled(client):
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    client.async_stream_infer("good", [tensor()])
    assert answers.get(timeout=60)[1] is None
    client.stop_stream(cancel_requests=True)


def test_cancelled_calls_leave_nothing_behind(serving, stub):
    calls = [stub.ModelInfer.future(request(rows=np.ones((20_000, 4), np.float32))) for _ in range(200)]
    [call.cancel() for call in calls]
    assert stub.ModelInfer(request()).raw_output_contents[0] == np.array(SUMS, np.float32).tobytes()


def test_typed_contents_and_raw_ones_are_not_mixed(stub):
    message = request()
    message.ClearField("raw_input_contents")
    message.inputs[0].contents.fp32_contents.extend(ROWS.flatten())
    assert stub.ModelInfer(message).raw_output_contents[0] == np.array(SUMS, np.float32).tobytes()
    message.raw_input_contents.append(ROWS.tobytes())
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "raw_input_contents" in caught.value.details()


BAD = {
    "no model": lambda m: m.ClearField("model_name"),
    "no input": lambda m: (m.ClearField("inputs"), m.ClearField("raw_input_contents")),
    "wrong input": lambda m: setattr(m.inputs[0], "name", "z"),
    "wrong type": lambda m: setattr(m.inputs[0], "datatype", "INT64"),
    "no type": lambda m: setattr(m.inputs[0], "datatype", ""),
    "wrong shape": lambda m: m.inputs[0].shape.append(2),
    "negative shape": lambda m: m.inputs[0].shape.__setitem__(0, -1),
    "huge shape": lambda m: m.inputs[0].shape.__setitem__(0, 1 << 62),
    "bytes missing": lambda m: m.raw_input_contents.__setitem__(0, b"abc"),
    "too many bytes": lambda m: m.raw_input_contents.append(b"abc"),
    "unknown output": lambda m: m.outputs.add(name="z"),
    "unknown region": lambda m: m.outputs.add(name="y").parameters["shared_memory_region"].CopyFrom(
        service_pb2.InferParameter(string_param="nowhere")),
    "a text for a number": lambda m: m.parameters["timeout"].CopyFrom(service_pb2.InferParameter(string_param="soon")),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_refused_by_name(stub, name):
    message = request()
    BAD[name](message)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, caught.value
    assert caught.value.details()
    assert stub.ModelInfer(request()).model_name == "good"


def test_bytes_that_are_no_message_are_refused(serving):
    with grpc.insecure_channel(serving.ready["grpc"]) as channel:
        for path in ("ModelInfer", "ModelReady"):
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{path}")
            for data in (b"\xff" * 9, b"\x3a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe", os.urandom(500)):
                with pytest.raises(grpc.RpcError) as caught:
                    call(data)
                assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/inference.GRPCInferenceService/Nothing")(b"")
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    serving.assert_well()


def test_an_unknown_model_and_a_passed_deadline_have_codes_of_their_own(client, stub):
    with pytest.raises(InferenceServerException) as caught:
        client.infer("nope", [tensor()])
    assert "NOT_FOUND" in caught.value.status()
    # The time-out of the protocol, in microseconds: it has passed when the request is decoded.
    with pytest.raises(InferenceServerException) as late:
        client.infer("good", [tensor()], timeout=1)
    assert late.value.status() in ("StatusCode.DEADLINE_EXCEEDED", "StatusCode.UNAVAILABLE")


def test_a_message_over_the_limit_is_refused_packed_or_not(new_server):
    server = new_server("--set", "http.max_body=1MB").start()
    for packed in (grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate):
        with grpc.insecure_channel(server.ready["grpc"], compression=packed) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(request(rows=np.zeros((100_000, 4), np.float32)))
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(request())
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    server.assert_well()


def test_tensors_go_through_shared_memory(client):
    name = f"/tandem-grpc-{os.getpid()}"
    region = shm.create_shared_memory_region("both", name, 4096)
    try:
        shm.set_shared_memory_region(region, [ROWS])
        client.register_system_shared_memory("both", name, 4096)
        assert client.get_system_shared_memory_status().regions["both"].key == name
        source = triton.InferInput("x", ROWS.shape, "FP32")
        source.set_shared_memory("both", ROWS.nbytes)
        target = triton.InferRequestedOutput("y")
        target.set_shared_memory("both", 8, offset=1024)
        result = client.infer("good", [source], outputs=[target])
        assert result.get_output("y").parameters["shared_memory_region"].string_param == "both"
        assert shm.get_contents_as_numpy(region, np.float32, [1, 2], offset=1024).tolist() == SUMS
    finally:
        client.unregister_system_shared_memory()
        shm.destroy_shared_memory_region(region)
    assert not client.get_system_shared_memory_status().regions
    client.unregister_cuda_shared_memory()
    assert not client.get_cuda_shared_memory_status().regions


def test_classes_instead_of_values(client):
    result = client.infer("good", [tensor()], outputs=[triton.InferRequestedOutput("y", class_count=1)])
    assert [text.decode() for text in result.as_numpy("y").flatten()] == ["6.000000:1"]


def test_requests_are_counted_together_with_those_of_http(client):
    def count():
        return client.get_inference_statistics("good").model_stats[0].inference_stats.success.count

    before = count()
    client.infer("good", [tensor()])
    wait_for("the count", lambda: count() == before + 1)


def test_a_model_is_unloaded_and_loaded(serving, client, tmp_path):
    file = tmp_path / "other.onnx"
    file.write_bytes(onnx.chain("Relu"))
    serving.cli("models", "import", "other", file)
    serving.cli("models", "deploy", "other")
    assert client.is_model_ready("other")
    client.unload_model("other")
    wait_for("the unloading", lambda: not client.is_model_ready("other"))
    client.load_model("other")
    assert client.is_model_ready("other")
    client.load_model("fresh", config="{}", files={"file:1/model.onnx": onnx.chain("Relu")})
    assert client.infer("fresh", [tensor(-ROWS)]).as_numpy("y").tolist() == [[0, 0, 0, 0]]
    with pytest.raises(InferenceServerException):
        client.load_model("nobody")


def test_log_settings_are_read_and_set(client):
    assert client.get_log_settings(as_json=True)["settings"]["log_error"]["bool_param"]
    changed = client.update_log_settings({"log_verbose_level": 1})
    assert changed.settings["log_verbose_level"].uint32_param == 1
    client.update_log_settings({"log_verbose_level": 0})


def test_the_health_client_sees_a_server_that_serves(serving):
    with grpc.insecure_channel(serving.ready["grpc"]) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="nonsense"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_describes_the_services(serving):
    with grpc.insecure_channel(serving.ready["grpc"]) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(database.get_services())
        service = DescriptorPool(database).FindServiceByName("inference.GRPCInferenceService")
        assert service.FindMethodByName("ModelInfer").input_type.fields_by_name["raw_input_contents"].number == 7


def test_the_daemon_stops_with_streams_open(new_server):
    server = new_server().start()
    with grpc.insecure_channel(server.ready["grpc"]) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        assert server.stop() == 0
        with pytest.raises(grpc.RpcError):
            [answer for answer in watch]


def test_two_daemons_do_not_share_a_port(serving, new_server):
    second = new_server("--grpc", serving.ready["grpc"], name="second").start(wait=False)
    assert second.process.wait(60) != 0
    assert "taken by" in second.log_text()


def test_many_clients_at_once(serving):
    failures = []

    def ask(seed):
        with triton.InferenceServerClient(serving.ready["grpc"]) as client:
            for i in range(50):
                rows = ROWS * (seed * 50 + i)
                if client.infer("good", [tensor(rows)]).as_numpy("y").tolist() != (rows[:, :2] + rows[:, 2:]).tolist():
                    failures.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failures
    serving.assert_well()


def test_a_second_grpc_stack(serving):
    protos = pathlib.Path(__file__).resolve().parents[2] / "proto"
    node = TOOLS / "node/bin/node"
    assert node.exists(), f"{node} is missing; scripts/setup --test installs it"
    process = subprocess.run([node, NODE_CLIENT, serving.ready["grpc"], protos], capture_output=True, text=True, timeout=120,
                             env={**os.environ, "NODE_PATH": str(TOOLS / "grpc_js/node_modules")})
    assert process.returncode == 0, process.stdout + process.stderr
    found = json.loads(process.stdout)
    missing, wrong = found.pop("missing"), found.pop("wrong_input")
    assert (missing["code"], wrong["code"]) == ("NOT_FOUND", "INVALID_ARGUMENT")
    assert "nope" in missing["details"] and "z" in wrong["details"] and "x" in wrong["details"]
    assert found == {
        "live": True, "health": "SERVING", "watch": "SERVING", "unknown_service": "NOT_FOUND",
        "metadata": [["x", "FP32", [-1, 4]], ["y", "FP32", [-1, 2]]],
        "infer": SUMS[0],
        "stream": {"answers": {"0": SUMS[0], "2": SUMS[0]}, "failures": 1, "end": "OK"},
        "stream_with_status": {"answers": {}, "failures": 0, "end": "NOT_FOUND"},
        "cancelled": "CANCELLED",
        "after": SUMS[0]}
    serving.assert_well()


@pytest.mark.memory
def test_large_requests_leave_nothing_behind(new_server, tmp_path):
    server = new_server("--set", "serving.engine=openvino").start()  # another engine, chosen meanwhile, has memory of its own
    (tmp_path / "good.onnx").write_bytes(onnx.linear(onnx.tensor("w", [4, 2], [1, 0, 0, 1, 1, 0, 0, 1])))
    server.cli("models", "import", "good", tmp_path / "good.onnx")
    server.cli("models", "deploy", "good")
    rows = np.ones((1 << 21, 4), np.float32)  # 32 MB

    def resident_mb():
        return int(re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{server.process.pid}/status").read_text()).group(1)) / 1000

    with triton.InferenceServerClient(server.ready["grpc"]) as client:
        for _ in range(3):
            client.infer("good", [tensor(rows)])
        before = resident_mb()
        for _ in range(40):  # more than there are calls that wait
            assert client.infer("good", [tensor(rows)]).as_numpy("y").shape == (1 << 21, 2)
    grown = resident_mb() - before
    assert grown < 300, f"40 requests of 32 MB left {grown:.0f} MB"
    server.assert_well()
