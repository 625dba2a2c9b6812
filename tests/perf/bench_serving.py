"""The inference side: against bare servers on the same wire, a swap under load, memory over many loads, many models, silence."""

import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import bench_http
import bench_tail
import perf_analyzer
from bench_daemon import cpu_seconds, memory_mb, tree_of
from measure import FASHION, Daemon, Goal, Part, Stalls, Window, daemon

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "blackbox"))
import onnx_files  # noqa: E402

SWAP_S, SWAPS_A_ROUND, SWAP_ROUNDS, HALF_LOAD_ROUNDS = 4, 4, 5, 5
LOAD_CYCLES, LAZY_MODELS = 1000, 1000
MEGABYTE = 1 << 18  # elements of FP32
SIXTEEN = 1 << 22


def identity(server, name="identity"):
    """A model that gives its input back, any length."""
    file = server.folder / f"{name}.onnx"
    file.write_bytes(onnx_files.chain("Identity", ["N"]))
    server.cli("models", "import", name, file)
    server.cli("models", "deploy", name)


def against_stub(bin_dir, rounds):
    """The door alone: the echo engine against a server that answers the same bytes to whatever comes."""
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder, daemon(bin_dir, "serving.engine=echo") as server:
        server.serve_small_model()
        found = pathlib.Path(folder, "http.json")
        command = [sys.executable, HERE / "bench_http.py", bin_dir, "--url", server.url, "--model", "small", "--input", "INPUT0",
                   "--shape", "4", "--pairs", str(rounds), "--json", found]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"error: bench_http.py: {done.stderr or done.stdout}")
        results = json.loads(found.read_text())
        half = half_loads(bin_dir, server.url, results["8"]["server"]["rate"] / 2, max(rounds, HALF_LOAD_ROUNDS))
    goals = [Goal(f"serving: HTTP requests/s at concurrency {c}, daemon / stub", results[c]["rate_ratio"], 0.5) for c in ("8", "32")]
    goals.append(Goal("serving: HTTP p50 at concurrency 1, daemon / stub", results["1"]["p50_ratio"], 1.25, False))
    one = results["1"]
    goals.append(Goal("serving: HTTP p50 above the stub's at concurrency 1 (the engine only echoes)", one["server"]["p50_us"] - one["stub"]["p50_us"], 25,
                      False, "us"))
    goals.append(Goal("serving: HTTP p99 / p50 at half load", statistics.median(run["ratio"] for run in half["server"]), 2, False))
    lines = [f"{name} at half load: " + "; ".join("p50 {p50_us:.0f} us p99 {p99_us:.0f} us {ratio:.2f}x (steal {steal:.1%}, calm {calm_ratio:.2f}x)"
                                                  .format(**run) for run in runs) for name, runs in half.items()]
    return goals, results | {"half_load": half}, [*done.stdout.strip().split("\n"), *lines]


def half_loads(bin_dir, url, rate, rounds):
    """The daemon and the stub in turns at the same rate: what the client and the host add is in both."""
    host, port = url.removeprefix("http://").split(":")
    path = "/v2/models/small/infer"
    with tempfile.TemporaryDirectory() as folder:
        answer = pathlib.Path(folder, "answer")
        answer.write_bytes(bench_http.raw_answer(host, int(port), path, *bench_http.infer_request("INPUT0", [4], False)))
        stub_port = bench_http.free_port()
        stub = subprocess.Popen([bin_dir / "stub_server", str(stub_port), answer])
        try:
            bench_http.wait_for(stub_port)
            urls = {"server": url + path, "stub": f"http://127.0.0.1:{stub_port}{path}"}
            runs = [{name: half_load(bin_dir, one, rate) for name, one in urls.items()} for _ in range(rounds)]
        finally:
            stub.kill()
            stub.wait()
    return {name: [run[name] for run in runs] for name in urls}


