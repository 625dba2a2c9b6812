"""What the requests of a hot model notice: ten times the load at once while a job trains; a big model that is loaded."""

import contextlib
import csv
import json
import os
import statistics
import subprocess
import sys
import time

from measure import FASHION, Goal, Part, Stalls, Window, daemon

CPUS = len(os.sched_getaffinity(0))
LOW, HIGH = 0.05, 0.5  # of the capacity
BIN_S = 0.05           # of the load step's aftermath
STEPS_A_ROUND, BEFORE_S, AFTER_S = 6, 1.0, 1.0
LEAD_IN_S = 0.5
BIG_S, BIG_VERSIONS = 12, 6
# The idle class counts only within an autogroup (one a session): it has its own, of the lowest weight, or it would outweigh the daemon's children.
KEEP_AWAKE = """import contextlib, os
os.setsid()
with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:
    group.write("19")
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
while True: pass"""


def stream(server, records, rate, seconds, connections=32):
    command = server.command("bench", "stream", "hot", "fashion-mnist", "--rate", f"{rate:.1f}", "--seconds", f"{seconds:.2f}",
                             "--connections", str(connections), "--records", records)
    if os.geteuid() == 0:
        command = ["chrt", "-f", "2", *command]  # as a network card's interrupts: the client is not what is measured
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def read(records, lead_in_s=0.0):
    """(scheduled Unix seconds, milliseconds) of each request after the lead-in."""
    with open(records) as file:
        rows = list(csv.DictReader(file))
    if any(row["ok"] != "1" for row in rows):
        raise SystemExit("error: a request failed")
    first = min(float(row["unix_ms"]) for row in rows) + 1000 * lead_in_s
    return [(float(row["unix_ms"]) / 1000, float(row["latency_ms"])) for row in rows if float(row["unix_ms"]) >= first]


def steady_rows(server, rate, seconds):
    """As of `read`, of a steady load, without those of its beginning."""
    records = server.folder / "steady.csv"
    if stream(server, records, rate, seconds).wait() != 0:
        raise SystemExit("error: a request failed")
    return read(records, LEAD_IN_S)


def steady(server, rate, seconds):
    return [ms for _, ms in steady_rows(server, rate, seconds)]


def p99(latencies):
    return sorted(latencies)[min(len(latencies) - 1, int(0.99 * len(latencies)))]


def p99_of(rows):
    return p99([ms for _, ms in rows])


@contextlib.contextmanager
def kept_awake():
    spinners = [subprocess.Popen([sys.executable, "-c", KEEP_AWAKE]) for _ in range(CPUS)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def capacity(server):
    """Requests per second of all CPUs, from what one takes when nobody else asks."""
    with kept_awake():
        return 1000 * CPUS / statistics.median(steady(server, 50, 3))


def train(server, **changes):
    spec = server.folder / "job.json"
    spec.write_text(json.dumps({"name": "bench", "model": {"architecture": "resnet8"}, "dataset": "fashion-mnist", "steps": 1000000,
                                "batch": 128, "seed": 1, **changes}))
    job = json.loads(server.cli("train", spec, "--json"))["job"]
    return job


def trains(server, job):
    while json.loads(server.cli("jobs", "show", str(job), "--json"))["progress"]["step"] < 5:
        time.sleep(0.05)


def until_ended(server, job):
    while json.loads(server.cli("jobs", "show", str(job), "--json"))["state"] not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.2)


def load_step(server, full):
    """Milliseconds of each request by its time after the step, which is 0."""
    low, more = server.folder / "low.csv", server.folder / "more.csv"
    first = stream(server, low, LOW * full, BEFORE_S + AFTER_S + 0.5)
    time.sleep(BEFORE_S)
    second = stream(server, more, (HIGH - LOW) * full, AFTER_S)
    first.wait()
    second.wait()
    extra = read(more)
    began = min(at for at, _ in extra)
    return [(at - began, ms) for at, ms in read(low) + extra if -BEFORE_S / 2 < at - began < AFTER_S]


def make_version(server, model, architecture, seed):
    file = server.folder / f"{model}.onnx"
    subprocess.run([server.bin / "tandem", "model", "new", "--arch", architecture, "--input", "1x28x28", "--classes", "10", "--seed", str(seed),
                    "--out", file], check=True, capture_output=True)
    server.cli("models", "import", model, file)
    return file.stat().st_size


def versions(server):
    return json.loads(server.cli("models", "show", "big", "--json"))["versions"]


def newest_version(server):
    return len(versions(server))


def version_of(server, number):
    return versions(server)[number - 1]


