"""tandem beside the model servers that people use today: the same ONNX file, the same client, in turns, on loopback."""

import http.client
import os
import pathlib
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile

import bench_http
import perf_analyzer
from bench_daemon import memory_mb, tree_of
from measure import Goal, Part, Window, daemon

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "peers"), str(HERE.parent / "blackbox")]
import onnx_files  # noqa: E402
from bentoml_peer import BentoML  # noqa: E402
from kserve_peer import KServe  # noqa: E402
from litserve_peer import LitServe  # noqa: E402
from mlserver_peer import MLServer  # noqa: E402
from peer import Model, NotMeasured, v2_request  # noqa: E402
from rayserve_peer import RayServe  # noqa: E402
from torchserve_peer import TorchServe  # noqa: E402
from triton_peer import Triton  # noqa: E402

PEERS = {peer.name: peer for peer in (Triton, MLServer, KServe, LitServe, BentoML, TorchServe, RayServe)}
CONCURRENCIES = (1, 8, 32)
SECONDS = 3
GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
FIGURES = ("rate", "p50_us", "p99_us")


# --- clients: each gives rate, p50_us and p99_us of one side ---

def grpc_message(model):
    """A ModelInferRequest as it goes over the wire, with its prefix."""
    field = onnx_files._field
    tensor = field(1, model.input) + field(2, "FP32") + b"".join(field(3, dim) for dim in model.shape)
    body = field(1, model.name) + field(5, tensor) + field(7, model.binary())
    return b"\0" + struct.pack(">I", len(body)) + body


