"""Bad input to the sharing of the machine, and trainers that do not keep to it: serving does not notice."""

import concurrent.futures
import os
import time

import numpy as np
import pytest

import onnx_files as onnx
from conftest import wait_for
from rogue_trainer import processes_below, rogue_runs, rogue_server
from sharing_tools import (ENDLESS, Asking, alive, bring_hot, cpu_seconds, explain, machine, metrics, policy, prepared, running, set_policy, state_is,
                           submit)

# --- policies that are none ---

NIGHT = "windows:\n- {name: night, from: '22:00', to: '06:00', time_zone: UTC, training: {cpu: 90%}}\n"
BAD_POLICIES = {
    "more than the machine": ("serving: {cpu: 70%}\ntraining:\n  cpu: 40%\n", [":3:8: ", "serving.cpu is 70%", "training.cpu is 40%", "110%"]),
    "more memory than the machine": ("serving: {memory: 70%}\ntraining: {memory: 40%}\n", ["memory", "110%"]),
    "more in a window": ("serving: {cpu: 70%}\n" + NIGHT.replace("90%}", "90%}, serving: {cpu: 20%}"), [":3:", "windows.0", "110%"]),
    "contradicting windows": (NIGHT + "- {name: late, days: [mon], from: '23:00', to: '24:00', time_zone: UTC, training: {cpu: 10%}}\n",
                              ["'night' (line 2)", "'late' (line 3)", "training.cpu 90% and 10%", "Monday", "23:00", "over: late"]),
    "a window that never opens": ("windows:\n- {name: feast, days: [holidays]}\n", [":2:", "windows.0.days", "never opens", "holidays"]),
    "a time that is none": ("windows:\n- {name: late, from: '25:00', to: '26:00'}\n", [":2:", "25:00"]),
    "a zone that is none": ("time_zone: Mars/Olympus\n", [":1:", "Mars/Olympus"]),
    "two windows of one name": (NIGHT + NIGHT.split("\n", 1)[1], ["'night' is given twice", "line 2"]),
    "over a window that is none": (NIGHT.replace("90%}", "90%}, over: moon"), ["'moon'", "no window"]),
    "an unknown key": ("training: {cpus: 30%}\n", [":1:", "cpus", "cpu"]),
    "an unknown policy": ("policy: latency_frist\n", [":1:", "latency_frist", "latency_first"]),
    "a share above all": ("training: {cpu: 130%}\n", [":1:", "training.cpu", "130%", "100%"]),
    "a rate at which no checkpoint is ever done": ("training: {disk_write: 5}\n", [":1:", "training.disk_write is '5'", "1kB/s"]),
    "no number": ("slo_ms: {hot: soon}\n", [":1:", "slo_ms", "soon"]),
    "serving may never run": ("serving: {cpu: 0%}\nlend: false\n", [":2:", "serving could never run"]),
    "training may never run": ("training: {cpu: 0%}\nlend: false\n", [":2:", "training could never run"]),
    "no YAML": ("training: {cpu: 30%\n", [":"]),
    "no map": ("- 1\n", [":1:"]),
    "too small for what is loaded": ("serving: {memory: 0.001%}\n", ["serving.memory", "'hot' version 1", "unload one first"]),
}


@pytest.mark.parametrize("name", BAD_POLICIES)
def test_a_bad_policy_is_refused_with_its_place_and_changes_nothing(machine, tmp_path, name):
    text, words = BAD_POLICIES[name]
    before = machine.cli("policy", "history", "--json").json
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    result = machine.cli("policy", "set", path, check=False)
    assert result.code != 0 and all(word in result.err for word in words), result.err
    if name != "too small for what is loaded":
        assert f"{path}:" in result.err
    assert machine.cli("policy", "history", "--json").json == before


@pytest.mark.parametrize("arguments, code, words", [
    (["set"], 2, "file"), (["set", "--set", "training.cpu"], 2, "key.path=value"), (["set", "--set", "training.cpu=soon"], 1, "--set training.cpu=soon"),
    (["set", "--set", "windows.night.from=22:00"], 1, "windows"), (["set", "/nowhere.yaml"], 4, "/nowhere.yaml"), (["revert", "999"], 4, "999"),
    (["revert", "-1"], 2, "-1"), (["show", "999"], 4, "no revision 999")], ids=str)
def test_a_bad_policy_command_says_what_is_wrong(machine, arguments, code, words):
    before = machine.cli("policy", "history", "--json").json
    result = machine.cli("policy", *arguments, check=False)
    assert (result.code, words in result.err) == (code, True), (result.code, result.err)
    assert machine.cli("policy", "history", "--json").json == before