def half_load(bin_dir, url, rate, connections=8):
    """Microseconds at a steady rate, with h2load (wrk knows only full speed). `calm`: without what a stall of the host touched."""
    body, headers = bench_http.infer_request("INPUT0", [4], False)
    with tempfile.TemporaryDirectory() as folder, Window() as window, Stalls(bin_dir) as stalls:
        data, log = pathlib.Path(folder, "body"), pathlib.Path(folder, "log")
        data.write_bytes(body)
        command = ["h2load", "--h1", "-t1", f"-c{connections}", f"--rps={rate / connections:.0f}", "-D5", "-d", data, f"--log-file={log}"]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        done = subprocess.run(list(map(str, [*command, url])), capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise SystemExit(f"error: h2load: {done.stdout}{done.stderr}")
        rows = [line.split() for line in log.read_text().splitlines()]
    if any(row[1] != "200" for row in rows):
        raise SystemExit("error: a request failed")
    timed = [(float(row[0]) / 1e6, float(row[2])) for row in rows]
    p50, p99, calm = quantile(timed, 0.5), quantile(timed, 0.99), stalls.without(timed)
    return {"rate": len(rows) / 5, "p50_us": p50, "p99_us": p99, "ratio": p99 / p50, "steal": window.steal,
            "calm_ratio": quantile(calm, 0.99) / quantile(calm, 0.5)}


def quantile(rows, share):
    return sorted(figure for _, figure in rows)[int(share * len(rows))]


def against_grpc_stub(bin_dir, rounds):
    """The door alone: the echo engine against a bare callback server."""
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder, daemon(bin_dir, "serving.engine=echo") as server:
        server.serve_small_model()
        found = pathlib.Path(folder, "grpc.json")
        command = [sys.executable, HERE / "bench_grpc.py", bin_dir, "--url", server.grpc, "--model", "small", "--input", "INPUT0", "--bytes", "4",
                   "--pairs", str(rounds), "--json", found]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"error: bench_grpc.py: {done.stderr or done.stdout}")
        results = json.loads(found.read_text())
    goals = [Goal(f"serving: gRPC requests/s at concurrency {run['concurrency']}, daemon / bare callback server",
                  run["ratios"]["requests_per_s"], 0.9) for run in results]
    return goals, results, done.stdout.strip().split("\n")


def one_mib(server, requests=500):
    """Milliseconds of each request of 1 MiB in and out, by a client that only sends and receives (perf_analyzer spends about 1 ms itself)."""
    host, port = server.url.removeprefix("http://").split(":")
    entry = {"name": "x", "shape": [MEGABYTE], "datatype": "FP32", "parameters": {"binary_data_size": 4 * MEGABYTE}}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    body = head + bytes(4 * MEGABYTE)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = len(bench_http.raw_answer(host, int(port), "/v2/models/identity/infer", body, headers))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST /v2/models/identity/infer HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body
    spent, buffer = [], memoryview(bytearray(answer))
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(requests):
            began, got = time.perf_counter(), 0
            connection.sendall(request)
            while got < answer:
                count = connection.recv_into(buffer[got:])
                if count == 0:
                    raise SystemExit("error: the server closed the connection")
                got += count
            spent.append(1000 * (time.perf_counter() - began))
    return spent


