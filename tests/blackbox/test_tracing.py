"""Traces as a collector of OpenTelemetry gets them: W3C trace context goes in, spans come out by OTLP/HTTP.

The collector is a small HTTP server here; it reads the bodies by the classes of the official opentelemetry-proto.
"""

import http.client
import http.server
import json
import queue
import secrets
import socket
import threading
import types

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tritonclient.utils import InferenceServerException

import onnx_files as onnx
from conftest import Server, wait_for

ROWS = np.array([[1, 2, 3, 4]], np.float32)
BODY = {"id": "seven", "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
INFER = "/v2/models/good/infer"
DROPPED = 'tandem_traced_requests_dropped_total{reason="%s"}'


class Collector:
    """Keeps the spans it is sent. `answers`: codes to give first, before it takes anything."""

    def __init__(self):
        self.spans, self.posts, self.answers, self.lock = [], [], [], threading.Lock()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(collector.take(self.path, self.headers["Content-Type"], body))
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path, content_type, body):
        with self.lock:
            code = self.answers.pop(0) if self.answers else 200
            self.posts.append((path, content_type, code))
            if code == 200:
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    about = {a.key: value_of(a.value) for a in resource.resource.attributes}
                    for scope in resource.scope_spans:
                        self.spans += [read_span(span, about) for span in scope.spans]
            return code

    def of(self, trace_id):
        with self.lock:
            return [span for span in self.spans if span.trace_id == trace_id]

    def roots(self):
        with self.lock:
            return [span for span in self.spans if span.kind == Span.SPAN_KIND_SERVER and not span.parent]

    def request(self, trace_id):
        """The SERVER span of a trace, once it is there, and its children by name."""
        spans = wait_for(f"spans of {trace_id}", lambda: self.of(trace_id))
        server, *more = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
        assert not more
        return server, {span.name: span for span in spans if span is not server}

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def value_of(value):
    return getattr(value, value.WhichOneof("value"))


def read_span(span, about):
    return types.SimpleNamespace(
        name=span.name, kind=span.kind, trace_id=span.trace_id.hex(), id=span.span_id.hex(), parent=span.parent_span_id.hex(),
        state=span.trace_state, start=span.start_time_unix_nano, end=span.end_time_unix_nano, flags=span.flags,
        error=span.status.code == Status.STATUS_CODE_ERROR, message=span.status.message, about=about,
        attributes={a.key: value_of(a.value) for a in span.attributes})


class Caller:
    """A span of a client, as its headers tell of it."""

    def __init__(self, sampled=True):
        self.trace_id, self.id = secrets.token_hex(16), secrets.token_hex(8)
        self.headers = {"traceparent": f"00-{self.trace_id}-{self.id}-{'01' if sampled else '00'}"}


@pytest.fixture(scope="module")
def collector():
    collector = Collector()
    yield collector
    collector.close()


def make_model(server, tmp_path, config=None):
    file = tmp_path / "good.onnx"
    file.write_bytes(onnx.linear(onnx.tensor("w", [4, 2], [1, 0, 0, 1, 1, 0, 0, 1])))
    server.cli("models", "import", "good", file)
    if config:
        server.cli("models", "configure", "good", *config)
    server.cli("models", "deploy", "good")
    return server


@pytest.fixture(scope="module")
def serving(collector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracing")
    server = Server(folder / "server", "--set", f"telemetry.otlp_endpoint={collector.url}", "--set", "telemetry.service_name=under-test")
    make_model(server.start(), folder)
    yield server
    server.close()


@pytest.fixture
def traced(serving):
    yield serving
    serving.assert_well()


@pytest.fixture
def new_traced(new_server, tmp_path):
    """Starts a server with the model that traces every request to `endpoint`."""

    def make(endpoint, *args):
        server = new_server("--set", f"telemetry.otlp_endpoint={endpoint}", "--set", "telemetry.trace_ratio=1", *args)
        return make_model(server.start(), tmp_path)

    return make


def metric(server, name):
    _, text = server.request("GET", "/metrics")
    for line in text.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.rsplit(" ", 1)[1])
    return None


def grpc_input():
    tensor = triton.InferInput("x", ROWS.shape, "FP32")
    tensor.set_data_from_numpy(ROWS)
    return tensor


def check_whole(server, children, caller):
    assert (server.parent, server.kind, server.error) == (caller.id, Span.SPAN_KIND_SERVER, False)
    assert server.flags & 0xff == 1 and server.flags & 0x300 == 0x300
    assert set(children) == {"queue", "compute"}
    for child in children.values():
        assert (child.parent, child.kind) == (server.id, Span.SPAN_KIND_INTERNAL)
        assert server.start <= child.start <= child.end <= server.end
    assert children["queue"].end == children["compute"].start
    assert children["compute"].end > children["compute"].start


