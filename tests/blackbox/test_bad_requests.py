"""Requests that are wrong, hostile or not allowed: each gets its answer, and the next client sees nothing of it."""

import contextlib
import io
import json
import os
import signal
import socket
import tarfile
import threading
import urllib.parse

import numpy as np
import pytest
import tritonclient.http as triton

import onnx_files as onnx
from conftest import wait_for

INFER = "/v2/models/good/infer"
X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}


@pytest.fixture(scope="module")
def serving(shared, tmp_path_factory):
    """The shared daemon with a model: x [N, 4] -> y [N, 2]."""
    file = tmp_path_factory.mktemp("models") / "good.onnx"
    file.write_bytes(onnx.linear(onnx.tensor("w", [4, 2], [1, 0, 0, 1, 1, 0, 0, 1])))
    shared.cli("models", "import", "good", file)
    shared.cli("models", "deploy", "good")
    return shared


@pytest.fixture(autouse=True)
def goes_on(serving):
    yield
    serving.assert_well()
    status, body = serving.request("POST", INFER, {"inputs": [X]})
    assert status == 200 and json.loads(body)["outputs"][0]["data"] == [4, 6]


def address(server):
    host, port = server.ready["http"].rsplit(":", 1)
    return host, int(port)


def raw(server, data, host="127.0.0.1", more=b""):
    """Sends bytes as they are; the status and the body of what comes back until the server closes or answered."""
    with socket.socket() as connection:
        connection.settimeout(20)
        connection.connect((host, address(server)[1]))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
            connection.sendall(more)
        return answer_of(connection)


def answer_of(connection):
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while b"\r\n\r\n" not in received and (piece := connection.recv(65536)):
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length:")), 0)
        while len(body) < length and (piece := connection.recv(65536)):
            body += piece
    assert received, "no answer at all"
    return int(head.split()[1]), body.decode()


def head(verb, path, *lines):
    return "\r\n".join([f"{verb} {path} HTTP/1.1", *(lines if any(l.startswith("Host") for l in lines) else ("Host: localhost", *lines)), "", ""]).encode()


def error_of(answer):
    status, body = answer
    return status, json.loads(body)["error"]


# --- tensors ---

@pytest.mark.parametrize("changes, words", [
    ({"name": "X"}, ["'X'", "'x'"]),
    ({"name": ""}, ["name"]),
    ({"name": None}, ["'name'"]),
    ({"shape": [1, 5], "data": [1] * 5}, ["'x'", "[1,5]", "[-1,4]"]),
    ({"shape": [4]}, ["'x'", "[4]", "[-1,4]"]),
    ({"shape": [2, 4]}, ["'x'"]),
    ({"shape": [1, -4]}, ["'x'", "negative"]),
    ({"shape": [1 << 62, 1 << 62]}, ["'x'"]),
    ({"shape": [1] * 40}, ["'x'", "dimensions"]),
    ({"shape": "1x4"}, ["'x'", "'shape'"]),
    ({"shape": [1.5, 4]}, ["'x'", "shape"]),
    ({"datatype": "INT32"}, ["'x'", "INT32", "FP32"]),
    ({"datatype": "FLOAT"}, ["'x'", "'FLOAT'"]),
    ({"datatype": 7}, ["'datatype'"]),
    ({"data": [1, 2, 3]}, ["'x'", "fewer", "[1,4]"]),
    ({"data": [1, 2, 3, 4, 5]}, ["'x'", "4"]),
    ({"data": [1, 2, "three", 4]}, ["'x'"]),
    ({"data": [1, 2, None, 4]}, ["'x'"]),
    ({"data": {"a": 1}}, ["'x'", "'data'"]),
    ({"data": None}, ["'x'"]),
    ({"parameters": {"binary_data_size": 16}}, ["'x'", "both"]),
    ({"parameters": {"shared_memory_region": "r"}, "data": None}, ["'x'", "shared_memory_region"]),
])
def test_a_wrong_tensor_is_named(serving, changes, words):
    tensor = {key: value for key, value in {**X, **changes}.items() if value is not None}
    status, error = error_of(serving.request("POST", INFER, {"inputs": [tensor]}))
    assert status == 400 and all(word in error for word in words), (status, error)