def tensors(bin_dir, rounds):
    """Large tensors over each wire, and the request's own cost above the engine."""
    found = {}
    with daemon(bin_dir) as server:
        identity(server)
        bare = sorted(ms for _ in range(rounds) for ms in one_mib(server))
        for name, wire, elements, shared in (("1 element http", "http", 1, False), ("1 element grpc", "grpc", 1, False),
                                             ("1 MiB http", "http", MEGABYTE, False), ("1 MiB grpc", "grpc", MEGABYTE, False),
                                             ("1 MiB shm", "http", MEGABYTE, True), ("16 MiB http", "http", SIXTEEN, False),
                                             ("16 MiB grpc", "grpc", SIXTEEN, False), ("16 MiB shm", "http", SIXTEEN, True)):
            address = server.grpc if wire == "grpc" else server.url.removeprefix("http://")
            for concurrency in (1,) if elements == MEGABYTE else (1, 8, 16, 32):
                runs = [perf_analyzer.measure(address, "identity", wire, concurrency, f"x:{elements}", shared_memory=shared,
                                                options=("--async", "--max-threads", "4"))
                        for _ in range(rounds)]
                found[f"{name} c={concurrency}"] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    goals = [Goal("serving: 1 MiB over HTTP binary, p50", bare[len(bare) // 2], 1, False, "ms")]
    lines = [f"1 MiB http, bare client: p50 {bare[len(bare) // 2]:.3f} ms p99 {bench_tail.p99(bare):.3f} ms; the rest by perf_analyzer", *(
        f"{name:20} {run['rate']:8.0f}/s p50 {run['p50_us']:7.0f} us p99 {run['p99_us']:7.0f} us" for name, run in found.items())]
    return goals, found, lines


def saturation(server, connections=8):
    """Requests per second that are answered when each connection always has one under way; the client's own work is in it."""
    records = server.folder / "saturation.csv"
    if bench_tail.stream(server, records, 20 * bench_tail.capacity(server), 0.3, connections).wait() != 0:
        raise SystemExit("error: a request failed")
    answers = [(at, at + ms / 1000) for at, ms in bench_tail.read(records)]
    return len(answers) / (max(end for _, end in answers) - min(at for at, _ in answers))


def sustained(server, seconds=3, bound_ms=20):
    """The highest part of the saturation, in steps of 5 %, at which p99 of a steady load stays below the bound: a client that waits for the
    clock costs more than one that always has a request under way, so that not all of the saturation can be offered."""
    full = saturation(server)
    for step in range(20, 0, -1):
        if bench_tail.p99_of(bench_tail.steady_rows(server, full * step / 20, seconds)) < bound_ms:
            return step / 20
    raise SystemExit("error: no rate is sustained")


def one_swap(server, version, rate):
    """Rows (see bench_tail.read) of a steady load, and of the same while `version` takes over."""
    before = bench_tail.steady_rows(server, rate, SWAP_S)
    records = server.folder / "swap.csv"
    requests = bench_tail.stream(server, records, rate, SWAP_S)
    time.sleep(bench_tail.LEAD_IN_S)
    server.cli("models", "deploy", f"hot/{version}")
    if requests.wait() != 0:
        return before, None
    return before, bench_tail.read(records, bench_tail.LEAD_IN_S)


def swap(bin_dir, rounds):
    """Versions change places under 80 % of the capacity: of what the machine can do at that moment, for the host's speed changes from minute to
    minute by more than the rest. So each swap has a load without one right before it to compare with."""
    ratios, calm, lines, failed = [], [], [], 0
    with daemon(bin_dir) as server:
        for seed in range(1, 2 + SWAPS_A_ROUND):
            bench_tail.make_version(server, "hot", "resnet8", seed)
        server.cli("dataset", "add", "fashion-mnist", FASHION)
        server.cli("models", "deploy", "hot/1")
        rung = json.loads(server.cli("status", "--json")).get("rung", "unknown")
        saturation(server)  # its instances grow
        for _ in range(max(rounds, SWAP_ROUNDS)):
            with bench_tail.kept_awake():
                part = sustained(server)
                for version in (*range(2, 2 + SWAPS_A_ROUND), 1):
                    rate = 0.8 * part * saturation(server)
                    with Stalls(bin_dir) as stalls:
                        before, during = one_swap(server, version, rate)
                    if during is None:
                        failed += 1
                        continue
                    ratios.append(bench_tail.p99_of(during) / bench_tail.p99_of(before))
                    calm.append(bench_tail.p99_of(stalls.without(during)) / bench_tail.p99_of(stalls.without(before)))
                    lines.append(f"swap: p99 before {bench_tail.p99_of(before):.2f} ms, with a swap in {SWAP_S} s {bench_tail.p99_of(during):.2f} ms, {ratios[-1]:.2f}x; "
                                 f"the host stopped a CPU {len(stalls.spans)} times, without the requests that it touched {calm[-1]:.2f}x "
                                 f"({len(during)} requests at {rate:.0f}/s, {part:.0%} of the saturation are sustained, rung {rung})")
    goals = [Goal("serving: p99 during a load and swap / before, at 80 % of capacity", statistics.median(ratios), 1.2, False),
             Goal("serving: swaps in which a request failed", failed, 0, False, "")]
    lines.append(f"swap: {len(ratios)} of them; without the requests that the host touched {statistics.median(calm):.2f}x")
    return goals, {"ratios": ratios, "calm_ratios": calm, "failed": failed}, lines


def churn(bin_dir, _):
    """A model is loaded and unloaded again and again."""
    with daemon(bin_dir) as server:
        server.serve_small_model()

        def cycles(count):
            for _ in range(count):
                for verb in ("unload", "load"):
                    subprocess.run(["curl", "-sf", "-X", "POST", f"{server.url}/v2/repository/models/small/{verb}"], check=True)
            return memory_mb(server.process.pid)

        first = cycles(LOAD_CYCLES // 10)  # until allocators have their pools
        last = cycles(LOAD_CYCLES)
    goals = [Goal(f"serving: resident memory after {LOAD_CYCLES} loads and unloads, growth", 100 * (last / first - 1), 5, False, "%")]
    return goals, {"mb": [first, last]}, [f"resident: {first:.1f} MB after {LOAD_CYCLES // 10} cycles, {last:.1f} MB after {LOAD_CYCLES} more"]


def many(bin_dir, rounds):
    """A thousand models that are loaded by their first request, beside a hot one; against the hot one alone, in turns."""
    with daemon(bin_dir) as server:
        bench_tail.make_version(server, "hot", "resnet8", 1)
        server.cli("dataset", "add", "fashion-mnist", FASHION)
        server.cli("models", "deploy", "hot")
        rate = 0.25 * bench_tail.capacity(server)
        server.stop()
        shutil.copytree(server.folder, server.folder / "alone")
        alone = Daemon(bin_dir, server.folder / "alone")
        server.start()
        file = server.folder / "tiny.onnx"
        file.write_bytes(onnx_files.chain("Relu"))
        for number in range(LAZY_MODELS):
            server.cli("models", "import", f"m{number}", file)
            server.cli("models", "configure", f"m{number}", "--set", "lazy=true")
            began = time.monotonic()
            server.cli("models", "promote", f"m{number}", "1")
            promoted = time.monotonic() - began
        server.stop()
        starts, tails = [], {"alone": [], "beside": []}
        for _ in range(rounds):
            for name, one in (("alone", alone), ("beside", server)):
                began = time.monotonic()
                one.start()
                if one is server:
                    starts.append(time.monotonic() - began)
                with bench_tail.kept_awake():
                    tails[name].append(bench_tail.p99(bench_tail.steady(one, rate, 8)))
                rss = memory_mb(one.process.pid)
                one.stop()
    ratio = statistics.median(tails["beside"]) / statistics.median(tails["alone"])
    goals = [Goal(f"serving: start with {LAZY_MODELS} lazy models", statistics.median(starts), 5, False, "s"),
             Goal(f"serving: hot p99 beside {LAZY_MODELS} lazy models / without", ratio, 1.1, False)]
    lines = [f"{LAZY_MODELS} lazy models: start {statistics.median(starts):.2f} s, {rss:.0f} MB, the last promoted in {1000 * promoted:.0f} ms; "
             "hot p99 ms alone / beside: " + ", ".join(f"{a:.2f} / {b:.2f}" for a, b in zip(tails["alone"], tails["beside"]))]
    return goals, {"starts_s": starts, "p99_ms": tails, "mb": rss, "promote_s": promoted}, lines


def silence(bin_dir, _):
    """Clients are connected and say nothing."""
    with daemon(bin_dir) as server:
        server.serve_small_model()
        host, port = server.url.removeprefix("http://").split(":")
        clients = [socket.create_connection((host, int(port))) for _ in range(100)]
        time.sleep(2)
        pids = tree_of(server.process.pid)
        used, began = sum(map(cpu_seconds, pids)), time.monotonic()
        time.sleep(20)
        percent = 100 * (sum(map(cpu_seconds, pids)) - used) / (time.monotonic() - began)
        for client in clients:
            client.close()
    return [Goal("serving: 100 silent clients, of a core", percent, 0.5, False, "%")], {"percent": percent}, []


PARTS = {"stub": against_stub, "grpc": against_grpc_stub, "tensors": tensors, "swap": swap, "churn": churn, "many": many, "silence": silence}


def measure(bin_dir, rounds):
    goals, figures, lines = [], {}, []
    only = os.environ.get("TANDEM_BENCH_ONLY", "").split(",")
    with Window() as window:
        for name, part in PARTS.items():
            if only != [""] and name not in only:
                continue
            part_goals, figures[name], part_lines = part(bin_dir, rounds)
            goals += part_goals
            lines += part_lines
            for line in [*part_goals, *part_lines]:  # at once: a later part may fail
                print(f"  ... {line}", flush=True)
    return Part(goals, figures, lines, window.steal)
