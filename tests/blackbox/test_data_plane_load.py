"""Everything at once: clients of every kind, clients that go away, and an operator who swaps, splits, configures and unloads meanwhile.

The engine gives its input back, so that any answer can be checked. `scripts/check --full` runs this against daemons built with the thread and
the address sanitizer, whose findings make the daemon end with another code than 0. TANDEM_LOAD_SECONDS: how long, 6 if it is not set.
"""

import collections
import json
import os
import signal
import threading
import time
import traceback

import grpc
import http.client
import numpy as np
import pytest

import load_clients
import onnx_files as onnx
from conftest import wait_for

SECONDS = float(os.environ.get("TANDEM_LOAD_SECONDS", 6))
CONFIGURATIONS = {
    "plain": {"canary": {"max_p99_ratio": 1000}},
    "batched": {"max_batch_size": 64, "preferred_batch_sizes": [8, 32], "max_queue_delay_ms": 1, "priority_levels": 3, "priority": 4},
    "cached": {"response_cache": True},
    "sequence": {"max_batch_size": 32, "sequence": {"strategy": "oldest"}},
    "hurried": {"priority_levels": 3, "max_batch_size": 64, "max_queue_delay_ms": 5, "queue_limit": 8},
    "torn": {"max_batch_size": 256, "max_queue_delay_ms": 15},
    "apart": {"isolation": "process"},
    "spare": {},
    "waiting": {"max_batch_size": 4096, "max_queue_delay_ms": 10_000},  # long enough for all who are to wait to come
}
# A connection that the daemon closed between two requests while it stops. No other error is forgiven, and none before.
ENDED = (ConnectionError, http.client.RemoteDisconnected, http.client.CannotSendRequest)


def file_of(number):
    """The same model, other bytes: an unknown field of that number in front."""
    return b"\n\x02" + f"{number:02}".encode() + onnx.identity()


def bring(server, model, versions=1):
    for number in range(versions):
        status, body = server.request("POST", f"/api/v1/models/{model}/versions?source={model}.onnx", file_of(number))
        assert status == 200, body
    post(server, f"models/{model}/config", {"text": json.dumps(CONFIGURATIONS[model])}, "PUT")
    post(server, f"models/{model}/deploy", {"version": 1})


def post(server, path, body, verb="POST"):
    status, answer = server.request(verb, "/api/v1/" + path, body)
    assert status == 200, (path, body, status, answer)
    return answer


@pytest.fixture
def echo(new_server):
    """A daemon with all models of CONFIGURATIONS, the swapped ones in two versions."""
    # Threads of a real-time class, made slow by a sanitizer, would leave little to everything else.
    server = new_server("--set", "serving.engine=echo", "--set", "isolation.rung=off", "--set", "stop_timeout=60s").start()
    for model in CONFIGURATIONS:
        bring(server, model, 2 if model in ("plain", "batched", "cached", "apart") else 1)
    return server


class Load:
    """Runs clients, each on a thread of its own, until it is ended."""

    def __init__(self, server, clients):
        self.over, self.stopping = threading.Event(), threading.Event()
        self.failures, self.counts = [], [collections.Counter() for _ in clients]
        self.threads = [threading.Thread(target=self._run, args=(server, client, seen, i)) for i, (client, seen) in enumerate(zip(clients, self.counts))]
        for thread in self.threads:
            thread.start()

    def _run(self, server, client, seen, seed):
        step = None
        try:
            step = client(server, seen, np.random.default_rng(seed))
            while not self.over.is_set() and not self.failures:
                step()
        except Exception as error:  # a thread's own end says nothing to the test
            if not (self.stopping.is_set() and self._is_an_end(error)):
                self.failures.append(f"{client.__name__}: {traceback.format_exc()}")
        finally:
            if hasattr(step, "close"):
                step.close()

    @staticmethod
    def _is_an_end(error):
        if isinstance(error, grpc.RpcError):
            return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        return isinstance(error, ENDED) or (isinstance(error, AssertionError) and "the server stops" in str(error))

    def join(self):
        for thread in self.threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in self.threads), "a client hangs"
        assert not self.failures, "\n".join(self.failures)
        return sum(self.counts, collections.Counter())