@pytest.mark.parametrize("method, path, body, code", [
    ("PUT", "/api/v1/policy", {}, 400), ("PUT", "/api/v1/policy", {"text": "a: 1"}, 400), ("PUT", "/api/v1/policy", {"txt": ""}, 400),
    ("PUT", "/api/v1/policy", b"{", 400), ("POST", "/api/v1/policy/revert", {"revision": 999}, 404), ("GET", "/api/v1/policy/load?seconds=0", None, 400),
    ("GET", "/api/v1/policy/load?seconds=nan", None, 400), ("GET", "/api/v1/policy/load?seconds=99999", None, 400), ("GET", "/api/v1/usage?by=moon", None, 400),
    ("GET", "/api/v1/usage?from_ms=x", None, 400), ("GET", "/api/v1/jobs/999/explain", None, 404), ("POST", "/api/v1/jobs/999/release", None, 404),
    ("POST", "/api/v1/recurring/999/pause", None, 404), ("DELETE", "/api/v1/recurring/999", None, 404), ("DELETE", "/api/v1/policy", None, 405)])
def test_bad_requests_about_sharing_get_their_code(machine, method, path, body, code):
    status, answer = machine.request(method, path, body)
    assert status == code and (code == 405 or b"error" in answer), answer


@pytest.mark.parametrize("setting, words", [("isolation.rung=best", "best"), ("isolation.budget_ms=0", "budget_ms"), ("sharing.training.cpu=200%", "200%"),
                                            ("sharing.policy=fair", "fair"), ("sharing.training.disk_write=5", "1kB/s")])
def test_settings_of_sharing_that_are_wrong_are_refused_at_the_start(new_server, setting, words):
    server = new_server("--set", setting)
    server.start(wait=False)
    assert server.process.wait(30) != 0 and words in server.log_text(), server.log_text()


# --- loads that cannot be simulated ---

HEADER = "unix_ms,model,requests_per_s,service_ms\n"


@pytest.mark.parametrize("text, words", [
    ("", ["holds no load"]), ("1,a,1,1\n", [":1:", "header"]), (HEADER + "1,a,1,1\n2,a,1\n", [":3:", "3 fields"]),
    (HEADER + "soon,a,1,1\n", [":2:", "unix_ms", "'soon'"]), (HEADER + "1,,1,1\n", [":2:", "model"]),
    (HEADER + "# a remark\n1,a,-1,1\n", [":3:", "requests_per_s", "'-1'"]), (HEADER + "1,a,1,nan\n", [":2:", "service_ms"]),
    (HEADER + "5,a,1,1\n4,a,1,1\n", [":3:", "before"]), (HEADER, ["holds no load"])], ids=range(9))
def test_a_bad_load_file_is_refused_with_its_line(prepared, tmp_path, text, words):
    path = tmp_path / "load.csv"
    path.write_text(text)
    result = prepared.cli("simulate", path, check=False)
    assert result.code == 1 and str(path) in result.err and all(word in result.err for word in words), result.err


def test_a_bad_simulation_is_refused(prepared, tmp_path):
    load, bad = tmp_path / "load.csv", tmp_path / "rules.yaml"
    load.write_text(HEADER + "1,a,1,1\n2000,a,1,1\n")
    bad.write_text("training:\n  cpu: 130%\n")
    for arguments, code, words in (([], 2, "which load"), ([load, "--polcy", "windows"], 2, "did you mean '--policy'"), ([load, "--policy", "fair"], 1, "fair"),
                                   ([load, "--settings", bad], 1, f"{bad}:2:8"), (["/nowhere.csv"], 4, "/nowhere.csv"), ([load, "--cpus", "0"], 2, "--cpus")):
        result = prepared.cli("simulate", *arguments, check=False)
        assert (result.code, words in result.err) == (code, True), (arguments, result.code, result.err)
        told = prepared.cli("simulate", *arguments, "--json", check=False)
        assert told.code == code and told.json["exit_code"] == code and words in told.json["error"], (arguments, told.out)


# --- limits ---

def test_a_job_that_needs_more_memory_than_its_limit_fails_alone_and_says_what_to_lower(machine, spec):
    with Asking(machine, pause=0.002) as asking:
        job = submit(machine, spec(**ENDLESS, resources={"memory": "60MB"}))
        end = state_is(machine, job, "failed", "succeeded")
        wait_for("answers", lambda: len(asking.answers) > 50)
    assert asking.codes() == {200}, "serving does not notice"
    assert end["state"] == "failed" and end["attempt"] == 1, end
    assert "out of memory" in end["reason"] and "limit 60 MB" in end["reason"] and "peak" in end["reason"], end
    assert "lower batch or micro_batch" in end["reason"] and "resources.memory" in end["reason"]


