"""What the tests of sharing have in common: reading the kernel, asking for answers, following jobs; a prepared daemon."""

import contextlib
import http.client
import json
import os
import pathlib
import sqlite3
import threading
import time
import urllib.request

import numpy as np
import pytest

import onnx_files as onnx
from conftest import wait_for

CPUS = len(os.sched_getaffinity(0))
FEATURES = 1024
ROWS = 32
# Seconds of work, then registered but not deployed; every byte is to be the same whatever happens on the way.
STEADY = dict(model={"architecture": "resnet8"}, epochs=None, steps=80, micro_batch=8, augment=["flip"], checkpoint={"every_steps": 20},
              register={"model": "steady", "alias": "champion", "promote_if": {"metric": "accuracy", "better_than": 1}})
ENDLESS = dict(model={"architecture": "resnet8"}, epochs=None, steps=1_000_000, batch=64, micro_batch=8, register=None)


# --- reading the kernel ---

def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def threads_of(pid):
    """(tid, name) of every thread."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found.append((int(task.name), (task / "comm").read_text().strip()))
    return found


def request_cpu_seconds(pid):
    """Of the threads that answer requests, to the nanosecond."""
    return sum(int(pathlib.Path(f"/proc/{pid}/task/{tid}/schedstat").read_text().split()[0])
               for tid, name in threads_of(pid) if name.startswith(("http-io", "grpc-io"))) / 1e9


def engine_processes(server):
    """The children that engines answer requests in."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            words = (process / "cmdline").read_bytes().split(b"\0")
            if parent == server.process.pid and words[0].endswith(b"tandem-engine-host") and words[1] == b"serve":
                found.append(int(process.name))
    return found


