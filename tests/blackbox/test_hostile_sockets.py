"""Clients that take all there is of connections, or none of the protocol: who was there, and who may come, is served all the same."""

import contextlib
import json
import os
import pathlib
import resource
import select
import socket
import struct
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2

import onnx_files as onnx
from conftest import wait_for

DOORS = ("http", "grpc")
SERVING = health_pb2.HealthCheckResponse.SERVING
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4
GRPC_HANDSHAKE_S = 10  # what a client has for its preface and settings


def address(server, door):
    host, port = server.ready[door].rsplit(":", 1)
    return host, int(port)


def connect(server, door):
    return socket.create_connection(address(server, door), timeout=30)


def ask_http(server):
    with contextlib.suppress(OSError):
        return server.request("GET", "/v2/health/live")[0] == 200


def ask_grpc(server):
    with grpc.insecure_channel(server.ready["grpc"], options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        with contextlib.suppress(grpc.RpcError):
            return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5).status == SERVING


ASK = {"http": ask_http, "grpc": ask_grpc}


class Kept:
    """A client that was there before, and asks on the connection that it has."""

    def __init__(self, server, door):
        self.door = door
        if door == "http":
            self.connection = connect(server, door)
        else:
            self.channel = grpc.insecure_channel(server.ready["grpc"], options=[("grpc.use_local_subchannel_pool", 1)])
            self.stub = health_pb2_grpc.HealthStub(self.channel)
        assert self.ask()

    def ask(self):
        if self.door == "grpc":
            return self.stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status == SERVING
        self.connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b'{"live":true}'):
            piece = self.connection.recv(65536)
            assert piece, answer
            answer += piece
        return answer.startswith(b"HTTP/1.1 200")

    def close(self):
        (self.channel if self.door == "grpc" else self.connection).close()


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def memory_kb(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


# --- many connections ---

@pytest.fixture
def may_open():
    """Raises how many descriptors this process, and the daemons that it starts, may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def raise_to(count):
        if before[1] != resource.RLIM_INFINITY and before[1] < count:
            pytest.skip(f"needs {count} open files, the limit is {before[1]}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(count, before[0]), before[1]))

    yield raise_to
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def greet(connection, door):
    """What a client that then falls silent has said."""
    if door == "grpc":
        connection.sendall(PREFACE + frame(SETTINGS))
    else:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")


@pytest.mark.slow
@pytest.mark.memory
@pytest.mark.parametrize("door", DOORS)
def test_ten_thousand_idle_connections_are_held_and_others_served(new_server, may_open, door):
    count = 10_000
    may_open(count + 2000)
    server = new_server("--set", "http.max_connections=10100").start()
    kept = Kept(server, door)
    before = memory_kb(server)
    with contextlib.ExitStack() as stack:
        stack.callback(kept.close)
        idle = []
        for _ in range(count):
            idle.append(stack.enter_context(connect(server, door)))
            greet(idle[-1], door)
        wait_for("all are in", lambda: descriptors(server) >= count)
        for connection in idle:
            assert connection.recv(1000)
        each = (memory_kb(server) - before) / count
        began = time.monotonic()
        assert kept.ask() and all(ask(server) for ask in ASK.values())
        took = time.monotonic() - began
        print(f"\n{door}: {each:.1f} kB for each of {count} idle connections; three requests beside them took {took * 1e3:.0f} ms")
        assert each < 64
    wait_for("all are gone", lambda: descriptors(server) < 100, timeout=60)
    server.assert_well()
    assert server.stop() == 0


@pytest.mark.parametrize("door", DOORS)
def test_past_the_limit_a_connection_is_told_so_and_others_go_on(new_server, door):
    server = new_server("--set", "http.max_connections=20").start()
    kept = Kept(server, door)
    with contextlib.ExitStack() as stack:
        stack.callback(kept.close)
        held = [stack.enter_context(connect(server, door)) for _ in range(60)]
        told = [connection for connection in held if b"too many connections" in heard(connection)]
        assert 40 <= len(told) < 60
        assert kept.ask()
        other = next(name for name in DOORS if name != door)
        assert ASK[other](server), "the other door has a limit of its own"
    wait_for("room again", lambda: ASK[door](server))
    assert server.stop() == 0


def heard(connection):
    """What the server says at once, to a client that says nothing."""
    connection.settimeout(0.3)
    with contextlib.suppress(TimeoutError, ConnectionError):
        return connection.recv(65536)
    return b""


@pytest.mark.parametrize("door", DOORS)
def test_a_door_opens_again_after_descriptors_had_run_out(new_server, door):
    server = new_server().start()
    kept = Kept(server, door)
    # The daemon may have few more than it has; its clients have them all.
    most, before = descriptors(server) + 20, resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (most, before[1]))
    with contextlib.ExitStack() as stack:
        stack.callback(kept.close)
        for _ in range(60):
            stack.enter_context(connect(server, door))
        assert all(kept.ask() for _ in range(10))
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)
    wait_for("the door opens", lambda: ASK[door](server))
    server.assert_well()
    assert server.stop() == 0


# --- no protocol, or half of it ---

def frame(kind, payload=b"", flags=0, stream=0):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def field(name, value):
    """A header of HTTP/2 as a literal, without index or Huffman code."""
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


CALL = b"".join(field(*pair) for pair in ((":method", "POST"), (":scheme", "http"), (":path", "/inference.GRPCInferenceService/ModelInfer"),
                                          (":authority", "localhost"), ("te", "trailers"), ("content-type", "application/grpc")))


def closed_within(connections, seconds):
    """Which of them the server has closed by then."""
    end, closed = time.monotonic() + seconds, set()
    while time.monotonic() < end and len(closed) < len(connections):
        for name, connection in connections.items():
            connection.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                try:
                    if name not in closed and not connection.recv(65536):
                        closed.add(name)
                except ConnectionError:
                    closed.add(name)
    return closed


@pytest.mark.slow
def test_half_a_preface_does_not_hold_a_grpc_connection_for_ever(shared):
    sent = {"nothing": b"", "half a preface": PREFACE[:11], "no settings": PREFACE, "half a frame": PREFACE + frame(SETTINGS)[:5],
            "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + bytes(40)}
    with contextlib.ExitStack() as stack:
        held = {name: stack.enter_context(connect(shared, "grpc")) for name in sent}
        for name, data in sent.items():
            held[name].sendall(data)
        assert ask_grpc(shared)
        assert closed_within(held, GRPC_HANDSHAKE_S + 10) == set(sent)
    shared.assert_well()


def test_http_to_the_grpc_port_and_garbage_behind_a_preface_are_closed(unharmed):
    with contextlib.ExitStack() as stack:
        sent = {"http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "garbage": PREFACE + frame(SETTINGS) + b"\xff" * 200,
                "huge frame": PREFACE + frame(SETTINGS) + b"\xff\xff\xff\0\0\0\0\0\1"}
        held = {name: stack.enter_context(connect(unharmed, "grpc")) for name in sent}
        for name, data in sent.items():
            held[name].sendall(data)
        assert closed_within(held, 20) == set(sent)
    assert ask_grpc(unharmed)


def test_a_grpc_deadline_of_ten_thousand_years_is_none(new_server):
    server = new_server("--set", "serving.engine=openvino").start()
    assert server.request("POST", "/api/v1/models/good/versions?source=good.onnx", onnx.linear(onnx.tensor("w", [4, 2], [1] * 8)))[0] == 200
    server.cli("models", "deploy", "good")
    request = service_pb2.ModelInferRequest(model_name="good", raw_input_contents=[bytes(16)])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    message = request.SerializeToString()
    with connect(server, "grpc") as connection:
        connection.sendall(PREFACE + frame(SETTINGS) + frame(HEADERS, CALL + field("grpc-timeout", "99999999H"), END_HEADERS, 1)
                           + frame(DATA, b"\0" + struct.pack(">I", len(message)) + message, END_STREAM, 1))
        answer = b""
        while b"\n\x04good" not in answer and b"grpc-message" not in answer:  # ModelInferResponse.model_name
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
    assert b"\n\x04good" in answer, answer


@pytest.mark.parametrize("end", ["half a message", "the call only", "nothing"])
def test_a_grpc_client_that_ends_its_side_in_the_middle_leaves_nothing(unharmed, end):
    before = descriptors(unharmed)
    sent = PREFACE + frame(SETTINGS) + {"half a message": frame(HEADERS, CALL, END_HEADERS, 1) + frame(DATA, b"\0\0\0\1\0half", 0, 1),
                                         "the call only": frame(HEADERS, CALL, END_HEADERS, 1), "nothing": b""}[end]
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(connect(unharmed, "grpc"))
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        # The server closes its side though the clients do not.
        wait_for("the connections are gone", lambda: descriptors(unharmed) <= before + 1)
    assert ask_grpc(unharmed)


def test_many_half_closed_http_connections_are_answered_and_closed(unharmed):
    before = descriptors(unharmed)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connect(unharmed, "http")) for _ in range(200)]
        for i, connection in enumerate(held):
            if i % 2:
                connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
        for i, connection in enumerate(held):
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200") if i % 2 else answer == b"", (i, answer)
        wait_for("the connections are gone", lambda: descriptors(unharmed) <= before + 1)


@pytest.mark.parametrize("path", ["/v2/models/good/infer", "/v1/models/good:predict", "/v2/repository/models/good/load"])
def test_a_body_of_a_gigabyte_is_refused_before_it_is_sent(unharmed, path):
    with connect(unharmed, "http") as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {1 << 30}\r\n\r\n".encode())
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413"), answer


@pytest.mark.memory
def test_chunks_without_end_stop_at_the_limit_and_hold_no_memory(new_server):
    server = new_server("--set", "http.max_body=1MB").start()
    before = memory_kb(server)
    answer = b""
    with connect(server, "http") as connection:
        connection.sendall(b"POST /v2/models/good/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        end = time.monotonic() + 20
        # Goes on after the answer, for as long as the server's patience lasts.
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < end:
                connection.sendall(b"1\r\nx\r\n" * 10_000)
                if not answer and select.select([connection], [], [], 0)[0]:
                    answer = connection.recv(65536)
        assert time.monotonic() < end, "the server reads on and on"
    assert answer.startswith(b"HTTP/1.1 413"), answer
    assert memory_kb(server) - before < 30_000
    server.assert_well()


@pytest.mark.parametrize("path, body", [
    ("/v2/models/good/infer", b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":' + b"[" * 200_000), ("/v1/models/good:predict", b'{"instances":' + b"[" * 200_000),
    ("/v2/repository/models/good/load", b'{"parameters":{"config":"' + b"[" * 200_000 + b'"}}'),
    ("/v2/repository/models/good/load", b'{"parameters":' + b'{"a":' * 100_000), ("/v2/repository/index", b"[" * 200_000), ("/v2/logging", b'{"a":' * 100_000),
    ("/v2/systemsharedmemory/region/r/register", b"[" * 200_000), ("/api/v1/jobs", b"[" * 200_000),
], ids=lambda value: value if isinstance(value, str) else "")
def test_deep_json_is_refused_everywhere(unharmed, path, body):
    status, answer = unharmed.request("POST", path, body)
    assert status in (400, 404) and json.loads(answer)["error"], (status, answer)


def test_garbage_behind_a_request_in_one_piece_ends_that_connection_only(unharmed):
    good = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def send(garbage):
        with connect(unharmed, "http") as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(good * 3 + garbage + good)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(65536):
                    answer += piece
        assert answer.count(b"HTTP/1.1 200") <= 3 and answer.startswith(b"HTTP/1.1 200"), answer
        assert b"HTTP/1.1 200" not in answer.partition(b"HTTP/1.1 400")[2], "nothing behind garbage is believed"

    for garbage in (b"\0" * 1000, b"\xff" * 1000, b"hello\r\n\r\n", PREFACE):
        threads = [threading.Thread(target=send, args=(garbage,)) for _ in range(8)]
        [thread.start() for thread in threads]
        assert ask_http(unharmed)
        [thread.join() for thread in threads]