# --- What comes out ---
def test_a_request_over_http_goes_on_with_its_callers_trace(traced, collector):
    caller = Caller()
    code, _ = traced.request("POST", INFER + "?a=b", BODY, {**caller.headers, "tracestate": "vendor=one"})
    assert code == 200
    server, children = collector.request(caller.trace_id)
    check_whole(server, children, caller)
    assert server.name == "POST /v2/models/{model}/infer" and server.state == "vendor=one"
    assert server.attributes == {
        "http.request.method": "POST", "http.route": "/v2/models/{model}/infer", "url.path": INFER, "url.scheme": "http",
        "http.response.status_code": 200, "tandem.model.name": "good", "tandem.model.version": "1", "tandem.request.id": "seven",
        "tandem.cached": False}
    assert server.about["service.name"] == "under-test" and server.about["process.pid"] == traced.ready["pid"]
    assert collector.posts[0][:2] == ("/v1/traces", "application/x-protobuf")


def test_so_does_one_of_tritonclient_over_http(traced, collector):
    caller = Caller()
    tensor = triton_http.InferInput("x", ROWS.shape, "FP32")
    tensor.set_data_from_numpy(ROWS)
    with triton_http.InferenceServerClient(traced.ready["http"]) as client:
        client.infer("good", [tensor], headers=caller.headers)
    check_whole(*collector.request(caller.trace_id), caller)


def test_so_does_one_over_grpc(traced, collector):
    caller = Caller()
    with triton.InferenceServerClient(traced.ready["grpc"]) as client:
        client.infer("good", [grpc_input()], request_id="eight", headers=caller.headers)
    server, children = collector.request(caller.trace_id)
    check_whole(server, children, caller)
    assert server.name == "inference.GRPCInferenceService/ModelInfer"
    assert server.attributes == {
        "rpc.system": "grpc", "rpc.service": "inference.GRPCInferenceService", "rpc.method": "ModelInfer", "rpc.grpc.status_code": 0,
        "tandem.model.name": "good", "tandem.model.version": "1", "tandem.request.id": "eight", "tandem.cached": False}


def test_so_does_each_request_of_a_stream(traced, collector):
    caller, answers = Caller(), queue.Queue()
    with triton.InferenceServerClient(traced.ready["grpc"]) as client:
        client.start_stream(callback=lambda result, error: answers.put(error), headers=caller.headers)
        for name in ("good", "nope", "good"):
            client.async_stream_infer(name, [grpc_input()])
            answers.get(timeout=60)
        client.stop_stream()
    spans = wait_for("all spans of the stream", lambda: len(found := collector.of(caller.trace_id)) == 7 and found)
    servers = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    assert {span.name for span in servers} == {"inference.GRPCInferenceService/ModelStreamInfer"}
    assert {span.parent for span in servers} == {caller.id} and len({span.id for span in spans}) == 7
    assert [span.attributes["rpc.grpc.status_code"] for span in servers] == [0, grpc.StatusCode.NOT_FOUND.value[0], 0]


def test_so_do_tensorflow_servings_doors(traced, collector):
    caller = Caller()
    assert traced.request("POST", "/v1/models/good:predict", {"instances": ROWS.tolist()}, caller.headers)[0] == 200
    server, children = collector.request(caller.trace_id)
    check_whole(server, children, caller)
    assert server.name == "POST /v1/models/{model}:predict"

    caller = Caller()
    with grpc.insecure_channel(traced.ready["grpc"]) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName("tensorflow.serving.PredictionService").FindMethodByName("Predict")
        request, answer = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict", request.SerializeToString, answer.FromString)
        tensor = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": 1}, {"size": 4}]}, "tensor_content": ROWS.tobytes()}
        call(request(model_spec={"name": "good"}, inputs={"x": tensor}), timeout=60, metadata=list(caller.headers.items()))
    server, children = collector.request(caller.trace_id)
    check_whole(server, children, caller)
    assert server.name == "tensorflow.serving.PredictionService/Predict"


@pytest.mark.parametrize("path, change, code, error, text", [
    ("/v2/models/nope/infer", {}, 404, False, "nope"),
    (INFER, {"inputs": []}, 400, False, "is missing"),
    (INFER, {"parameters": {"timeout": 1}}, (503, 504), True, "good"),
])
def test_a_request_that_is_refused_has_a_span_too(traced, collector, path, change, code, error, text):
    caller = Caller()
    answered, body = traced.request("POST", path, {**BODY, **change}, caller.headers)
    assert answered in (code if isinstance(code, tuple) else (code,))
    server, children = collector.request(caller.trace_id)
    assert server.attributes["http.response.status_code"] == answered
    assert server.error == error and "compute" not in children
    assert server.attributes["tandem.model.name"] == path.split("/")[3]
    message = server.message if error else server.attributes["tandem.error"]
    assert message == json.loads(body)["error"] and text in message


def test_so_has_one_that_grpc_refuses(traced, collector):
    caller = Caller()
    with triton.InferenceServerClient(traced.ready["grpc"]) as client, pytest.raises(InferenceServerException):
        client.infer("good", [grpc_input()], headers=caller.headers, timeout=1)
    server, _ = collector.request(caller.trace_id)
    assert server.attributes["rpc.grpc.status_code"] in (4, 14) and server.error and server.attributes["error.type"]