@pytest.mark.parametrize("body, words", [
    ({}, ["'inputs'"]), ({"inputs": []}, ["'x' is missing"]), ({"inputs": {}}, ["'inputs'"]), ({"inputs": [7]}, ["input 0"]),
    ({"inputs": [X, X]}, ["'x'", "twice"]), ({"inputs": [X, {**X, "name": "z"}]}, ["'z'"]),
    ({"inputs": [X], "outputs": [{"name": "nothing"}]}, ["'nothing'"]), ({"inputs": [X], "outputs": 3}, ["'outputs'"]),
    ({"inputs": [X], "parameters": {"timeout": -1}}, ["'timeout'"]), ({"inputs": [X], "parameters": []}, ["'parameters'"]),
    ({"inputs": [X], "parameters": {"sequence_id": [3]}}, ["'sequence_id'"]), ({"inputs": [X], "id": 3}, ["'id'"]),
    (b"", ["not JSON"]), (b"{", ["not JSON"]), (b"[]", ["object"]), (b"\xff\xfe{}", ["not JSON"]),
    (b'{"inputs": [{"name": "\xff"}]}', ["not JSON"]), (b'{"a":' * 100000, ["JSON"]),
    (b'{"inputs":' + b"[" * 100 + b"]" * 100 + b"}", ["JSON"]), (b'{"inputs": 1e999999}', ["JSON"]),
], ids=lambda value: str(value)[:25])
def test_a_wrong_request_says_what_is_wrong(serving, body, words):
    status, error = error_of(serving.request("POST", INFER, body))
    assert status == 400 and all(word in error for word in words), (status, error)


@pytest.mark.parametrize("size, sent, header, words", [
    (16, 15, None, ["'x'", "1 missing"]), (16, 17, None, ["1 bytes are left over"]), (12, 12, None, ["'x'", "12 bytes"]),
    (-1, 16, None, ["binary_data_size"]), (1 << 63, 16, None, ["'x'"]), (16, 16, "999999", ["Inference-Header-Content-Length", "999999"]),
    (16, 16, "-1", ["Inference-Header-Content-Length"]), (16, 16, "many", ["Inference-Header-Content-Length"]), (16, 16, "3", ["JSON"])])
def test_binary_data_of_a_wrong_size_are_refused(serving, size, sent, header, words):
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    text = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": header or str(len(text))}
    status, error = error_of(serving.request("POST", INFER, text + bytes(sent), headers))
    assert status == 400 and all(word in error for word in words), (status, error)


def test_tritonclient_sees_the_reason(serving):
    client = triton.InferenceServerClient(serving.ready["http"])
    tensor = triton.InferInput("x", [1, 5], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 5), np.float32))
    with pytest.raises(triton.InferenceServerException, match=r"'x' has shape \[1,5\]"):
        client.infer("good", [tensor])


@pytest.mark.parametrize("path, words", [
    ("/v2/models/goof/infer", ["'goof'"]), ("/v2/models/good/versions/7/infer", ["'good'", "7"]),
    ("/v2/models/good/versions/champ/infer", ["'champ'"]), ("/v2/models/good/versions/99999999999999999999/infer", ["9999"]),
    ("/v2/models//infer", []), ("/v2/models/%2e%2e%2f/infer", [])])
def test_an_unknown_model_or_version_is_not_found(serving, path, words):
    status, error = error_of(serving.request("POST", path, {"inputs": [X]}))
    assert status == 404 and all(word in error for word in words), (status, error)


# --- HTTP ---

def test_wrong_verbs_and_paths_are_named(serving):
    for verb, path, status in (("GET", INFER, 405), ("DELETE", "/v2/health/live", 405), ("POST", "/api/v1/models/good/file", 405),
                               ("GET", "/nothing/here", 404), ("GET", "/v2/../etc/passwd", 404), ("GET", "/" + "a/" * 500, 404)):
        got, error = error_of(serving.request(verb, path))
        assert got == status and (path.split("?")[0] in error or len(path) > 100), (verb, path, got, error)
    assert b"Allow: POST" in serving_head(serving, head("GET", INFER))


def serving_head(server, data):
    with socket.create_connection(address(server), timeout=20) as connection:
        connection.sendall(data)
        return connection.recv(65536)


