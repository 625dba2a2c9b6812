"""How exactly the machine is shared: who gets a CPU when, pauses, releases, caps, disk rates, window edges, and what the control loop costs."""

import contextlib
import datetime
import http.client
import json
import os
import pathlib
import re
import statistics
import threading
import time
import urllib.error
import urllib.request

import bench_http
from measure import FASHION, Goal, Part, Window, daemon

JOB = {"name": "bench", "model": {"architecture": "resnet8"}, "dataset": "fashion-mnist", "steps": 1000000, "batch": 128, "seed": 1}
QUEUED_JOBS, MODELS, COST_SECONDS = 100, 20, 10
REQUESTS, REQUESTS_PER_S = 2000, 200
DISK_RATE, DISK_SECONDS = 10_000_000, 8


def post(server, path, body=None):
    request = urllib.request.Request(server.url + path, method="POST", data=json.dumps(body or {}).encode())
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def show(server, job):
    with urllib.request.urlopen(f"{server.url}/api/v1/jobs/{job}") as answer:
        return json.load(answer)


def until(condition, timeout=60, nap=0.0002):
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout:
            raise SystemExit("error: waited too long")
        time.sleep(nap)
    return time.monotonic() - began


def cpu_nanos(tasks):
    total = 0
    for file in pathlib.Path(tasks).glob("task/*/schedstat"):
        try:
            total += int(file.read_text().split()[0])
        except OSError:
            pass  # a thread that ended meanwhile
    return total


def frozen_file(pid):
    """cgroup.events of the trainer's group; None where the kernel has no cgroup v2 core files for it."""
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        if line.startswith("0::/"):
            for root in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
                file = pathlib.Path(root + line[3:], "cgroup.events")
                if file.exists() and "frozen" in file.read_text():
                    return file
    return None


def p99(values):
    return sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]


def start_job(server, **changes):
    spec = server.folder / "job.json"
    spec.write_text(json.dumps({**JOB, **changes}))
    job = json.loads(server.cli("train", spec, "--json"))["job"]
    until(lambda: show(server, job).get("progress", {}).get("step", 0) > 3)
    return job


