"""What the peers share: an environment of its own each, a start on loopback, a stop that leaves nothing behind.

Runs on both sides: the benchmark starts peers with it, and a peer's own environment imports `model_function` from it.
"""

import dataclasses
import json
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
HOME = pathlib.Path(os.environ.get("TANDEM_SDK") or pathlib.Path.home() / ".cache/tandem/sdk").parent / "peers"
ONNXRUNTIME = "onnxruntime==1.28.0"
CORES = len(os.sched_getaffinity(0))
START_S, STOP_S = 120, 20


class NotMeasured(Exception):
    """Why a peer has no figures, in words."""


@dataclasses.dataclass
class Model:
    name: str
    file: pathlib.Path  # ONNX
    input: str
    output: str
    shape: tuple         # of one request
    answer_shape: tuple  # of what it gives

    def values(self):
        source = random.Random(1)
        count = 1
        for dim in self.shape:
            count *= dim
        return [round(source.random(), 4) for _ in range(count)]

    def binary(self):
        values = self.values()
        return struct.pack(f"<{len(values)}f", *values)

    def nested(self):
        """The values as JSON nests them."""
        level = self.values()
        for dim in reversed(self.shape[1:]):
            level = [level[i:i + dim] for i in range(0, len(level), dim)]
        return level


@dataclasses.dataclass
class Request:
    path: str
    body: bytes
    headers: dict


def v2_request(model, binary):
    """Of the Open Inference Protocol, as JSON or with binary tensors both ways."""
    entry = {"name": model.input, "shape": model.shape, "datatype": "FP32"}
    path = f"/v2/models/{model.name}/infer"
    if not binary:
        return Request(path, json.dumps({"inputs": [dict(entry, data=model.values())]}).encode(), {"Content-Type": "application/json"})
    data = model.binary()
    entry["parameters"] = {"binary_data_size": len(data)}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    return Request(path, head + data, {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"})


def model_function(file):
    """Array -> array, in a peer's own environment: the file on ONNX Runtime with one thread; nothing at all for identity."""
    if pathlib.Path(file).stem == "identity":
        return lambda array: array
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda array: session.run(None, {name: array})[0]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Peer:
    """One server with one model. A subclass says what it is; `with` starts and stops it.

    clients: how it is measured (bench_peers.CLIENTS). NotMeasured where it does not install, start or answer.
    """

    name, packages, clients = "", (), ()
    ready_path = "/"

    def __init__(self, folder, model):
        self.folder, self.model = pathlib.Path(folder), model
        self.port, self.grpc_port = free_port(), free_port()
        self.home = HOME / self.name
        self.python = self.home / "bin/python"
        self.process = None

    # --- what subclasses say ---
    def prepare(self):
        """Writes what it needs into the folder; gives the command."""
        raise NotImplementedError

    def environment(self):
        return {}

    def request(self):
        """One request as its own users send it."""
        raise NotImplementedError

    # --- what is alike for all ---
    @property
    def http(self):
        return f"127.0.0.1:{self.port}"

    @property
    def grpc(self):
        return f"127.0.0.1:{self.grpc_port}"

    def own_script(self, *arguments):
        """The command of a peer whose file in this folder is its server too."""
        return [self.python, sys.modules[type(self).__module__].__file__, *arguments]

    def install(self):
        stamp, wanted = self.home / ".tandem-packages", " ".join(self.packages)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        print(f"  ... installing {self.name} into {self.home}", flush=True)
        for command in ([sys.executable, "-m", "venv", self.home], [self.python, "-m", "pip", "install", "--quiet", *self.packages]):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise NotMeasured(f"does not install: {(done.stderr or done.stdout).strip()[-300:]}")
        stamp.write_text(wanted)

    def __enter__(self):
        self.install()
        command = self.prepare()
        environment = {**os.environ, "PATH": f"{self.home}/bin:{os.environ['PATH']}", "PYTHONPATH": str(HERE), "PYTHONUNBUFFERED": "1",
                       "TMPDIR": str(self.folder), "HOME": str(self.folder), **self.environment()}
        self.log = self.folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(list(map(str, command)), cwd=self.folder, env=environment, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            self._wait()
            self._check_loopback()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        children = self.processes()[1:]
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in children:  # those that outlive their parent
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def processes(self):
        """Its pid and those of all its descendants."""
        found, at = [self.process.pid], 0
        while at < len(found):
            for file in pathlib.Path(f"/proc/{found[at]}/task").glob("*/children"):
                try:
                    found += map(int, file.read_text().split())
                except OSError:
                    pass  # it ended meanwhile
            at += 1
        return found

    def tail(self):
        return self.log.read_text(errors="replace").strip()[-600:]

    def _wait(self):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise NotMeasured(f"ended at its start: {self.tail()}")
            try:
                with urllib.request.urlopen(f"http://{self.http}{self.ready_path}", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError, ValueError):
                pass
            time.sleep(0.1)
        raise NotMeasured(f"not ready after {START_S} s: {self.tail()}")

    def _check_loopback(self):
        """Nobody outside may see it."""
        inodes = set()
        for pid in self.processes():
            for link in pathlib.Path(f"/proc/{pid}/fd").glob("*"):
                try:
                    target = os.readlink(link)
                except OSError:
                    continue
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
        for table, local in (("tcp", lambda a: a.endswith("7F")), ("tcp6", lambda a: a in ("0" * 24 + "01000000", "0" * 16 + "FFFF00000100007F"))):
            for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                address, port = fields[1].split(":")
                if fields[3] == "0A" and fields[9] in inodes and not local(address):
                    raise NotMeasured(f"listens beyond loopback, on port {int(port, 16)}")