@pytest.mark.parametrize("data, status", [
    (b"hello\r\n\r\n", 400), (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 505), (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + bytes(200), 400),
    (b"GET /v2 HTTP/1.1\r\n\r\n", 400), (head("GET", "/v2", "Host: localhost", "Host: localhost"), 400),
    (head("POST", INFER, "Content-Length: -5"), 400), (head("POST", INFER, "Content-Length: 5", "Content-Length: 6"), 400),
    (head("POST", INFER, "Content-Length: 99999999999999999999999"), 400),
    (head("POST", INFER, "Content-Length: 4", "Transfer-Encoding: chunked"), 400),
    (head("POST", INFER, "Transfer-Encoding: gzip"), 501), (head("POST", INFER, "Content-Encoding: br", "Content-Length: 0"), 415),
    (head("POST", INFER, "Content-Encoding: gzip", "Content-Length: 0"), 400),
    (head("POST", INFER, "Transfer-Encoding: chunked") + b"zz\r\n", 400), (head("GET", "/v2/models/%zz"), 400),
    (head("GET", "/v2\x01"), 400), (head("GET", "/v2", "X-A: b\0c"), 400),
], ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else str(value))
def test_what_is_no_http_is_refused(serving, data, status):
    got, body = raw(serving, data)
    assert got == status and json.loads(body)["error"], (got, body)


@pytest.mark.parametrize("path, status", [(INFER, 413), ("/api/v1/jobs", 413), ("/api/v1/models/huge/versions", 413)])
def test_a_giant_body_is_refused_before_it_is_sent(serving, path, status):
    """Only the head is sent: an answer proves that nothing was waited for."""
    got, error = error_of(raw(serving, head("POST", path, f"Content-Length: {1 << 50}")))
    assert got == status and str(1 << 50) in error, (got, error)


def test_a_giant_chunked_body_is_refused_where_the_limit_is(new_server):
    server = new_server("--set", "http.max_body=100kB").start()
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    got, error = error_of(raw(server, head("POST", "/v2/models/good/infer", "Transfer-Encoding: chunked"), more=chunk * 8))
    assert got == 413 and "100000" in error, (got, error)
    server.assert_well()


def test_huge_headers_are_refused(serving):
    for data in (head("GET", "/v2", "X-Long: " + "a" * 100_000), head("GET", "/v2", *(f"X-{i}: {i}" for i in range(10_000))),
                 head("GET", "/" + "a" * 100_000)):
        got, error = error_of(raw(serving, data))
        assert got == 431, (got, error)


def test_slow_clients_are_told_and_closed_while_others_are_served(new_server):
    server = new_server("--set", "http.read_timeout=1s").start()
    with socket.create_connection(address(server)) as slow_head, socket.create_connection(address(server)) as slow_body:
        slow_head.sendall(b"GET /v2 HTTP/1.1\r\nHost: local")
        slow_body.sendall(head("POST", "/v2/models/good/infer", "Content-Length: 100") + b"{")
        assert server.request("GET", "/v2/health/live")[0] == 200
        for connection in (slow_head, slow_body):
            connection.settimeout(20)
            status, body = answer_of(connection)
            assert status == 408 and "1 s" in json.loads(body)["error"], (status, body)
            assert connection.recv(10) == b"", "the connection is closed"


def test_a_body_that_ends_early_is_told_so(serving):
    with socket.create_connection(address(serving), timeout=20) as connection:
        connection.sendall(head("POST", INFER, "Content-Length: 100") + b'{"inputs"')
        connection.shutdown(socket.SHUT_WR)
        status, body = answer_of(connection)
    assert status == 400 and "91 bytes" in body, (status, body)


def test_more_connections_than_allowed_are_told_so(new_server):
    server = new_server("--set", "http.max_connections=8").start()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(address(server), timeout=20)) for _ in range(12)]
        answers = [answer_of(connection)[0] for connection in held[8:]]
        assert answers == [503] * 4
    wait_for("room", lambda: server.process.poll() is None and request_or_none(server) == 200)


def request_or_none(server):
    with contextlib.suppress(OSError):
        return server.request("GET", "/v2/health/live")[0]


# --- who may ---

@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io", "8.8.8.8", "", "[::2]"])
def test_another_host_name_is_refused(serving, host):
    """A page whose name was rebound to 127.0.0.1 sends its own name."""
    status, error = error_of(raw(serving, head("POST", INFER, f"Host: {host}", "Content-Length: 0")))
    assert status == 403 and "Host" in error, (status, error)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1:1"])