def test_texts_that_are_no_utf8_spoil_no_batch(traced, collector):
    caller = Caller()
    host, port = traced.ready["http"].split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST /v2/models/%FF/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n"
                       b"traceparent: " + caller.headers["traceparent"].encode() + b"\r\n\r\n")
        assert b" 404 " in client.recv(65536)
    assert collector.request(caller.trace_id)[0].attributes["tandem.model.name"] == "?"


def test_an_answer_from_memory_says_so(new_traced, collector, tmp_path):
    server = new_traced(collector.url, "--set", "telemetry.service_name=caching")
    server.cli("models", "configure", "good", "--set", "response_cache=true")
    callers = [Caller(), Caller()]
    for caller in callers:
        assert server.request("POST", INFER, BODY, caller.headers)[0] == 200
    found = [collector.request(caller.trace_id) for caller in callers]
    assert [span.attributes["tandem.cached"] for span, _ in found] == [False, True]
    assert "compute" in found[0][1] and "compute" not in found[1][1]


# --- What does not ---
@pytest.mark.parametrize("headers", [
    {}, Caller(sampled=False).headers, {"traceparent": "00-" + "0" * 32 + "-" + "1" * 16 + "-01"}, {"traceparent": "banana"},
    {"traceparent": Caller().headers["traceparent"].replace("00-", "ff-", 1)}, {"traceparent": Caller().headers["traceparent"] + "-x"},
])
def test_what_nobody_wants_traced_is_not(traced, collector, headers):
    before = len(collector.spans)
    assert traced.request("POST", INFER, BODY, headers)[0] == 200
    caller = Caller()
    assert traced.request("POST", INFER, BODY, caller.headers)[0] == 200
    collector.request(caller.trace_id)  # it came later, so what came before it is known
    assert len(collector.spans) == before + 3


def test_the_ratio_begins_traces(new_traced, collector):
    server = new_traced(collector.url, "--set", "telemetry.service_name=ratio")
    unsampled = Caller(sampled=False)
    assert server.request("POST", INFER, BODY, unsampled.headers)[0] == 200
    assert server.request("POST", INFER, BODY)[0] == 200
    assert server.request("POST", INFER, BODY, {"traceparent": "00-" + "a" * 32 + "-short-01"})[0] == 200

    def mine():
        found = [span for span in collector.roots() if span.about["service.name"] == "ratio"]
        return len(found) == 2 and found

    first, second = wait_for("both traces", mine)
    assert len({first.trace_id, second.trace_id, "a" * 32, "0" * 32}) == 4
    assert first.flags & 0x201 == 1 and first.id != second.id
    assert not collector.of(unsampled.trace_id)


# --- When things go wrong ---
def test_a_busy_collector_gets_the_spans_later(traced, collector):
    caller = Caller()
    before = len(collector.posts)
    collector.answers = [503, 429]
    assert traced.request("POST", INFER, BODY, caller.headers)[0] == 200
    check_whole(*collector.request(caller.trace_id), caller)
    assert [code for _, _, code in collector.posts[before:]] == [503, 429, 200]


def test_without_a_collector_requests_go_on_and_what_is_dropped_is_counted(new_traced):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        server = new_traced(f"http://127.0.0.1:{taken.getsockname()[1]}")
        connection = http.client.HTTPConnection(server.ready["http"])
        body = json.dumps(BODY)
        for _ in range(2048 + 512 + 100):  # the queue, a batch on its way, and some
            connection.request("POST", INFER, body)
            answer = connection.getresponse()
            assert answer.status == 200 and answer.read()
        assert metric(server, DROPPED % "queue_full") > 0
        assert metric(server, "tandem_traced_requests_exported_total") == 0
        wait_for("a word in the log", lambda: "spans cannot be delivered" in server.log_text())
        assert server.log_text().count("spans cannot be delivered") == 1, "once a minute is enough"
        server.assert_well()
        assert server.stop() == 0


def test_the_end_sends_what_is_left(new_traced, collector):
    server, caller = new_traced(collector.url), Caller()
    assert server.request("POST", INFER, BODY, caller.headers)[0] == 200
    assert server.stop() == 0
    assert len(collector.of(caller.trace_id)) == 3, "without a wait: it has been sent before the end"


def test_exports_are_counted(traced, collector):
    caller = Caller()
    traced.request("POST", INFER, BODY, caller.headers)
    collector.request(caller.trace_id)

    def came():
        with collector.lock:
            return sum(span.kind == Span.SPAN_KIND_SERVER and span.about["service.name"] == "under-test" for span in collector.spans)

    # The server counts once it has the collector's answer, so a little later than the spans are here.
    wait_for("all that came are counted", lambda: metric(traced, "tandem_traced_requests_exported_total") == came() > 0)


def test_a_collector_that_needs_tls_is_refused_at_the_start(new_server):
    server = new_server("--set", "telemetry.otlp_endpoint=https://collector:4318").start(wait=False)
    assert server.process.wait(20) != 0
    assert "https is not spoken" in server.log_text()


def test_tritons_own_trace_extension_is_not_advertised(traced):
    assert "trace" not in json.loads(traced.request("GET", "/v2")[1])["extensions"]
