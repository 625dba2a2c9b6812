"""What the benchmarks share: stolen CPU time, goals, and a daemon of their own."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time

FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")


class Window:
    """From enter to exit: the time that passed, the share of CPU time that the host took away, what all processes used."""

    def __enter__(self):
        self.began, self.ticks = time.monotonic(), self._ticks()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.began
        total, steal, idle = (after - before for after, before in zip(self._ticks(), self.ticks))
        self.steal = steal / max(1, total)
        self.busy_seconds = (total - steal - idle) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def _ticks():
        fields = [int(word) for word in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return sum(fields), fields[7], fields[3] + fields[4]


class Stalls:
    """From enter to exit: when the host stopped a CPU for more than 3 ms. Nothing where real-time priority is not allowed."""

    AFTER_S = 0.03  # what had queued up is answered by then

    def __init__(self, bin_dir):
        self.program = bin_dir / "stall_watch"

    def __enter__(self):
        self.process = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return self

    def __exit__(self, *_):
        lines = self.process.communicate()[0].splitlines()
        self.spans = sorted(tuple(map(float, line.split()[1:])) for line in lines)

    def without(self, rows):
        """Of (Unix seconds, figure) those that nothing of it touched."""
        return [row for row in rows if not any(begin - 0.005 < row[0] < end + self.AFTER_S for begin, end in self.spans)]


@dataclasses.dataclass
class Goal:
    """A figure and the bound that it should keep."""

    name: str
    value: float
    bound: float
    at_least: bool = True
    unit: str = "x"

    @property
    def reached(self):
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self):
        sign = ">=" if self.at_least else "<="
        return f"{'reached' if self.reached else 'MISSED ':8} {self.value:9.3g} {self.unit:3} {sign} {self.bound:g}  {self.name}"


def goal_as_dict(goal):
    return dict(dataclasses.asdict(goal), reached=goal.reached)


@dataclasses.dataclass
class Part:
    """What one benchmark found. `lines` are the figures in words, printed after the goals."""

    goals: list
    figures: dict
    lines: list
    steal: float  # the largest of all windows


class Daemon:
    """A daemon on a data folder that outlives it, so that it can be started again."""

    def __init__(self, bin_dir, folder, *settings):
        self.bin, self.folder, self.settings = bin_dir, pathlib.Path(folder), settings
        self.process = None

    def start(self):
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        command = [self.bin / "tandem", "serve", "--data", self.folder / "data", "--ready-file", ready]
        command += ["--set", "serving.engine=openvino"]  # or every version's engines would be measured beside what is measured here
        command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
        for setting in self.settings:
            command += ["--set", setting]
        with open(self.folder / "tandemd.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        while not ready.exists():
            if self.process.poll() is not None:
                raise SystemExit(f"error: the daemon ended:\n{(self.folder / 'tandemd.log').read_text()}")
            time.sleep(0.001)
        addresses = json.loads(ready.read_text())
        self.url, self.grpc = "http://" + addresses["http"], addresses["grpc"]

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    def command(self, *args):
        return [self.bin / "tandem", *args, "--url", self.url]

    def cli(self, *args):
        done = subprocess.run(self.command(*args), capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"error: tandem {' '.join(map(str, args))}: {done.stderr}")
        return done.stdout

    def serve_small_model(self):
        """Version 1 of the model `small`, four features."""
        file = self.folder / "small.onnx"
        subprocess.run([self.bin / "tandem", "model", "new", "--arch", "mlp", "--input", "4", "--classes", "4", "--out", file],
                       check=True, capture_output=True)
        self.cli("models", "import", "small", file)
        self.cli("models", "deploy", "small")


@contextlib.contextmanager
def daemon(bin_dir, *settings):
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        server = Daemon(bin_dir, folder, *settings)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text().split("\n")
    model = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), "unknown")
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}