def test_another_sites_page_is_refused(serving, origin):
    def shown():
        model = serving.cli("models", "show", "good", "--json").json
        for version in model["versions"]:  # the engines may be measured meanwhile
            version.pop("engine", None), version.pop("engine_report", None)
        return model

    before = shown()
    for verb, path, body in (("POST", "/api/v1/jobs", {"spec": "x"}), ("DELETE", "/api/v1/models/good", None), ("POST", "/api/v1/stop", None),
                             ("POST", "/v2/repository/models/good/unload", {}), ("POST", INFER, {"inputs": [X]})):
        status, error = error_of(serving.request(verb, path, body, {"Origin": origin}))
        assert status == 403 and "Origin" in error, (verb, path, status, error)
    assert shown() == before


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def as_nobody(work):
    """Runs `work` in a child of another user; its answer, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writer, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text)


@as_root
def test_another_user_may_predict_but_not_manage(serving):
    body = json.dumps({"inputs": [X]}).encode()
    status, _ = as_nobody(lambda: raw(serving, head("POST", INFER, f"Content-Length: {len(body)}") + body))
    assert status == 200
    for verb, path in (("POST", "/api/v1/jobs"), ("GET", "/api/v1/models"), ("DELETE", "/api/v1/models/good"), ("POST", "/api/v1/stop"),
                       ("POST", "/v2/repository/models/good/unload"), ("POST", "/api/v1/models/good/versions")):
        status, error = error_of(as_nobody(lambda: raw(serving, head(verb, path, "Content-Length: 0"))))
        assert status == 403 and "may predict but not manage" in error, (verb, path, status, error)


@as_root
def test_a_caller_that_is_gone_before_it_is_looked_up_is_nobody(serving):
    """The kernel gives a socket that its process has closed to root."""
    body = b'{"level":"debug"}'

    def shout_and_leave():
        with socket.socket() as connection:
            connection.connect(address(serving))
            connection.sendall(head("PUT", "/api/v1/log-level", f"Content-Length: {len(body)}") + body)

    os.kill(serving.process.pid, signal.SIGSTOP)  # it looks only when all are gone
    try:
        for _ in range(20):
            as_nobody(shout_and_leave)
    finally:
        os.kill(serving.process.pid, signal.SIGCONT)
    for _ in range(20):  # on any of its threads, behind the others
        serving.cli("log-level", "info")
    changes = [line for line in serving.log_text().splitlines() if "log level changed" in line]
    assert changes and not [line for line in changes if "level=debug" in line]


@pytest.fixture
def guarded(new_server, tmp_path):
    """A daemon on all addresses, which asks for a token."""
    tokens = tmp_path / "tokens"
    tokens.write_text("# who may\nalice:a-secret-of-alice-1\n")
    tokens.chmod(0o600)
    server = new_server("--http", "0.0.0.0:0", "--token-file", tokens)
    # The last --http wins, and 0.0.0.0 is no address to connect to.
    server.start()
    server.url = server.url.replace("0.0.0.0", "127.0.0.1")
    return server


def test_elsewhere_than_on_loopback_everything_but_health_needs_a_token(guarded):
    secret = "a-secret-of-alice-1"
    assert guarded.request("GET", "/v2/health/live")[0] == 200
    for verb, path in (("GET", "/v2"), ("GET", "/metrics"), ("POST", INFER), ("GET", "/api/v1/jobs"), ("POST", "/api/v1/stop")):
        status, error = error_of(guarded.request(verb, path))
        assert status == 401 and "token" in error, (verb, path, status, error)
        for wrong in ("Bearer a-secret-of-alice-2", "Bearer ", f"Basic {secret}", secret, "Bearer alice:" + secret):
            assert guarded.request(verb, path, headers={"Authorization": wrong})[0] == 401, (path, wrong)
    assert guarded.request("GET", "/api/v1/jobs", headers={"Authorization": f"Bearer {secret}"})[0] == 200
    assert guarded.cli("status", check=False).code == 5
    assert guarded.cli("status", env={"TANDEM_TOKEN": secret}).code == 0
    assert secret not in guarded.log_text()


@pytest.mark.parametrize("content, mode, words", [
    ("alice:a-secret-of-alice-1\n", 0o644, ["chmod 600"]), ("alice:short\n", 0o600, ["line 1", "'alice'", "16"]),
    ("nothing here\n", 0o600, ["line 1", "name:secret"]), ("", 0o600, ["holds no token"]), (None, 0, ["No such file"])])
def test_a_bad_token_file_is_refused_at_the_start(new_server, tmp_path, content, mode, words):
    tokens = tmp_path / "tokens"
    if content is not None:
        tokens.write_text(content)
        tokens.chmod(mode)
    server = new_server("--http", "0.0.0.0:0", "--token-file", tokens)
    server.start(wait=False)
    assert server.process.wait(20) in (1, 2)
    assert "tokens" in server.log_text() and all(word in server.log_text() for word in words), server.log_text()


# --- management ---

@pytest.mark.parametrize("verb, path, body, words", [
    ("POST", "/api/v1/jobs", b"{", ["JSON"]), ("POST", "/api/v1/jobs", {"speck": "a"}, ["speck"]), ("POST", "/api/v1/jobs", {"spec": 7}, ["spec"]),
    ("POST", "/api/v1/jobs", {}, ["spec"]), ("GET", "/api/v1/jobs/abc", None, ["'abc'"]), ("GET", "/api/v1/jobs/1/logs?offset=-1", None, ["'offset'"]),
    ("POST", "/api/v1/jobs", b'{"spec":' + b"[" * 10000, ["JSON"]), ("PUT", "/api/v1/log-level", {"level": "loud"}, ["'loud'"]),
    ("POST", "/api/v1/models/good/alias", {"alias": "a b", "version": 1}, ["alias"]), ("POST", "/api/v1/gc", {"dry_run": "yes"}, ["'dry_run'"]),
    ("POST", "/api/v1/models/good/deploy", {"model": "other"}, ["'other'", "'good'"]), ("DELETE", "/api/v1/models/good?version=x", None, ["'version'"]),
    ("POST", "/api/v1/datasets", {}, ["name"]), ("POST", "/api/v1/datasets/upload?request={}", b"no tar", ["name"]),
], ids=lambda value: str(value)[:30])
def test_wrong_management_requests_are_named(serving, verb, path, body, words):
    status, error = error_of(serving.request(verb, path, body))
    assert status == 400 and all(word in error for word in words), (status, error)


def test_a_tar_that_leads_out_of_its_folder_is_refused(serving, tmp_path):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("../../escaped.txt", "/tmp/escaped-absolute.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = 3
            tar.addfile(entry, io.BytesIO(b"hey"))
    request = '{"dataset":{"name":"escaper","format":"images"}}'
    status, _ = error_of(serving.request("POST", f"/api/v1/datasets/upload?request={urllib.parse.quote(request)}", archive.getvalue()))
    assert status == 400
    assert not list(serving.folder.rglob("escaped*")) and not os.path.exists("/tmp/escaped-absolute.txt")


def test_a_tar_with_a_link_and_one_that_is_compressed_are_refused_as_data_sets(serving):
    request = '{"dataset":{"name":"linked","format":"images"}}'
    for mode, kind, why in (("w", tarfile.SYMTYPE, "entry 'train.csv' of the archive is a link"), ("w:gz", tarfile.REGTYPE, "compressed")):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode=mode) as tar:
            entry = tarfile.TarInfo("train.csv")
            entry.type, entry.linkname = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            tar.addfile(entry, io.BytesIO())
        status, error = error_of(serving.request("POST", f"/api/v1/datasets/upload?request={urllib.parse.quote(request)}", archive.getvalue()))
        assert status == 400 and why in error, error
        assert not (serving.folder / "data/datasets/linked").exists()


def test_a_storm_of_bad_requests_leaves_good_ones_alone(serving):
    """Three clients misbehave at once while a fourth asks properly."""
    stop = threading.Event()
    bad = [head("GET", "/" + "a" * 20_000), head("POST", INFER, "Content-Length: 7") + b"{{{{{{{", b"\0" * 100, head("POST", INFER, f"Content-Length: {1 << 40}")]

    def misbehave(which):
        while not stop.is_set():
            with contextlib.suppress(OSError, AssertionError):
                raw(serving, bad[which])

    threads = [threading.Thread(target=misbehave, args=(i,)) for i in range(len(bad))]
    [t.start() for t in threads]
    try:
        answers = [serving.request("POST", INFER, {"inputs": [X]})[0] for _ in range(100)]
    finally:
        stop.set()
        [t.join() for t in threads]
    assert answers == [200] * 100
