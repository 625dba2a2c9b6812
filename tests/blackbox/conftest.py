"""Starts the real daemon for tests, and talks to it as users do: the command line, HTTP, tritonclient."""

import gzip
import json
import os
import pathlib
import signal
import struct
import subprocess
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("TANDEM_BIN", ROOT / "build/dev/bin"))
# What this process opens itself; a sanitizer's runtime could not be brought into it.
PLUGINS = pathlib.Path(os.environ.get("TANDEM_PLUGINS", BIN))
FULL = os.environ.get("TANDEM_FULL") == "1"


class Result:
    def __init__(self, process):
        self.code, self.out, self.err = process.returncode, process.stdout, process.stderr

    @property
    def json(self):
        return json.loads(self.out)


def wait_for(what, condition, timeout=60):
    """Polls a state that only the outside can see."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {timeout} s")


class Server:
    """One daemon on a data folder. start/stop/kill may be called again and again."""

    def __init__(self, folder, *args):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.args = list(args)
        self.process = None

    def start(self, *more, wait=True):
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        self.log = open(self.folder / "tandemd.log", "ab")
        command = [BIN / "tandem", "serve", "--data", self.folder / "data", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0",
                   "--metrics", "127.0.0.1:0", "--ready-file", ready, *self.args, *more]
        self.process = subprocess.Popen([str(c) for c in command], stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        if wait:
            wait_for("the ready file", lambda: ready.exists() or self.process.poll() is not None)
            assert self.process.poll() is None, self.log_text()
            self.ready = json.loads(ready.read_text())
            self.url = "http://" + self.ready["http"]
        return self

    def log_text(self):
        return (self.folder / "tandemd.log").read_text(errors="replace")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process and self.process.poll() is None:
            self.stop()

    def cli(self, *args, check=True, stdin=None, env=None):
        environment = {**os.environ, "TANDEM_URL": self.url, **(env or {})}
        process = subprocess.run([str(BIN / "tandem"), *map(str, args)], capture_output=True, text=True, input=stdin, env=environment, timeout=300)
        if check:
            assert process.returncode == 0, f"tandem {args}: {process.returncode}\n{process.stdout}\n{process.stderr}\n{self.log_text()[-3000:]}"
        return Result(process)

    def request(self, method, path, body=None, headers=None):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def assert_well(self):
        """It is still the same process, and answers."""
        assert self.process.poll() is None, self.log_text()[-3000:]
        assert self.request("GET", "/v2/health/ready")[0] == 200

    def job(self, number):
        return self.cli("jobs", "show", number, "--json").json

    def train(self, spec, *args):
        """Submits and follows to the end; the last line of the stream."""
        result = self.cli("train", spec, "--follow", "--json", *args, check=False)
        lines = result.out.strip().splitlines()
        assert lines, result.err
        return json.loads(lines[-1])


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "server").start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One daemon for all tests of a file: what each of them does wrong must not be seen by the next."""
    server = Server(tmp_path_factory.mktemp("shared")).start()
    yield server
    server.close()


@pytest.fixture
def unharmed(shared):
    """The shared daemon, which must have outlived the test."""
    yield shared
    shared.assert_well()


@pytest.fixture(scope="module")
def serve(shared, tmp_path_factory):
    """Gives the shared daemon a model, the bytes of an ONNX file, once; `config` as `tandem models configure` takes it."""
    folder, known = tmp_path_factory.mktemp("models"), set()

    def deploy(name, data, config=None):
        if name not in known:
            (folder / f"{name}.onnx").write_bytes(data)
            shared.cli("models", "import", name, folder / f"{name}.onnx")
            if config:
                (folder / f"{name}.json").write_text(json.dumps(config))
                shared.cli("models", "configure", name, "--file", folder / f"{name}.json")
            shared.cli("models", "deploy", name)
            known.add(name)
        return name

    return deploy


@pytest.fixture
def new_server(tmp_path):
    """For tests that start and end daemons themselves."""
    made = []

    def make(*args, name="server"):
        made.append(Server(tmp_path / name, *args))
        return made[-1]

    yield make
    for one in made:
        one.close()


def write_idx(path, array):
    with gzip.open(path, "wb") as file:
        file.write(struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes())


def make_images(count, seed, size=16, classes=4):
    """Noise, with a bright square whose corner tells the class: learnable in a few steps."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    images = random.integers(0, 80, (count, size, size))
    half = size // 2
    for i, label in enumerate(labels):
        y, x = divmod(int(label), 2)
        images[i, y * half:(y + 1) * half, x * half:(x + 1) * half] += 120
    return images, labels


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """A folder in Fashion-MNIST's layout: 16x16 images of 4 classes."""
    folder = tmp_path_factory.mktemp("squares")
    for name, count, seed in (("train", 800, 1), ("t10k", 200, 2)):
        images, labels = make_images(count, seed)
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", labels)
    return folder


@pytest.fixture
def spec(tmp_path):
    """Writes a job spec; keyword arguments replace top-level keys."""

    def write(name="job.yaml", **changes):
        content = {"name": "squares", "model": {"architecture": "mlp"}, "dataset": "squares", "epochs": 2, "batch": 32,
                   "optimizer": {"name": "sgd", "lr": 0.05}, "seed": 3, "register": {"model": "squares", "alias": "champion"}}
        content.update(changes)
        path = tmp_path / name
        path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
        return path

    return write


@pytest.fixture
def trained(server, squares, spec):
    """A server with the data set and version 1 of the model, serving."""
    server.cli("dataset", "add", "squares", squares)
    end = server.train(spec())
    assert end["state"] == "succeeded", end
    assert end["deploy"] == "promoted", end
    return server