def with_h2load(address, message, concurrency):
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    with tempfile.TemporaryDirectory() as folder:
        data, log = pathlib.Path(folder, "message"), pathlib.Path(folder, "log")
        data.write_bytes(message)
        url = f"http://{address}{GRPC_PATH}"
        once = subprocess.run(["nghttp", "-nv", *headers, "-d", data, url], capture_output=True, text=True, timeout=60).stdout
        if "grpc-status: 0" not in once:  # h2load sees the 200 only
            raise RuntimeError(f"gRPC at {address}: {once[-600:]}")
        command = ["h2load", "-t1", f"-c{concurrency}", "-m1", f"-D{SECONDS}", "--warm-up-time=1", f"--log-file={log}", "-d", data, *headers, url]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
        rows = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", done.stdout)
    if done.returncode != 0 or not rate or not rows or any(row[1] != "200" for row in rows):
        raise RuntimeError(f"h2load at {address}: {(done.stderr or done.stdout)[-600:]}")
    spent = sorted(int(row[2]) for row in rows)
    return {"rate": float(rate.group(1)), "p50_us": spent[len(spent) // 2], "p99_us": spent[int(0.99 * len(spent))]}


def with_wrk(address, request, concurrency):
    check(address, request)
    with tempfile.TemporaryDirectory() as folder:
        script = pathlib.Path(folder, "post.lua")
        script.write_text(bench_http.lua_script(request.body, request.headers))
        try:
            found = bench_http.wrk(f"http://{address}{request.path}", str(script), concurrency, SECONDS)
        except SystemExit as error:  # a program of its own, it ends with a text
            raise RuntimeError(f"wrk at {address}: {error}") from error
    return {key: found[key] for key in FIGURES}


def check(address, request):
    """One request, for the reason when it is refused: wrk only counts."""
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("POST", request.path, request.body, request.headers)
    answer = connection.getresponse()
    text = answer.read(2000)
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"http://{address}{request.path}: {answer.status} {text[-600:]!r}")


def with_perf_analyzer(address, model, wire, concurrency):
    shape = f"{model.input}:{','.join(map(str, model.shape))}"
    # With a thread a request its own clock starves beside a fast server on few cores, for minutes.
    return perf_analyzer.measure(address, model.name, wire, concurrency, shape, 1000 * SECONDS, options=("--async", "--max-threads", "4"))


def measure_side(client, side, concurrency):
    """`side` is tandem or a peer: http, grpc, model, request()."""
    if client == "h2load grpc":
        return with_h2load(side.grpc, grpc_message(side.model), concurrency)
    if client.startswith("perf_analyzer"):
        wire = client.split()[1]
        return with_perf_analyzer(getattr(side, wire), side.model, wire, concurrency)
    return with_wrk(side.http, side.request(), concurrency)


# --- tandem's side ---

class Tandem:
    def __init__(self, server, model, client):
        self.http, self.grpc, self.model = server.url.removeprefix("http://"), server.grpc, model
        self.binary = client != "wrk own"

    def request(self):
        return v2_request(self.model, self.binary)


def make_models(bin_dir, folder):
    cnn, identity = folder / "cnn.onnx", folder / "identity.onnx"
    subprocess.run([bin_dir / "tandem", "model", "new", "--arch", "lenet", "--input", "1x28x28", "--classes", "10", "--out", cnn], check=True,
                   capture_output=True)
    identity.write_bytes(onnx_files.chain("Identity", ["N"]))
    return [Model("cnn", cnn, "input", "logits", (1, 1, 28, 28), (1, 10)), Model("identity", identity, "x", "y", (1,), (1,))]


def missing_programs(client):
    """Why a client cannot run, or None."""
    if client.startswith("perf_analyzer"):
        program, why = perf_analyzer.find()
        return None if program else why
    programs = ("wrk",) if client.startswith("wrk") else ("h2load", "nghttp")
    lacking = [program for program in programs if not shutil.which(program)]
    return f"{', '.join(lacking)} missing; scripts/setup --test installs it" if lacking else None


# --- the comparison ---

def compare(server, peer, client, rounds):
    """{concurrency: {"tandem": {...}, "peer": {...}, "steal"}} as medians of turns."""
    sides = {"tandem": Tandem(server, peer.model, client), "peer": peer}
    found = {}
    for concurrency in CONCURRENCIES:
        runs = {name: [] for name in sides}
        with Window() as window:
            for _ in range(rounds):
                for name, side in sides.items():
                    runs[name].append(measure_side(client, side, concurrency))
        found[concurrency] = {name: {key: statistics.median(run[key] for run in of_side) for key in FIGURES} for name, of_side in runs.items()}
        found[concurrency]["steal"] = window.steal
    return found


def goals_of(title, found):
    for concurrency, figures in found.items():
        ours, theirs = figures["tandem"], figures["peer"]
        where = f"{title}, concurrency {concurrency}: tandem / peer"
        yield Goal(f"{where}, requests/s", ours["rate"] / theirs["rate"], 1)
        yield Goal(f"{where}, p50", ours["p50_us"] / theirs["p50_us"], 1, False)
        yield Goal(f"{where}, p99", ours["p99_us"] / theirs["p99_us"], 1, False)


def lines_of(title, found):
    for concurrency, figures in found.items():
        sides = [f"{name} {run['rate']:7.0f}/s p50 {run['p50_us']:7.0f} us p99 {run['p99_us']:7.0f} us"
                 for name, run in figures.items() if name != "steal"]
        yield f"{title:36} c={concurrency:<3} {' | '.join(sides)} | steal {figures['steal']:.1%}"


def resident_mb(pids):
    total = 0
    for pid in pids:
        try:
            total += memory_mb(pid)
        except OSError:
            pass  # it ended meanwhile
    return total


def against(server, peer_class, model, rounds, part):
    """All wires of one peer with one model; what it finds goes into `part`."""
    with tempfile.TemporaryDirectory(prefix="tandem-peer-", ignore_cleanup_errors=True) as folder:
        try:
            with peer_class(folder, model) as peer:
                for client in peer.clients:
                    title = f"{peer.name} {model.name} {client}"
                    why = missing_programs(client)
                    try:
                        found = None if why else compare(server, peer, client, rounds)
                    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                        why = str(error)
                    if why:
                        part.lines.append(f"{title}: not measured: {why}")
                        continue
                    part.figures[title] = found
                    part.goals += goals_of(title, found)
                    part.lines += lines_of(title, found)
                    print(*lines_of(title, found), sep="\n", file=sys.stderr, flush=True)
                part.figures[f"{peer.name} {model.name} MB"] = resident = resident_mb(peer.processes())
                part.goals.append(Goal(f"{peer.name} {model.name}: tandem / peer, resident memory",
                                       resident_mb(tree_of(server.process.pid)) / resident, 1, False))
                part.lines.append(f"{peer.name} {model.name}: {resident:.0f} MB resident after it")
        except NotMeasured as reason:
            part.lines.append(f"{peer_class.name} {model.name}: not measured: {reason}")
            print(part.lines[-1], file=sys.stderr, flush=True)


def measure(bin_dir, rounds):
    """TANDEM_BENCH_ONLY=triton,kserve chooses."""
    chosen = [name for name in os.environ.get("TANDEM_BENCH_ONLY", "").split(",") if name] or list(PEERS)
    unknown = [name for name in chosen if name not in PEERS]
    if unknown:
        raise SystemExit(f"error: TANDEM_BENCH_ONLY: '{unknown[0]}' is not one of {', '.join(PEERS)}")
    part = Part([], {}, [], 0)
    with Window() as window, tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder, daemon(bin_dir) as server:
        models = make_models(bin_dir, pathlib.Path(folder))
        for model in models:
            server.cli("models", "import", model.name, model.file)
            server.cli("models", "deploy", model.name)
        for name in chosen:
            for model in models:
                against(server, PEERS[name], model, rounds, part)
    part.steal = max([window.steal, *(row["steal"] for found in part.figures.values() if isinstance(found, dict) for row in found.values())])
    return part