def request_delays(server, count):
    """For each request, beside a running job: seconds that the threads which answer were ready and not on a CPU, as the kernel counts them."""
    tasks = pathlib.Path(f"/proc/{server.process.pid}/task")
    files = [open(task / "schedstat") for task in tasks.iterdir() if (task / "comm").read_text().startswith("http-io")]

    def waited():
        total = 0
        for file in files:
            file.seek(0)
            total += int(file.read().split()[1])
        return total
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
    body, headers = bench_http.infer_request("input", [1, 4], False)
    delays, due = [], time.monotonic()
    for _ in range(count):
        due += 1 / REQUESTS_PER_S
        time.sleep(max(0, due - time.monotonic()))
        before = waited()
        connection.request("POST", "/v2/models/small/infer", body, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        delays.append((waited() - before) / 1e9)
    connection.close()
    for file in files:
        file.close()
    return delays


def growth(find, done):
    """Bytes a second at which the file that `find` gives grows, from its first bytes to its last, and its seconds."""
    points = []
    while not done():
        with contextlib.suppress(OSError):
            file = find()
            size = file.stat().st_size if file else 0
            if size and (not points or size != points[-1][1]):
                points.append((time.monotonic(), size))
        time.sleep(0.005)
    (begin, first), (end, last) = points[0], points[-1]
    return (last - first) / (end - begin), end - begin


def checkpoint_rate(server):
    """What a job's limit on the disk does to its checkpoint, which its trainer paces and syncs, and the kernel throttles where it can."""
    job = start_job(server, name="disk", model={"architecture": "resnet18"}, batch=16, micro_batch=8, checkpoint={"every_steps": 1000000},
                    resources={"disk_write": DISK_RATE})
    folder = server.folder / f"data/checkpoints/job-{job}"
    post(server, f"/api/v1/jobs/{job}/release")
    found = growth(lambda: next(iter(folder.glob("checkpoint-*.tmp-*")), None), lambda: show(server, job)["state"] == "queued")
    server.cli("jobs", "cancel", str(job))
    return found


def upload_rate(server):
    """What serving's limit does to a model on its way in, which the server, in no group, paces by itself. That it is no model is found later."""
    server.cli("policy", "set", "--set", f"serving.disk_write={DISK_RATE}")

    def send():
        url = f"{server.url}/api/v1/models/none/versions?source=none.onnx"
        request = urllib.request.Request(url, method="POST", data=bytes(DISK_RATE * DISK_SECONDS))
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(request)
    time.sleep(0.5)  # the rate is in force by then
    thread = threading.Thread(target=send)
    thread.start()
    found = growth(lambda: next(iter((server.folder / "data/run").glob("upload-*")), None), lambda: not thread.is_alive())
    thread.join()
    server.cli("policy", "set", "--set", "serving.disk_write=0")
    return found


def holder(server):
    """Who holds a job's disk rate here."""
    with urllib.request.urlopen(f"{server.url}/api/v1/doctor") as answer:
        checks = {check["name"]: check["detail"] for check in json.load(answer)["checks"]}
    kernel = f"the kernel (cgroup {checks['cgroups']})" if "disk rates" in checks["limits"] else "no kernel"
    return f"{kernel} and tandem's pacing", checks["run delay"]


def pauses(server, job, count):
    """Seconds from the request until every thread stands, and until the job says so; and until one runs again, from
    frozen and from resting."""
    pid = show(server, job)["pid"]
    events = frozen_file(pid)
    stops, told, goes = [], [], {"frozen": [], "resting": []}
    for i in range(count):
        began = time.monotonic()
        post(server, f"/api/v1/jobs/{job}/pause")
        until(lambda: "frozen 1" in events.read_text() if events else show(server, job)["state"] == "paused")
        stops.append(time.monotonic() - began)
        until(lambda: show(server, job)["state"] == "paused")
        told.append(time.monotonic() - began)
        how = "frozen" if i % 2 else "resting"
        time.sleep(0.05 if how == "frozen" else 0.6)  # the state itself: thawed, at rest
        before = cpu_nanos(f"/proc/{pid}")
        began = time.monotonic()
        # It runs before the answer comes, which waits for the disk.
        answer = threading.Thread(target=post, args=(server, f"/api/v1/jobs/{job}/resume"))
        answer.start()
        until(lambda: cpu_nanos(f"/proc/{pid}") > before + 500_000)
        goes[how].append(time.monotonic() - began)
        answer.join()
        time.sleep(0.3)
    return stops, told, goes


def releases(server, job, count):
    seconds, lost = [], []
    for _ in range(count):
        step = show(server, job)["progress"]["step"]
        began = time.monotonic()
        post(server, f"/api/v1/jobs/{job}/release")
        until(lambda: show(server, job)["state"] == "queued")
        seconds.append(time.monotonic() - began)
        events = json.loads(server.cli("jobs", "explain", str(job), "--json"))["events"]
        kept = max(int(re.search(r"goes on from step (\d+)", event["reason"])[1]) for event in events if "goes on from step" in event["reason"])
        lost.append(max(0, step - kept))
        post(server, f"/api/v1/jobs/{job}/resume")
        until(lambda: show(server, job)["state"] == "running" and show(server, job)["progress"]["phase"] == "training")
        time.sleep(1)
    return seconds, lost


def cap_errors(server, job, share, cpus, count):
    """Relative error of the trainer's CPU time in windows of one second."""
    server.cli("policy", "set", "--set", "lend=false", "--set", f"training.cpu={share:.0%}", "--set", f"serving.cpu={1 - share:.0%}")
    pid = show(server, job)["pid"]
    time.sleep(2)
    errors = []
    for _ in range(count):
        before, began = cpu_nanos(f"/proc/{pid}"), time.monotonic()
        time.sleep(1)
        used = (cpu_nanos(f"/proc/{pid}") - before) / 1e9 / (time.monotonic() - began)
        errors.append(used / (share * cpus) - 1)
    server.cli("policy", "set", "--set", "lend=true", "--set", "training.cpu=0%", "--set", "serving.cpu=100%")
    return errors


def edge_errors(server):
    """Seconds between a window's opening and the start of its job; between its closing and the moment the trainer was gone."""
    opens = datetime.datetime.now(datetime.timezone.utc).replace(second=0, microsecond=0) + datetime.timedelta(minutes=1)
    if opens.timestamp() - time.time() < 8:
        opens += datetime.timedelta(minutes=1)
    closes = opens + datetime.timedelta(minutes=1)
    policy = server.folder / "policy.yaml"
    policy.write_text(json.dumps({"windows": [{"name": "edge", "from": f"{opens:%H:%M}", "to": f"{closes:%H:%M}", "time_zone": "UTC"}]}))
    server.cli("policy", "set", policy)
    spec = server.folder / "job.json"
    spec.write_text(json.dumps({**JOB, "window": "edge"}))
    job = json.loads(server.cli("train", spec, "--json"))["job"]
    until(lambda: show(server, job)["state"] == "running", 150, 0.005)
    started = time.time() - opens.timestamp()
    until(lambda: show(server, job)["state"] == "queued", 90, 0.005)
    ended = time.time() - closes.timestamp()
    server.cli("jobs", "cancel", str(job))
    return started, ended


def loop_cost(server):
    """% of a core of the control loop and of the gate, with many jobs and models and one job that trains."""
    for i in range(MODELS):
        server.cli("models", "import", f"m{i}", server.folder / "small.onnx")
        server.cli("models", "deploy", f"m{i}")
    job = start_job(server)
    for _ in range(QUEUED_JOBS - 1):
        server.cli("train", server.folder / "job.json", "--json")
    pid = server.process.pid
    names = {file.parent.name: file.read_text().strip() for file in pathlib.Path(f"/proc/{pid}/task").glob("*/comm")}
    watched = {"loop": str(pid), "gate": next(tid for tid, name in names.items() if name == "gate")}

    def read():
        return {name: int(pathlib.Path(f"/proc/{pid}/task/{tid}/schedstat").read_text().split()[0]) for name, tid in watched.items()}
    time.sleep(2)
    before, began = read(), time.monotonic()
    time.sleep(COST_SECONDS)
    after, spent = read(), time.monotonic() - began
    assert show(server, job)["state"] == "running"
    return {name: 100 * (after[name] - before[name]) / 1e9 / spent for name in watched}


def measure(bin_dir, rounds):
    with Window() as window, daemon(bin_dir) as server:
        server.serve_small_model()
        server.cli("dataset", "add", "fashion-mnist", FASHION)
        cpus = len(os.sched_getaffinity(0))
        job = start_job(server)
        delays = request_delays(server, REQUESTS * rounds)
        mechanism, by_itself = holder(server)
        stops, told, goes = pauses(server, job, 20 * rounds)
        seconds, lost = releases(server, job, 4 * rounds)
        errors = cap_errors(server, job, 0.5, cpus, 5 * rounds) + cap_errors(server, job, 0.3, cpus, 5 * rounds)
        server.cli("jobs", "cancel", str(job))
        until(lambda: show(server, job)["state"] == "cancelled")
        disks = {"checkpoint": [], "upload": []}
        for _ in range(rounds):
            disks["checkpoint"].append(checkpoint_rate(server))
            disks["upload"].append(upload_rate(server))
        started, ended = edge_errors(server)
        cost = loop_cost(server)
    off = {name: max(abs(rate / DISK_RATE - 1) for rate, _ in found) for name, found in disks.items()}
    goals = [
        Goal("control: request ready -> its thread on a CPU, beside a job, p99", p99(delays) * 1e6, 50, False, "us"),
        Goal("control: pause, request -> every thread stands, p99", p99(stops) * 1e3, 10, False, "ms"),
        Goal("control: pause, request -> the job says so, p99", p99(told) * 1e3, 10, False, "ms"),
        Goal("control: resume while frozen, request -> runs, p99", p99(goes["frozen"]) * 1e3, 10, False, "ms"),
        Goal("control: resume from rest, request -> runs, p99", p99(goes["resting"]) * 1e3, 10, False, "ms"),
        Goal("control: checkpoint and release", max(seconds), 1, False, "s"),
        Goal("control: steps lost by a release", max(lost), 0, False, ""),
        Goal("control: CPU wall (50 %, 30 %), largest error over 1 s", 100 * max(map(abs, errors)), 2, False, "%"),
        Goal("control: disk rate of a job's checkpoint, off by", 100 * off["checkpoint"], 5, False, "%"),
        Goal("control: disk rate of a model's upload, off by", 100 * off["upload"], 5, False, "%"),
        Goal("control: window opens -> its job runs", started * 1e3, 100, False, "ms"),
        Goal("control: window closes -> its trainer was gone before", ended * 1e3, 0, False, "ms"),
        Goal(f"control: loop at 10 Hz with {QUEUED_JOBS} jobs, {MODELS} models, of a core", cost["loop"], 1, False, "%"),
    ]
    figures = {"request_delay_s": delays, "disk_bytes_per_s": disks, "disk_held_by": mechanism, "pause_s": stops, "paused_told_s": told,
               "resume_s": goes, "release_s": seconds, "lost_steps": lost, "cap_errors": errors,
               "edge_s": [started, ended], "cost_percent": cost}
    lines = [f"request ready -> on a CPU: p50 {statistics.median(delays) * 1e6:.1f} us, max {max(delays) * 1e6:.0f} us over {len(delays)}",
             f"the daemon's own measurement: {by_itself}",
             f"a job's disk rate is held by {mechanism}; of {DISK_RATE / 1e6:.0f} MB/s: "
             + "; ".join(f"{name} " + ", ".join(f"{rate / 1e6:.2f} MB/s over {seconds:.1f} s" for rate, seconds in found) for name, found in disks.items()),
             f"pause p50 {statistics.median(stops) * 1e3:.2f} ms, max {max(stops) * 1e3:.2f} ms over {len(stops)}; said p50 {statistics.median(told) * 1e3:.2f} ms",
             f"resume frozen p50 {statistics.median(goes['frozen']) * 1e3:.2f} ms, resting p50 {statistics.median(goes['resting']) * 1e3:.2f} ms",
             f"wall errors %: {' '.join(f'{100 * e:.2f}' for e in errors)}",
             f"gate (20 ms) {cost['gate']:.2f} % of a core"]
    return Part(goals, figures, lines, window.steal)