def busy_seconds():
    """Of all CPUs: everything but idle and waiting for the disk."""
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, pathlib.Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def alive(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def limit_file(pid, v1, v2, side=False):
    """The file of the control group that holds a process, as version 1 and 2 name it; with `side` that of all training."""
    groups = [line.split(":", 2)[1:] for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, kind = line.partition(" - ")
        root, mount = place.split()[3:5]
        kind, _, options = kind.split(" ", 2)
        for controllers, path in groups:
            wanted = v1.partition(".")[0]
            if kind == "cgroup" and wanted in controllers.split(",") and wanted in options.split(","):
                file = pathlib.Path(mount, os.path.relpath(path, root), v1)
            elif kind == "cgroup2" and controllers == "":
                file = pathlib.Path(mount, os.path.relpath(path, root), v2)
            else:
                continue
            file = file.parent.parent / file.name if side else file
            if "tandem-" in str(file) and file.exists():
                return file
    pytest.skip(f"no cgroup with {v1} or {v2} can be written here: the kernel does not hold this limit")


def number_in(file):
    """The first one; for a limit that is none, more than any machine has."""
    text = file.read_text().split()[0]
    return float("inf") if text in ("max", "-1") or int(text) >= 1 << 60 else int(text)


def words_in(file):
    """Of lines like "nr_periods 7"."""
    return {name: int(value) for name, value in (line.split() for line in file.read_text().splitlines())}


def let_run(pid):
    """The lowest weight is right for jobs, but on a busy machine one would never come to the limits that a test measures."""
    weight = limit_file(pid, "cpu.shares", "cpu.weight", side=True)
    weight.write_text("20480" if weight.name == "cpu.shares" else "10000")


def group_cpu_seconds(pid):
    """Of a process's control group, more exactly than clock ticks."""
    file = limit_file(pid, "cpuacct.usage", "cpu.stat")
    return int(file.read_text()) / 1e9 if file.name == "cpuacct.usage" else words_in(file)["usage_usec"] / 1e6


def usable_memory():
    """Bytes that shares of the memory are parts of, where no control group of the daemon's says less."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cpus_in_a_window(seconds, read, ours):
    """CPUs that `read` counted, and what all but us and the pids `ours` (the host, which gives our CPUs to its other
    guests, among them) used meanwhile."""
    before, begun = (read(), busy_seconds() - time.process_time() - sum(map(cpu_seconds, ours))), time.monotonic()
    time.sleep(seconds)  # what is measured is what happens meanwhile
    after, elapsed = (read(), busy_seconds() - time.process_time() - sum(map(cpu_seconds, ours))), time.monotonic() - begun
    used, foreign = [(b - a) / elapsed for a, b in zip(before, after)]
    return used, max(foreign, 0)


def cpus_used(seconds, read, ours):
    """The same in a window in which the others did not do much."""
    for _ in range(10):
        used, foreign = cpus_in_a_window(seconds, read, ours)
        if foreign < 0.2:
            return used, foreign
    pytest.skip(f"other programs use {foreign:.1f} CPUs of this machine: no share can be measured")


# --- asking for answers ---

def bring_hot(server, name="hot", *config):
    """A model that takes about a millisecond for ROWS rows. `config`: key=value, as `models configure --set` takes it."""
    weight = onnx.tensor("w", [FEATURES, FEATURES], np.linspace(-1, 1, FEATURES * FEATURES).tolist())
    status, body = server.request("POST", f"/api/v1/models/{name}/versions?source=hot.onnx", onnx.linear(weight, FEATURES, FEATURES))
    assert status == 200, body
    # An engine within the daemon, unless another is asked for: one that was measured faster might be a process of its own.
    for setting in ("engine=openvino", *config):
        server.cli("models", "configure", name, "--set", setting)
    server.cli("models", "deploy", name)


def hot_request(rows=ROWS):
    head = json.dumps({"inputs": [{"name": "x", "shape": [rows, FEATURES], "datatype": "FP32", "parameters": {"binary_data_size": 4 * rows * FEATURES}}],
                       "parameters": {"binary_data_output": True}}).encode()
    return head + bytes(4 * rows * FEATURES), {"Inference-Header-Content-Length": str(len(head))}


class Asking:
    """Threads that ask the hot model as fast as it answers; a refused one waits a little, as clients should."""

    def __init__(self, server, threads=1, pause=0.0, model="hot"):
        self.answers, self.seconds = [], []
        self._server, self._pause, self._model, self._stop = server, pause, model, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def __enter__(self):
        [thread.start() for thread in self._threads]
        return self

    def __exit__(self, *_):
        self._stop.set()
        [thread.join() for thread in self._threads]

    def codes(self):
        return {code for code, _ in self.answers}

    def _ask(self):
        connection = http.client.HTTPConnection(self._server.ready["http"], timeout=30)
        body, headers = hot_request()
        while not self._stop.wait(self._pause):
            begun = time.monotonic()
            connection.request("POST", f"/v2/models/{self._model}/infer", body, headers)
            response = connection.getresponse()
            text = response.read()
            self.seconds.append(time.monotonic() - begun)
            self.answers.append((response.status, "" if response.status == 200 else json.loads(text)["error"]))
            if response.status != 200:
                time.sleep(0.005)


# --- jobs ---

def submit(server, path):
    return server.cli("train", path, "--json").json["job"]


def running(server, job):
    """Waits until it computes."""
    return wait_for(f"job {job} computes", lambda: (j := server.job(job))["state"] == "running" and j["progress"]["step"] > 0 and j)


def state_is(server, job, *states, timeout=120):
    return wait_for(f"job {job} is {states}", lambda: (j := server.job(job))["state"] in states and j, timeout=timeout)


def succeeded(server, job, timeout=240):
    end = state_is(server, job, "succeeded", "failed", "cancelled", "timed_out", timeout=timeout)
    assert end["state"] == "succeeded", end
    return server.cli("models", "show", end["model"], "--json").json["versions"][end["version"] - 1]["sha256"] if end["version"] else None


def explain(server, job):
    return server.cli("jobs", "explain", job, "--json").json


def policy(server):
    return server.cli("policy", "show", "--json").json


def limits_of(server):
    """What the kernel holds here, in words."""
    return next(check["detail"] for check in server.cli("doctor", "--json", check=False).json["checks"] if check["name"] == "limits")


def set_policy(server, text="policy: latency_first\n", *arguments, check=True):
    return server.cli("policy", "set", "-", *arguments, stdin=text, check=check)


def metrics(server):
    with urllib.request.urlopen(f"http://{server.ready['metrics']}/metrics") as response:
        return dict(line.rsplit(" ", 1) for line in response.read().decode().splitlines() if not line.startswith("#"))


@contextlib.contextmanager
def busy_database(server):
    """Nothing can be written meanwhile, as on a disk that does not answer; the daemon gives up after 5 s."""
    connection = sqlite3.connect(server.folder / "data/tandem.db", isolation_level=None, timeout=30)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


@pytest.fixture(scope="module")
def prepared(shared, squares):
    shared.cli("dataset", "add", "squares", squares)
    bring_hot(shared)
    return shared


@pytest.fixture
def machine(prepared):
    """The shared daemon; what a test set and started is gone after it."""
    yield prepared
    set_policy(prepared)
    for job in prepared.cli("jobs", "list", "--json").json["jobs"]:
        if job["finished_ms"] == 0:
            prepared.cli("jobs", "cancel", job["job"], check=False)
            state_is(prepared, job["job"], "cancelled", "succeeded", "failed", "timed_out")
    prepared.assert_well()


@pytest.fixture(scope="module")
def undisturbed(prepared, tmp_path_factory):
    """The hash of the model that STEADY makes when nothing happens."""
    content = {"name": "calm", "dataset": "squares", "batch": 32, "optimizer": {"name": "sgd", "lr": 0.05}, "seed": 3, **STEADY}
    path = tmp_path_factory.mktemp("calm") / "job.yaml"
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return succeeded(prepared, submit(prepared, path))