class Operator:
    """Changes everything that may be changed while requests go on; counts the changes by their kind."""

    def __init__(self, server, random):
        self.server, self.random, self.counts = server, random, collections.Counter()
        self.default = dict.fromkeys(CONFIGURATIONS, 1)

    def step(self):
        kinds = [self.swap, self.swap, self.alias, self.canary, self.shadow, self.configure, self.reload, self.look]
        kind = kinds[self.random.integers(len(kinds))]
        kind()
        self.counts[kind.__name__] += 1

    def pick(self, *of):
        return of[self.random.integers(len(of))]

    def swap(self):
        model = self.pick("plain", "batched", "cached", "apart")
        self.default[model] = 3 - self.default[model]
        post(self.server, f"models/{model}/deploy", {"version": self.default[model]})

    def alias(self):
        post(self.server, f"models/{self.pick('plain', 'cached')}/alias", {"alias": "challenger", "version": self.pick(1, 2)})

    def canary(self):
        other = 3 - self.default["plain"]
        post(self.server, "models/plain/canary", {"version": other, "percent": 30})
        if self.random.integers(2):
            post(self.server, "models/plain/promote", {"version": other})
            self.default["plain"] = other
        else:
            post(self.server, "models/plain/canary", {"percent": 0})

    def shadow(self):
        post(self.server, "models/plain/shadow", {"version": 3 - self.default["plain"], "percent": 50})
        if self.random.integers(2):
            post(self.server, "models/plain/shadow", {"percent": 0})

    def configure(self):
        model, change = self.pick(("batched", f"max_queue_delay_ms={self.random.integers(3)}"), ("cached", f"instances={self.random.integers(3)}"),
                                  ("plain", f"priority={self.random.integers(3, 8)}"), ("torn", f"pad={self.pick('true', 'false')}"))
        change = ["preferred_batch_sizes=[32]", change] if model == "torn" else [change]
        post(self.server, f"models/{model}/config", {"overrides": change}, "PUT")

    def reload(self):
        for verb in ("unload", "load"):
            status, answer = self.server.request("POST", f"/v2/repository/models/spare/{verb}", b"{}")
            assert status == 200, answer

    def look(self):
        for path in ("/metrics", "/v2/models/stats", "/api/v1/models", "/api/v1/status", "/v2/models/plain/config"):
            assert self.server.request("GET", path)[0] == 200


def statistics_of(server, model):
    """Requests that ended well, and that did not, over all versions that are loaded."""
    stats = json.loads(server.request("GET", f"/v2/models/{model}/stats")[1])["model_stats"]
    return [sum(int(version["inference_stats"][kind]["count"]) for version in stats) for kind in ("success", "fail")]


def assert_counts_add_up(server, seen):
    """What clients counted is what the server counted; of the requests whose client left it may have answered some."""
    for model in ("plain", "batched", "cached", "sequence", "apart", "hurried"):
        wanted = [seen[model, "ok"], seen[model, "refused"]]
        wait_for(f"the counts of {model}: {wanted}, not {statistics_of(server, model)}", lambda: statistics_of(server, model) == wanted, timeout=10)
    ok, left = seen["torn", "ok"], seen["torn", "left"]
    wait_for("all that were left are counted", lambda: ok <= statistics_of(server, "torn")[0] <= sum(statistics_of(server, "torn")) <= ok + left)


def test_all_clients_at_once_while_everything_changes(echo):
    load = Load(echo, load_clients.ALL)
    operator = Operator(echo, np.random.default_rng(99))
    try:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and not load.failures:
            operator.step()
    finally:
        load.over.set()
    seen = load.join()
    assert all(seen[model, "ok"] for model in CONFIGURATIONS if model != "waiting"), seen
    assert seen["torn", "left"] and seen["torn", "cancelled"] and operator.counts["swap"], (seen, operator.counts)
    assert_counts_add_up(echo, seen)
    print(f"\n{sum(n for (_, kind), n in seen.items() if kind == 'ok')} answered, {seen['hurried', 'refused']} refused in time, "
          f"{seen['torn', 'left']} left by their clients ({seen['torn', 'cancelled']} by gRPC's cancel); changes: {dict(operator.counts)}")
    echo.assert_well()
    assert echo.stop() == 0, echo.log_text()[-5000:]


def test_a_stop_under_load_loses_no_request(echo):
    """What waits when the daemon is told to stop is answered; who asks then is told, or finds the connection closed."""
    load = Load(echo, [client for client in load_clients.ALL if client is not load_clients.on_and_off])
    answers = []
    waiting = [threading.Thread(target=ask_and_wait, args=(echo, answers, door)) for door in ("http", "grpc") * 8]
    for thread in waiting:
        thread.start()
    try:
        wait_for("all of them wait", lambda: pending(echo, "waiting") == len(waiting))
        load.stopping.set()
        echo.process.send_signal(signal.SIGTERM)
        for thread in waiting:
            thread.join(60)
        assert answers == ["right"] * len(waiting), answers
        assert echo.process.wait(60) == 0, echo.log_text()[-5000:]
    finally:
        load.over.set()
    load.join()


def pending(server, model):
    lines = server.request("GET", "/metrics")[1].decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("nv_inference_pending_request_count") and f'model="{model}"' in line)


def ask_and_wait(server, answers, door):
    sent = np.arange(5, dtype=np.float32)
    try:
        if door == "http":
            status, answer, _ = load_clients.Http(server).infer("waiting", sent)
            assert status == 200, answer
            load_clients.check_json(answer, sent)
        else:
            stub, close = load_clients.stub_of(server)
            assert stub.ModelInfer(load_clients.message("waiting", sent), timeout=60).raw_output_contents[0] == sent.tobytes()
            close()
        answers.append("right")
    except Exception as error:
        answers.append(repr(error))