def test_a_full_disk_area_refuses_jobs_and_says_so_before(new_server, squares, spec):
    server = new_server().start()
    server.cli("dataset", "add", "squares", squares, "--copy")
    server.stop()
    server.start("--set", "sharing.training.disk_area=1")
    shown = wait_for("the areas are measured", lambda: (m := metrics(server)).get('tandem_disk_area_used_bytes{side="training"}') and m)
    assert float(shown['tandem_disk_area_used_bytes{side="training"}']) > 100_000 and shown['tandem_disk_area_limit_bytes{side="training"}'] == "1"
    assert any("disk area of training is almost full" in notice for notice in server.cli("status", "--json").json["notices"])
    result = server.cli("train", spec(), check=False)
    assert result.code != 0 and "the disk area of training is full" in result.err and "training.disk_area" in result.err and "tandem gc" in result.err
    assert server.cli("jobs", "list", "--json").json["jobs"] == []
    for how in ("--copy", "--upload"):
        result = server.cli("dataset", "add", "more", squares, how, check=False)
        assert result.code != 0 and "the disk area of training is full" in result.err, result.err
    server.cli("dataset", "add", "in-place", squares)  # takes nothing
    bring_hot(server)
    server.stop()
    server.start("--set", "sharing.serving.disk_area=1")
    wait_for("the areas are measured", lambda: metrics(server).get('tandem_disk_area_used_bytes{side="serving"}', "0") != "0")
    status, body = server.request("POST", "/api/v1/models/more/versions?source=more.onnx", onnx.identity())
    assert status == 507 and b"the disk area of serving is full" in body and b"serving.disk_area" in body, (status, body)
    with Asking(server) as asking:
        wait_for("answers", lambda: len(asking.answers) > 10)
    assert asking.codes() == {200}
    server.stop()
    server.start("--set", "sharing.training.disk_area=1GB")
    assert server.cli("train", spec(epochs=None, steps=1, register=None), "--json").json["state"] in ("queued", "starting", "running")


def test_what_a_job_writes_is_paced_by_the_sides_rate_where_no_kernel_holds_it(new_server, squares, spec):
    def seconds_of_a_checkpoint(*arguments, name, times=1):
        """The least of so many: on a busy machine leaving takes its time too."""
        server = new_server("--set", "isolation.rung=off", *arguments, name=name).start()
        server.cli("dataset", "add", "squares", squares)
        job = submit(server, spec(epochs=None, steps=1_000_000, checkpoint={"every_steps": 1_000_000}, register=None))
        took, step = [], 0
        for attempt in range(times):
            if attempt > 0:
                server.cli("jobs", "resume", job)
            wait_for("steps", lambda: server.job(job)["progress"]["step"] > step)
            begun = time.monotonic()
            server.cli("jobs", "release", job)
            step = state_is(server, job, "queued")["progress"]["step"]
            took.append(time.monotonic() - begun)
        sizes = [file.stat().st_size for file in (server.folder / f"data/checkpoints/job-{job}").glob("checkpoint-*.tckpt")]
        return min(took), max(sizes)

    free, size = seconds_of_a_checkpoint(name="free", times=3)
    paced, _ = seconds_of_a_checkpoint("--set", f"sharing.training.disk_write={size // 3}", name="paced")
    assert paced > 2 > free, (paced, free, size)


def test_what_the_server_writes_of_models_is_paced_by_servings_rate(new_server):
    weight = onnx.tensor("w", [1024, 1024], np.linspace(-1, 1, 1024 * 1024).tolist())
    model = onnx.linear(weight, 1024, 1024)

    def seconds_of_an_import(server):
        begun = time.monotonic()
        status, body = server.request("POST", "/api/v1/models/big/versions?source=big.onnx", model)
        assert status == 200, body
        return time.monotonic() - begun

    server = new_server("--set", "isolation.rung=off", "--set", f"sharing.serving.disk_write={len(model) // 2}").start()
    # The upload, and the model as it is kept: each is written once, at the rate.
    paced = seconds_of_an_import(server)
    assert 3.6 < paced < 12, paced

    def unbound():
        return [sentence for sentence in policy(server)["not_enforced"] if "disk_read and disk_iops" in sentence]
    assert unbound() == []
    server.cli("policy", "set", "--set", "serving.disk_iops=100")
    wait_for("it is in force", unbound)
    # Another rate holds at once, also for a write that waits under the old one.
    server.cli("policy", "set", "--set", "serving.disk_write=1KB/s", "--set", "serving.disk_iops=0")
    wait_for("it is in force", lambda: not unbound())
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(seconds_of_an_import, server)
        run = server.folder / "data/run"
        wait_for("the upload has begun", lambda: any(file.stat().st_size for file in run.glob("upload-*")))
        server.cli("policy", "set", "--set", "serving.disk_write=0")
        assert waiting.result(timeout=20) < 20
    server.assert_well()