def beside(server, rate, busy):
    """The hot model's requests while `busy` goes on, which is called again and again and returns False when there is no more."""
    records = server.folder / "hot.csv"
    requests = stream(server, records, rate, BIG_S)
    time.sleep(LEAD_IN_S)
    times = 0
    while requests.poll() is None and busy(times):
        times += 1
    if requests.wait() != 0:
        raise SystemExit("error: a request failed")
    return read(records, LEAD_IN_S), times


def big_model(server, full):
    """p99 of the hot model: alone; while versions of the big one are loaded, compiled and warmed; while one is compared. `calm`: the same
    without the requests that a stall of the host touched."""
    first = newest_version(server) + 1
    for version in range(first, first + BIG_VERSIONS):
        make_version(server, "big", "resnet18", version)
    rate = 0.25 * full

    def deploy(times):
        if times < BIG_VERSIONS:
            server.cli("models", "deploy", f"big/{first + times}")
        return times < BIG_VERSIONS

    # Trained for one step, then compared by the engine with the champion on the validation split.
    job = train(server, model={"from": "big"}, steps=1, batch=8, register={
        "model": "big", "alias": "champion", "promote_if": {"metric": "accuracy", "better_than": "champion"}})
    until_ended(server, job)
    version = newest_version(server)

    def compare(_):
        time.sleep(0.1)
        return version_of(server, version)["deploy"] == "pending"

    with Stalls(server.bin) as stalls:
        comparing, looks = beside(server, rate, compare)
        while version_of(server, version)["deploy"] == "pending":
            time.sleep(0.5)
        loading, loads = beside(server, rate, deploy)
        with kept_awake():
            alone = steady_rows(server, rate, BIG_S)
    rows = {"alone_ms": alone, "loading_ms": loading, "comparing_ms": comparing}
    calm = {name: p99_of(stalls.without(some)) for name, some in rows.items()}
    return {name: p99_of(some) for name, some in rows.items()} | {"loads": loads, "comparing_s": looks / 10, "calm": calm}


def measure(bin_dir, rounds):
    with Window() as window, daemon(bin_dir) as server:
        server.cli("dataset", "add", "fashion-mnist", FASHION)
        sizes = {"hot": make_version(server, "hot", "resnet8", 1), "big": make_version(server, "big", "resnet18", 1)}
        for model in sizes:
            server.cli("models", "deploy", model)
        full = capacity(server)
        big = [big_model(server, full) for _ in range(rounds)]
        with kept_awake():
            target = 2 * p99(steady(server, HIGH * full, 4))
        server.cli("policy", "set", "--set", f"slo_ms.hot={target:.3f}")
        job = train(server)
        trains(server, job)
        after = [request for _ in range(STEPS_A_ROUND * rounds) for request in load_step(server, full)]
        server.cli("jobs", "cancel", str(job))
    bins = [[ms for at, ms in after if i * BIN_S <= at < (i + 1) * BIN_S] for i in range(int(AFTER_S / BIN_S))]
    late = [i for i, latencies in enumerate(bins) if p99(latencies) > target]
    loading = statistics.median(b["loading_ms"] / b["alone_ms"] for b in big)
    comparing = statistics.median(b["comparing_ms"] / b["alone_ms"] for b in big)
    times = f"a model {sizes['big'] / sizes['hot']:.0f} times as big"
    goals = [
        Goal("tail: 10x load step beside a job, time with p99 above the target", 1000 * BIN_S * len(late), 100, False, "ms"),
        Goal(f"tail: {times} is loaded: hot p99 / alone", loading, 1.1, False),
        Goal(f"tail: {times} is compared with the champion: hot p99 / alone", comparing, 1.1, False),
    ]
    figures = {"capacity": full, "target_ms": target, "bins_p99_ms": [p99(b) for b in bins], "late_bins": late, "sizes": sizes, "big": big}
    lines = [f"capacity {full:.0f}/s, target {target:.2f} ms (twice p99 at {HIGH:.0%}); {len(after)} requests around {STEPS_A_ROUND * rounds} steps",
             "p99 ms after the step, by 50 ms: " + " ".join(f"{p99(b):.2f}" for b in bins),
             "without requests that a stall of the host touched: loading / alone {:.2f}, comparing / alone {:.2f}".format(*(
                 statistics.median(b["calm"][name] / b["calm"]["alone_ms"] for b in big) for name in ("loading_ms", "comparing_ms"))),
             "hot p99 ms alone, loading (loads), comparing (s): " + "; ".join(
                 f"{b['alone_ms']:.2f}, {b['loading_ms']:.2f} ({b['loads']}), {b['comparing_ms']:.2f} ({b['comparing_s']:.0f})" for b in big)]
    return Part(goals, figures, lines, window.steal)
