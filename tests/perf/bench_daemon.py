"""How fast things begin, what the idle daemon costs, and what the HTTP door costs behind the real daemon."""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from measure import FASHION, Goal, Part, Window, daemon

HERE = pathlib.Path(__file__).resolve().parent
IDLE_SECONDS = 10
JOB = {"name": "bench", "model": {"architecture": "resnet8"}, "dataset": "fashion-mnist", "steps": 1000, "batch": 128, "seed": 1}


def timed(action):
    began = time.monotonic()
    action()
    return time.monotonic() - began


def help_seconds(bin_dir):
    return timed(lambda: subprocess.run([bin_dir / "tandem", "--help"], check=True, stdout=subprocess.DEVNULL))


def start_and_answer(server):
    """From nothing until the ready file is there and the model answers that it is ready."""
    server.start()
    with urllib.request.urlopen(server.url + "/v2/models/small/ready") as answer:
        assert answer.status == 200


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def tree_of(pid):
    """The process and all its descendants."""
    children = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
    return [pid] + [found for file in children for child in file.read_text().split() for found in tree_of(int(child))]


def memory_mb(pid):
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def idle_cost(server):
    """(% of a core, MB) of the daemon and what it keeps running."""
    time.sleep(2)  # what is done after a start
    pids = tree_of(server.process.pid)
    before = sum(map(cpu_seconds, pids))
    spent = timed(lambda: time.sleep(IDLE_SECONDS))
    return 100 * (sum(map(cpu_seconds, pids)) - before) / spent, sum(map(memory_mb, pids))


def first_step_and_stop_seconds(server, spec):
    """From the command that submits a job until the report of its first step; of a stop of the daemon while that job runs."""
    began = time.monotonic()
    with subprocess.Popen(server.command("train", spec, "--follow", "--json"), stdout=subprocess.PIPE, text=True) as stream:
        for line in stream.stdout:
            job = json.loads(line)
            if job["progress"]["step"] >= 1:
                break
        else:
            raise SystemExit("error: the job ended before its first step: " + server.cli("jobs", "list"))
        seconds = time.monotonic() - began
        stream.kill()
    stopping = timed(server.stop)
    server.start()
    server.cli("jobs", "cancel", str(job["job"]))
    while json.loads(server.cli("jobs", "show", str(job["job"]), "--json"))["state"] != "cancelled":
        time.sleep(0.05)
    return seconds, stopping


def measure_start(bin_dir, rounds):
    figures = {"help_s": [], "ready_s": [], "idle_percent": [], "idle_mb": [], "first_step_s": [], "stop_s": []}
    with Window() as window, daemon(bin_dir) as server:
        server.serve_small_model()
        server.cli("dataset", "add", "fashion-mnist", FASHION)
        spec = server.folder / "job.yaml"
        spec.write_text(json.dumps(JOB))
        for _ in range(rounds):
            figures["help_s"] += [help_seconds(bin_dir) for _ in range(7)]
            server.stop()
            figures["ready_s"].append(timed(lambda: start_and_answer(server)))
            percent, megabytes = idle_cost(server)
            figures["idle_percent"].append(percent)
            figures["idle_mb"].append(megabytes)
            first, stopping = first_step_and_stop_seconds(server, spec)
            figures["first_step_s"].append(first)
            figures["stop_s"].append(stopping)
    middle = {name: statistics.median(values) for name, values in figures.items()}
    goals = [
        Goal("start: tandem --help", middle["help_s"] * 1e3, 50, False, "ms"),
        Goal("start: daemon ready with one small model", middle["ready_s"], 1, False, "s"),
        Goal("start: idle daemon with it, of a core", middle["idle_percent"], 1, False, "%"),
        Goal("start: idle daemon with it, resident", middle["idle_mb"], 150, False, "MB"),
        Goal("start: job submitted -> first step", middle["first_step_s"], 2, False, "s"),
        Goal("start: daemon and its job stopped by SIGTERM, the longest", max(figures["stop_s"]), 10, False, "s"),
    ]
    lines = [f"{name:14} {' '.join(f'{value:.4g}' for value in values)}" for name, values in figures.items()]
    return Part(goals, figures, lines, window.steal)


def measure_http(bin_dir, rounds):
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder, daemon(bin_dir, "serving.engine=echo") as server:
        server.serve_small_model()
        found = pathlib.Path(folder, "http.json")
        # The echo engine's own names, whatever the file says.
        command = [sys.executable, HERE / "bench_http.py", bin_dir, "--url", server.url, "--model", "small", "--input", "INPUT0",
                   "--shape", "4", "--pairs", str(rounds), "--json", found]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"error: bench_http.py: {done.stderr or done.stdout}")
        results = json.loads(found.read_text())
    goals = [Goal("http: p50 at concurrency 1, daemon / stub", results["1"]["p50_ratio"], 1.4, False)]
    goals += [Goal(f"http: requests/s at concurrency {c}, daemon / stub", results[c]["rate_ratio"], 0.3) for c in ("8", "32")]
    steal = max(run[side]["steal"] for run in results.values() for side in ("server", "stub"))
    return Part(goals, results, done.stdout.strip().split("\n"), steal)
