"""Clients of every kind for a daemon whose engine gives its input back: each checks its answers and counts them.

A client is a function of (server, seen, random): made once on its thread, it gives a function that does one step. `seen` counts what the model
was asked and how that ended: (model, "ok" | "refused" | "left"), where "left" is a request whose client did not wait for the answer.
"""

import contextlib
import http.client
import json
import os
import socket
import struct
import time

import grpc
import numpy as np
import tritonclient.utils.shared_memory as shm
from tritonclient.grpc import service_pb2, service_pb2_grpc

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close throws the connection away
LATE = (503, 504)
LATE_CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def address(server, door="http"):
    host, port = server.ready[door].rsplit(":", 1)
    return host, int(port)


def values(random, most=64):
    return random.integers(-1000, 1000, int(random.integers(1, most + 1))).astype(np.float32)


def json_body(sent, **parameters):
    tensor = {"name": "INPUT0", "shape": [len(sent)], "datatype": "FP32", "data": sent.tolist()}
    return json.dumps({"inputs": [tensor], "parameters": parameters}).encode()


def check_json(answer, sent):
    (output,) = json.loads(answer)["outputs"]
    assert output["data"] == sent.tolist(), (output, sent)


class Http:
    """One kept connection."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection(*address(server), timeout=60)

    def post(self, path, body, headers=None):
        self.connection.request("POST", path, body, headers or {})
        answer = self.connection.getresponse()
        return answer.status, answer.read(), answer.headers

    def infer(self, model, sent, **parameters):
        return self.post(f"/v2/models/{model}/infer", json_body(sent, **parameters))


def http_json(server, seen, random, models=("plain", "cached")):
    client = Http(server)

    def step():
        model = models[random.integers(len(models))]
        # The same few again and again: some are found in the cache.
        sent = np.arange(random.integers(1, 9), dtype=np.float32) if model == "cached" else values(random)
        status, answer, _ = client.infer(model, sent)
        assert status == 200, (model, status, answer)
        check_json(answer, sent)
        seen[model, "ok"] += 1

    return step


def http_binary(server, seen, random, models=("batched", "apart")):
    client = Http(server)

    def step():
        model = models[random.integers(len(models))]
        sent = values(random, 32)
        head = json.dumps({"inputs": [{"name": "INPUT0", "shape": [len(sent)], "datatype": "FP32", "parameters": {"binary_data_size": sent.nbytes}}],
                           "parameters": {"binary_data_output": True, "priority": int(random.integers(0, 4))}}).encode()
        status, answer, headers = client.post(f"/v2/models/{model}/infer", head + sent.tobytes(), {"Inference-Header-Content-Length": str(len(head))})
        assert status == 200, (model, status, answer)
        assert answer[int(headers["Inference-Header-Content-Length"]):] == sent.tobytes()
        seen[model, "ok"] += 1

    return step


def shared_memory(server, seen, random, model="plain"):
    client = Http(server)
    name = f"load-{os.getpid()}-{random.integers(1 << 30)}"
    region = shm.create_shared_memory_region(name, "/" + name, 4096)
    register = {"key": "/" + name, "offset": 0, "byte_size": 4096}
    status, answer, _ = client.post(f"/v2/systemsharedmemory/region/{name}/register", json.dumps(register))
    assert status == 200, answer

    def place(offset, size):
        return {"shared_memory_region": name, "shared_memory_offset": offset, "shared_memory_byte_size": size}

    def step():
        sent = values(random)
        shm.set_shared_memory_region(region, [sent])
        body = {"inputs": [{"name": "INPUT0", "shape": [len(sent)], "datatype": "FP32", "parameters": place(0, sent.nbytes)}],
                "outputs": [{"name": "OUTPUT0", "parameters": place(2048, sent.nbytes)}]}
        status, answer, _ = client.post(f"/v2/models/{model}/infer", json.dumps(body))
        assert status == 200, answer
        assert np.array_equal(shm.get_contents_as_numpy(region, np.float32, [len(sent)], offset=2048), sent)
        seen[model, "ok"] += 1

    def close():
        shm.destroy_shared_memory_region(region)

    step.close = close
    return step


def tfserving_rest(server, seen, random, model="cached"):
    client = Http(server)

    def step():
        sent = values(random).tolist()
        form, wanted = (("instances", "predictions"), ("inputs", "outputs"))[random.integers(2)]
        status, answer, _ = client.post(f"/v1/models/{model}:predict", json.dumps({form: sent}))
        assert status == 200 and json.loads(answer)[wanted] == sent, (status, answer)
        seen[model, "ok"] += 1

    return step


def sequences(server, seen, random, model="sequence"):
    """Three sequences in turns, each of a few requests."""
    client = Http(server)
    left, ids = [0, 0, 0], [int(random.integers(1, 1 << 40)) for _ in range(3)]

    def step():
        which = random.integers(3)
        start = left[which] == 0
        if start:
            ids[which] += 1
            left[which] = int(random.integers(1, 6))
        left[which] -= 1
        sent = values(random, 1)  # a row of a batch is one sequence's
        status, answer, _ = client.infer(model, sent, sequence_id=ids[which], sequence_start=start, sequence_end=left[which] == 0)
        assert status == 200, (status, answer)
        check_json(answer, sent)
        seen[model, "ok"] += 1

    return step


def in_a_hurry(server, seen, random, model="hurried"):
    """Deadlines from a tenth of a millisecond on: an answer in time, or the word that it would be late."""
    client = Http(server)

    def step():
        sent = values(random)
        status, answer, _ = client.infer(model, sent, timeout=int(10 ** random.uniform(2, 5)), priority=int(random.integers(1, 4)))
        assert status in (200, *LATE), (status, answer)
        if status == 200:
            check_json(answer, sent)
        seen[model, "ok" if status == 200 else "refused"] += 1

    return step


def on_and_off(server, seen, random, model="spare"):
    """A model that is unloaded and loaded meanwhile: answered right, or told that it is not there."""
    client = Http(server)

    def step():
        sent = values(random)
        status, answer, _ = client.infer(model, sent)
        assert status in (200, 404, 503), (status, answer)
        if status == 200:
            check_json(answer, sent)
            seen[model, "ok"] += 1
        else:
            time.sleep(0.002)

    return step


def leaving(server, seen, random, model="torn"):
    """Goes away in the middle: of the head, of the body, of the wait; or ends its side only, which is not going away."""
    host, port = address(server)

    def request(sent):
        body = json_body(sent)
        return b"POST /v2/models/%s/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (model.encode(), len(body)) + body

    def step():
        sent = values(random)
        data = request(sent)
        with socket.create_connection((host, port), timeout=60) as connection:
            kind = random.integers(5)
            if kind == 0:  # half-closed: it still gets its answer
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                received = b""
                while piece := connection.recv(65536):
                    received += piece
                # Perhaps behind "102 Processing", by which the server asks whether the client is still there.
                *_, head, body = received.split(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200"), received
                check_json(body, sent)
                seen[model, "ok"] += 1
                return
            if kind == 1:
                connection.sendall(data[:random.integers(1, len(data))])
            elif kind == 2:  # several, one behind the other
                connection.sendall(data * 3)
                seen[model, "left"] += 3
            else:
                connection.sendall(data)
                seen[model, "left"] += 1
            time.sleep(random.uniform(0, 0.02))
            if kind != 3:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    return step


def message(model, sent):
    made = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[sent.tobytes()])
    made.inputs.add(name="INPUT0", datatype="FP32", shape=sent.shape)
    return made


def stub_of(server):
    # A connection of its own: channels of one process would share one.
    channel = grpc.insecure_channel(server.ready["grpc"], options=[("grpc.use_local_subchannel_pool", 1)])
    return service_pb2_grpc.GRPCInferenceServiceStub(channel), channel.close


def grpc_unary(server, seen, random, models=("plain", "batched", "apart")):
    stub, close = stub_of(server)

    def step():
        asked = [(models[random.integers(len(models))], values(random, 32)) for _ in range(4)]
        calls = [stub.ModelInfer.future(message(model, sent), timeout=60) for model, sent in asked]
        for call, (model, sent) in zip(calls, asked):
            assert call.result().raw_output_contents[0] == sent.tobytes()
            seen[model, "ok"] += 1

    step.close = close
    return step


def grpc_in_a_hurry(server, seen, random, model="hurried"):
    """The deadline is the server's to keep: the call's own is far."""
    stub, close = stub_of(server)

    def step():
        sent = values(random)
        made = message(model, sent)
        made.parameters["timeout"].int64_param = int(10 ** random.uniform(2, 5))
        try:
            assert stub.ModelInfer(made, timeout=60).raw_output_contents[0] == sent.tobytes()
            seen[model, "ok"] += 1
        except grpc.RpcError as error:
            if error.code() not in LATE_CODES:
                raise
            seen[model, "refused"] += 1

    step.close = close
    return step


def grpc_cancelling(server, seen, random, model="torn"):
    stub, close = stub_of(server)

    def step():
        calls = [stub.ModelInfer.future(message(model, values(random)), timeout=60) for _ in range(4)]
        time.sleep(random.uniform(0, 0.01))
        for call in calls:
            call.cancel()
        seen[model, "left"] += len(calls)
        seen[model, "cancelled"] += len(calls)

    step.close = close
    return step


def grpc_stream(server, seen, random, model="plain"):
    stub, close = stub_of(server)

    def step():
        asked = {str(i): values(random) for i in range(8)}

        def requests():
            for key, sent in list(asked.items()):
                made = message(model, sent)
                made.id = key
                yield made

        for answer in stub.ModelStreamInfer(requests(), timeout=60):
            assert not answer.error_message, answer.error_message
            response = answer.infer_response
            assert response.raw_output_contents[0] == asked.pop(response.id).tobytes()
            seen[model, "ok"] += 1
        assert not asked

    step.close = close
    return step


def grpc_stream_cancelling(server, seen, random, model="torn"):
    stub, close = stub_of(server)

    def step():
        count = int(random.integers(1, 6))
        stream = stub.ModelStreamInfer(iter([message(model, values(random)) for _ in range(count)]), timeout=60)
        with contextlib.suppress(grpc.RpcError):
            if random.integers(2):
                next(stream)
        stream.cancel()
        seen[model, "left"] += count
        seen[model, "cancelled"] += count

    step.close = close
    return step


ALL = [http_json, http_binary, shared_memory, tfserving_rest, sequences, in_a_hurry, on_and_off, leaving, grpc_unary, grpc_in_a_hurry,
       grpc_cancelling, grpc_stream, grpc_stream_cancelling]