def test_a_helper_that_waits_under_servings_rate_goes_on_at_another_at_once(new_server, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    server = new_server("--model-repository", models, "--model-control", "poll", "--set", "serving.poll_interval=0.2", "--set", "isolation.rung=off").start()
    server.cli("policy", "set", "--set", "serving.disk_write=1KB/s")
    wait_for("it is in force", lambda: any(sentence.startswith("serving's disk limits") for sentence in policy(server)["not_enforced"]))
    weight = onnx.tensor("w", [256, 256], np.linspace(-1, 1, 256 * 256).tolist())
    (models / "big/1").mkdir(parents=True)
    (models / "big/1/model.onnx").write_bytes(onnx.linear(weight, 256, 256))
    run = server.folder / "data/run"
    wait_for("a helper writes", lambda: any(file.stat().st_size for file in run.glob("import-*")))
    server.cli("policy", "set", "--set", "serving.disk_write=0")
    wait_for("the model is there", lambda: server.request("GET", "/v2/models/big/ready")[0] == 200)
    server.assert_well()


def test_data_sets_that_the_server_writes_are_paced_by_trainings_rate(new_server, squares):
    size = sum(file.stat().st_size for file in squares.iterdir())
    server = new_server("--set", "isolation.rung=off", "--set", f"sharing.training.disk_write={size // 2}").start()
    folder = server.folder / "data/datasets"

    def seconds_of_adding(name, how):
        begun = time.monotonic()
        server.cli("dataset", "add", name, squares, how)
        return time.monotonic() - begun

    # A copy is written once, an upload twice: as it comes, and unpacked.
    copied, uploaded = seconds_of_adding("copied", "--copy"), seconds_of_adding("uploaded", "--upload")
    assert 1.9 < copied < 10 and 3.8 < uploaded < 14, (copied, uploaded)
    for name in ("copied", "uploaded"):
        assert {file.name: file.read_bytes() for file in (folder / name).iterdir()} == {file.name: file.read_bytes() for file in squares.iterdir()}

    # Another rate holds at once, also for a write that waits under the old one. That serving's is in force says that both are.
    server.cli("policy", "set", "--set", "training.disk_write=1KB/s", "--set", "serving.disk_iops=100")
    wait_for("it is in force", lambda: any("disk_read and disk_iops" in sentence for sentence in policy(server)["not_enforced"]))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(seconds_of_adding, "late", "--copy")
        wait_for("the copy has begun", lambda: any(file.stat().st_size for file in (folder / "late").glob("*")))
        server.cli("policy", "set", "--set", "training.disk_write=0")
        assert waiting.result(timeout=20) < 20
    server.assert_well()


# --- trainers that do not obey ---

def log_of(server, job):
    return server.cli("jobs", "logs", job).out


def test_a_trainer_that_ignores_the_pause_is_ended_and_its_owner_told(rogue_server, spec):
    server = rogue_server("burn()")
    with Asking(server, pause=0.002) as asking:
        job, trainer = rogue_runs(server, spec)
        server.cli("jobs", "pause", job)
        state_is(server, job, "paused", "pausing")
        assert cpu_seconds(trainer) > 0
        wait_for("it is ended", lambda: not alive(trainer))
        shown = state_is(server, job, "queued")
    assert asking.codes() == {200}
    reasons = [event["reason"] for event in explain(server, job)["events"]]
    assert any("went on computing while it was paused, and was ended" in reason for reason in reasons), reasons
    assert "computes although it was told to pause" in server.log_text()
    assert shown["pid"] == 0
    time.sleep(2.5)  # longer than the time of its next attempt
    assert server.job(job)["state"] == "queued" and explain(server, job)["would_start"] == f"tandem jobs resume {job}", "it stays paused"


def test_a_trainer_that_still_loads_its_data_is_not_ended_when_it_is_paused(rogue_server, spec):
    server = rogue_server("send(bytes([10, 13, 74, 7]) + b'loading' + bytes([24, 1, 32, 9]))\nburn()", "--set", "stop_timeout=1s")
    job, trainer = rogue_runs(server, spec)
    wait_for("it loads", lambda: server.job(job)["progress"]["phase"] == "loading")
    server.cli("jobs", "pause", job)
    state_is(server, job, "paused", "pausing")
    begun = time.monotonic()
    wait_for("longer than one may go on", lambda: time.monotonic() > begun + 7)
    assert alive(trainer) and "went on computing" not in str(explain(server, job)["events"])


def test_a_job_cannot_raise_its_class_and_its_children_die_with_it(rogue_server, spec):
    server = rogue_server("""
tried(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
tried(os.sched_setscheduler, 0, os.SCHED_RR, os.sched_param(50))
tried(os.setpriority, os.PRIO_PROCESS, 0, -20)
if os.fork() == 0:
    if os.fork() == 0: burn()
    os._exit(0)
burn()""")
    with Asking(server, pause=0.002) as asking:
        job, trainer = rogue_runs(server, spec)
        wait_for("its child", lambda: len(processes_below(server.folder.parent)) == 2)
        begun = len(asking.answers)
        wait_for("answers", lambda: len(asking.answers) > begun + 200)
    assert asking.codes() == {200}
    log = log_of(server, job)
    assert "allowed" not in log and log.count("refused sched_setscheduler") == 2 and "refused setpriority" in log, log
    assert os.sched_getscheduler(trainer) in (os.SCHED_OTHER, os.SCHED_BATCH)
    server.cli("jobs", "cancel", job)
    state_is(server, job, "cancelled")
    wait_for("the grandchild is gone too", lambda: not processes_below(server.folder.parent))


def test_a_fork_bomb_is_held_to_its_number_of_processes(rogue_server, spec):
    server = rogue_server("""
for i in range(300):
    try:
        if os.fork() == 0: time.sleep(600)
    except OSError as error:
        print("refused fork", i, error.strerror, flush=True)
        break
burn()""")
    if "process counts" not in server.cli("doctor", check=False).out:
        pytest.skip("the kernel holds no process counts here: no cgroup can be written")
    with Asking(server, pause=0.002) as asking:
        job, _ = rogue_runs(server, spec, resources={"processes": 40})
        wait_for("it is refused", lambda: "refused fork" in log_of(server, job))
        assert len(processes_below(server.folder.parent)) <= 40
        wait_for("answers", lambda: len(asking.answers) > 50)
    assert asking.codes() == {200}
    server.cli("jobs", "cancel", job)
    state_is(server, job, "cancelled")
    wait_for("all are gone", lambda: not processes_below(server.folder.parent))
    server.assert_well()


def test_a_memory_hog_is_ended_alone_and_not_tried_again(rogue_server, spec):
    server = rogue_server("""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
hoard = []
while True:
    hoard.append(bytearray(b"x" * 4_000_000))
    time.sleep(0.005)""")
    if "memory" not in [c for c in server.cli("doctor", "--json", check=False).json["checks"] if c["name"] == "limits"][0]["detail"]:
        pytest.skip("the kernel holds no memory limits here: no cgroup can be written")
    with Asking(server, pause=0.002) as asking:
        job = submit(server, spec(**ENDLESS, resources={"memory": "200MB"}))
        end = state_is(server, job, "failed")
    assert asking.codes() == {200}
    assert "out of memory" in end["reason"] and "limit 200 MB" in end["reason"] and end["attempt"] == 1, end
    server.assert_well()


@pytest.mark.parametrize("behave, words", [("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"), ("daemon.sendall(b'HTTP/1.1 200 OK')\ntime.sleep(600)", "trainer")],
                         ids=["dies", "speaks nonsense"])
def test_a_trainer_that_fails_is_tried_again_and_then_given_up(rogue_server, spec, behave, words):
    attempts = 2 if words == "SIGSEGV" else 1  # of the other one, each takes seconds
    server = rogue_server(behave, "--set", f"training.max_attempts={attempts}")
    job = submit(server, spec(**ENDLESS))
    end = state_is(server, job, "failed")
    assert end["attempt"] == attempts and f"({attempts} attempts)" in end["reason"] and words in end["reason"], end
    assert not processes_below(server.folder.parent)
    server.assert_well()


@pytest.mark.parametrize("how", ["released", "out of time"])
def test_a_trainer_that_does_not_hear_that_it_must_leave_is_ended(rogue_server, spec, how):
    server = rogue_server("time.sleep(600)", "--set", "stop_timeout=1s")
    job, trainer = rogue_runs(server, spec, **({"time_limit": "1s"} if how == "out of time" else {}))
    if how == "released":
        server.cli("jobs", "release", job)
    wait_for("it is ended", lambda: not alive(trainer))
    assert state_is(server, job, "queued", "timed_out")["pid"] == 0
