"""Windows, recurring jobs, accounts, and the simulator."""

import datetime
import os
import signal
import time

import pytest

from conftest import FULL, wait_for
from rogue_trainer import rogue_server
from sharing_tools import (ENDLESS, FEATURES, ROWS, STEADY, Asking, alive, bring_hot, busy_database, cpu_seconds, engine_processes, explain, limits_of, machine, policy, prepared,
                           running, set_policy, state_is, submit)


# --- windows ---

def utc(hours):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=hours)).strftime("%H:%M")


def test_a_job_waits_for_its_window_and_gives_the_machine_back_when_it_closes(machine, spec):
    closed = f"windows: [{{name: night, from: '{utc(6)}', to: '{utc(7)}', time_zone: UTC}}]\n"
    opened = f"windows: [{{name: night, from: '{utc(-1)}', to: '{utc(6)}', time_zone: UTC}}]\n"
    result = machine.cli("train", spec(**ENDLESS, window="night"), check=False)
    assert result.code != 0 and "window 'night' is not known" in result.err
    set_policy(machine, closed)
    job = submit(machine, spec(**ENDLESS, window="night"))
    told = wait_for("the reason", lambda: (e := explain(machine, job))["job"]["reason"] and e)
    assert told["job"]["state"] == "queued" and "waits for window 'night', which opens at" in told["waits_for"] and "night" in told["would_start"]
    hours = (told["earliest_ms"] / 1000 - time.time()) / 3600
    assert 5.9 < hours < 6.1
    wait_for("the edge", lambda: (s := policy(machine))["window"] == "" and s["next_edge_ms"] == told["earliest_ms"])

    set_policy(machine, opened)
    running(machine, job)
    state = policy(machine)
    decided = next(decision for decision in state["decisions"] if decision["what"] == "window")
    assert state["window"] == "night" and "'night' opened" in decided["reason"]
    assert "night" in machine.cli("status", "--json").json["policy"]
    set_policy(machine, closed)
    state_is(machine, job, "queued")
    told = wait_for("it waits again", lambda: (e := explain(machine, job))["job"]["reason"].startswith("waits for window") and e)
    released = next(e for e in told["events"] if "goes on from step" in e["reason"])
    assert "window 'night'" in released["reason"] and int(released["reason"].rsplit(" ", 1)[1]) > 0


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="waits for a minute's edge: TANDEM_FULL=1")
def test_a_job_has_left_with_its_checkpoint_when_its_window_closes(machine, spec):
    now = time.time()
    edge = (now // 60 + (2 if now % 60 < 20 else 3)) * 60  # at least 80 s from now
    at = datetime.datetime.fromtimestamp(edge, datetime.timezone.utc).strftime("%H:%M")
    set_policy(machine, f"windows: [{{name: night, from: '{utc(-1)}', to: '{at}', time_zone: UTC, training: {{cpu: 50%}}}}]\n")
    job = submit(machine, spec(**ENDLESS, window="night"))
    trainer = running(machine, job)["pid"]
    gone = wait_for("it leaves", lambda: not alive(trainer) and time.time(), timeout=150)
    assert edge - 10 < gone <= edge, f"{gone - edge:+.2f} s"
    wait_for("the window closes", lambda: policy(machine)["window"] == "", timeout=30)
    decision = policy(machine)["decisions"][0]
    assert abs(decision["when_ms"] / 1000 - edge) <= 0.1 and "'night' closed" in decision["reason"], decision
    told = explain(machine, job)
    assert told["job"]["state"] == "queued" and told["job"]["progress"]["step"] > 0
    assert any("closes at" in e["reason"] and "goes on from step" in e["reason"] for e in told["events"]), told["events"]


# --- recurring jobs ---

def test_a_recurring_job_is_kept_shown_paused_resumed_and_deleted(machine, spec):
    path = spec(**{**STEADY, "name": "nightly"}, recurring={"cron": "30 2 * * mon-fri", "time_zone": "UTC", "overlap": "queue"})
    answer = machine.cli("train", path, "--json").json
    number = answer["recurring"]
    assert answer["job"] == 0 and answer["state"] == "recurring" and "first runs at" in answer["reason"]
    shown = machine.cli("recurring", "show", number, "--json").json
    assert shown == next(r for r in machine.cli("recurring", "list", "--json").json["recurring"] if r["id"] == number)
    assert (shown["cron"], shown["time_zone"], shown["overlap"], shown["catch_up"]) == ("30 2 * * mon-fri", "UTC", "queue", "one")
    due = datetime.datetime.fromtimestamp(shown["next_ms"] / 1000, datetime.timezone.utc)
    assert (due.hour, due.minute) == (2, 30) and due.weekday() < 5 and 0 < shown["next_ms"] / 1000 - time.time() < 4 * 86400
    assert "recurring" not in shown["spec"].replace("name: nightly", "")
    assert machine.cli("recurring", "pause", number, "--json").json["paused"]
    assert "paused" in machine.cli("recurring", "list").out
    assert not machine.cli("recurring", "resume", number, "--json").json["paused"]
    machine.cli("recurring", "delete", number)
    assert machine.cli("recurring", "show", number, check=False).code == 4
    for cron, words in (("61 * * * *", "minute"), ("0 0 30 2 *", "never comes"), ("* * * *", "4 fields")):
        result = machine.cli("train", spec(**STEADY, recurring={"cron": cron}), check=False)
        assert result.code != 0 and words in result.err and "cron" in result.err, result.err


@pytest.mark.slow
@pytest.mark.skipif(not FULL, reason="waits for three minutes: TANDEM_FULL=1")
def test_a_recurring_job_is_submitted_at_its_minutes_and_not_beside_itself(machine, spec):
    path = spec(**{**ENDLESS, "name": "each-minute"}, recurring={"cron": "* * * * *", "time_zone": "UTC", "overlap": "skip"})
    number = machine.cli("train", path, "--json").json["recurring"]
    first = wait_for("the first run", lambda: (r := machine.cli("recurring", "show", number, "--json").json)["last_job"] and r, timeout=70)
    assert first["last_ms"] % 60_000 == 0 and abs(time.time() - first["last_ms"] / 1000) < 5
    assert machine.job(first["last_job"])["recurring"] == number
    running(machine, first["last_job"])
    second = wait_for("the second", lambda: (r := machine.cli("recurring", "show", number, "--json").json)["last_ms"] > first["last_ms"] and r, timeout=70)
    assert f"skipped: job {first['last_job']}" in second["note"], second
    machine.cli("jobs", "cancel", first["last_job"])
    third = wait_for("the third", lambda: (r := machine.cli("recurring", "show", number, "--json").json)["last_job"] != first["last_job"] and r["last_job"] and r, timeout=70)
    machine.cli("recurring", "delete", number)
    assert machine.job(third["last_job"])["recurring"] == number, "jobs that it submitted stay"


# --- accounts ---

def test_the_accounts_hold_what_jobs_and_models_used_and_outlive_a_kill(new_server, squares, spec):
    server = new_server().start()
    server.cli("dataset", "add", "squares", squares)
    bring_hot(server)
    job = submit(server, spec(epochs=None, steps=50, register=None))
    with Asking(server) as asking:
        state_is(server, job, "succeeded")
        wait_for("answers", lambda: len(asking.answers) >= 100)
    assert asking.codes() == {200}

    def rows(*arguments):
        return {row["name"] or row["side"]: row for row in server.cli("usage", "--json", *arguments).json["rows"]}

    used = rows()
    trained, asked = used[f"{job} (squares)"], used["hot/1"]
    assert (trained["side"], trained["kind"], asked["side"], asked["kind"]) == ("training", "job", "serving", "model")
    assert trained["cpu_seconds"] > 0 and trained["memory_gb_hours"] > 0
    assert asked["requests"] == len(asking.answers) and asked["cpu_seconds"] > 0 and asked["memory_gb_hours"] > 0
    assert asked["disk_written_bytes"] > 4 * FEATURES * FEATURES and asked["disk_read_bytes"] > 4 * FEATURES * FEATURES, asked
    assert rows("--kind", "job").keys() == {f"{job} (squares)"}
    sides = rows("--by", "side")
    assert sides["training"]["cpu_seconds"] == pytest.approx(trained["cpu_seconds"])
    assert sides["serving"]["requests"] == asked["requests"]
    today = server.cli("usage", "--by", "day", "--days", "1", "--json").json["rows"]
    assert today and all(row["day"] in (utc_day(0), utc_day(-1)) for row in today)
    days = server.cli("usage", "--by", "day", "--side", "training", "--json").json["rows"]
    assert sum(row["cpu_seconds"] for row in days) == pytest.approx(trained["cpu_seconds"])
    assert rows("--kind", "model").keys() == {"hot/1"} and rows("--kind", "server").keys() == {"tandemd"}
    assert rows("--side", "serving").keys() == {"hot/1", "tandemd"} and used["tandemd"]["cpu_seconds"] > 0
    assert server.cli("usage", "--from", utc_day(-3), "--to", utc_day(-2), "--json").json["rows"] == []
    text = server.cli("usage").out
    assert f"{job} (squares)" in text and "hot/1" in text and "total" in text, text
    server.kill()
    server.start()
    after = rows()
    assert after[f"{job} (squares)"]["cpu_seconds"] == trained["cpu_seconds"] and after["hot/1"]["requests"] == asked["requests"]


def test_a_models_bytes_on_the_disk_are_the_sizes_of_its_files(new_server):
    server = new_server("--set", "serving.engine=openvino").start()
    bring_hot(server)
    artifacts = server.folder / "data" / "artifacts"

    def below(folder):
        return sum(path.stat().st_size for path in (artifacts / folder).rglob("*") if path.is_file())

    def accounted():
        row = next(row for row in server.cli("usage", "--json").json["rows"] if row["name"] == "hot/1")
        return row["disk_read_bytes"], row["disk_written_bytes"]

    stored, prepared = below("sha256"), below("derived")
    assert stored > 4 * FEATURES * FEATURES and prepared > 0
    assert accounted() == (stored + prepared, stored + prepared), "taken in, prepared, loaded"
    server.stop()
    server.start()
    wait_for("it serves", lambda: server.request("GET", "/v2/models/hot/ready")[0] == 200)
    assert accounted() == (stored + 2 * prepared, stored + prepared), "loaded again"


def test_what_a_job_writes_to_the_disk_is_accounted(machine, spec):
    if "disk rates" not in limits_of(machine):
        pytest.skip("the kernel counts no disk bytes of a group here: no cgroup can be written, or it knows no device of the data folder")
    job = submit(machine, spec(**ENDLESS))
    running(machine, job)
    machine.cli("jobs", "release", job)
    state_is(machine, job, "queued")
    (file,) = (machine.folder / f"data/checkpoints/job-{job}").glob("checkpoint-*.tckpt")
    (row,) = (row for row in machine.cli("usage", "--kind", "job", "--json").json["rows"] if row["name"] == f"{job} (squares)")
    assert file.stat().st_size <= row["disk_written_bytes"] < 10 * file.stat().st_size + 1e6, row
    (side,) = machine.cli("usage", "--by", "side", "--side", "training", "--json").json["rows"]
    assert side["disk_written_bytes"] >= row["disk_written_bytes"]


def test_what_could_not_be_written_is_in_the_accounts_later(new_server):
    server = new_server("--set", "serving.engine=openvino").start()
    bring_hot(server)
    with Asking(server) as asking:
        for _ in range(2):
            before = len(asking.answers)
            wait_for("answers", lambda: len(asking.answers) > before + 20)
            with busy_database(server):
                server.cli("usage")
    (row,) = server.cli("usage", "--kind", "model", "--json").json["rows"]
    assert asking.codes() == {200} and row["requests"] == len(asking.answers), row


def test_no_attempt_of_a_job_is_missing_in_its_account(rogue_server, spec):
    server = rogue_server("while time.process_time() < 1: pass\nos.kill(os.getpid(), signal.SIGSEGV)", "--set", "training.max_attempts=3")
    if "holds none" in limits_of(server):
        pytest.skip("no cgroup can be written here: what a process used last ends with it")
    job = submit(server, spec(**ENDLESS))
    assert state_is(server, job, "failed")["attempt"] == 3
    (row,) = server.cli("usage", "--kind", "job", "--json").json["rows"]
    assert row["cpu_seconds"] > 2.9, row


def utc_day(days):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)).strftime("%Y-%m-%d")


def test_a_side_is_accounted_what_its_process_used_however_requests_are_merged(new_server):
    server = new_server().start()
    bring_hot(server)
    server.cli("models", "configure", "hot", "--set", f"max_batch_size={8 * ROWS}")
    with Asking(server, threads=8) as asking:
        wait_for("answers", lambda: len(asking.answers) >= 2000)
    used = cpu_seconds(server.process.pid)
    assert asking.codes() == {200}
    rows = server.cli("usage", "--json").json["rows"]
    served = sum(row["cpu_seconds"] for row in rows if row["side"] == "serving")
    (model,) = (row for row in rows if row["name"] == "hot/1")
    assert 0 < model["cpu_seconds"] < 1.3 * used + 0.2
    assert 0.8 * used - 0.2 < served < 1.3 * used + 0.2, "a run that waits for a CPU counts as longer than it was"


def test_a_model_in_a_process_of_its_own_is_accounted_what_that_process_used(new_server):
    server = new_server().start()
    bring_hot(server, "apart", "engine=torch")
    (engine,) = engine_processes(server)
    loading = cpu_seconds(engine)
    with Asking(server, threads=4, model="apart") as asking:
        wait_for("answers", lambda: len(asking.answers) >= 2000)
    assert asking.codes() == {200}

    def accounted():
        return next(row for row in server.cli("usage", "--json").json["rows"] if row["name"] == "apart/1")

    used, row = cpu_seconds(engine), accounted()
    assert used > loading + 0.1 and row["requests"] == len(asking.answers)
    assert used - 0.1 <= row["cpu_seconds"] <= used + 0.2, "loading included; what its requests waited is not"
    os.kill(engine, signal.SIGKILL)
    wait_for("another one", lambda: engine_processes(server) not in ([], [engine]))
    (second,) = engine_processes(server)
    wait_for("it answers", lambda: apart_answers(server))
    both = used + cpu_seconds(second)
    assert both - 0.1 <= accounted()["cpu_seconds"] <= both + 0.2, "nothing is lost with a process"


def apart_answers(server):
    with Asking(server, model="apart") as asking:
        wait_for("an answer", lambda: asking.answers)
    return 200 in asking.codes()


# --- the simulator ---

def test_what_comes_from_the_cache_is_no_load_to_simulate(machine, tmp_path):
    recorded = tmp_path / "load.csv"
    machine.cli("models", "configure", "hot", "--set", "response_cache=true")
    try:
        with Asking(machine) as asking:
            machine.cli("policy", "record", "--seconds", 3, "--out", recorded)
    finally:
        machine.cli("models", "configure", "hot", "--set", "response_cache=false")
    assert len(asking.answers) > 100
    points = [line.split(",") for line in recorded.read_text().splitlines()[1:]]
    assert any(point[1].startswith("hot") and float(point[2]) == 0 for point in points)
    machine.cli("simulate", recorded, "--policy", "latency_first", "--slo-ms", 50)


def test_load_that_was_seen_is_recorded_and_simulated(machine, tmp_path):
    recorded = tmp_path / "load.csv"
    with Asking(machine, pause=0.005) as asking:
        machine.cli("policy", "record", "--seconds", 3, "--out", recorded)
    assert asking.answers
    lines = recorded.read_text().splitlines()
    assert lines[0] == "unix_ms,model,requests_per_s,service_ms"
    points = [line.split(",") for line in lines[1:]]
    assert points and all(len(point) == 4 and abs(int(point[0]) / 1000 - time.time()) < 60 for point in points)
    assert any(point[1].startswith("hot") and float(point[2]) > 10 and float(point[3]) > 0 for point in points)
    machine.cli("policy", "record", "--past", "--seconds", 60, "--out", tmp_path / "past.csv")
    assert len((tmp_path / "past.csv").read_text().splitlines()) >= len(lines)
    result = machine.cli("simulate", recorded, "--policy", "latency_first", "--slo-ms", 50, "--json").json
    assert result["policy"] == "latency_first" and result["hours"] > 0 and result["models"][0]["requests"] > 0


def test_the_simulator_takes_the_training_share_of_the_settings(shared, tmp_path):
    load, rules = tmp_path / "load.csv", tmp_path / "rules.yaml"
    load.write_text("unix_ms,model,requests_per_s,service_ms\n0,fashion,20,2\n3600000,fashion,20,2\n")

    def hours(settings):
        rules.write_text(settings)
        return shared.cli("simulate", load, "--policy", "latency_first", "--settings", rules, "--cpus", 2, "--jobs", 2,
                          "--json").json["training_cpu_hours"]

    assert hours("automatic: false\ntraining_share: 50%\n") < 1.01 < 1.8 < hours("min_training: 10%\n")


def test_the_simulator_warns_of_targets_without_load(shared, tmp_path):
    load, rules = tmp_path / "load.csv", tmp_path / "rules.yaml"
    load.write_text("unix_ms,model,requests_per_s,service_ms\n0,fashion,20,2\n60000,fashion,20,2\n")
    rules.write_text("slo_ms: {fashion: 5, speech: 100}\n")
    result = shared.cli("simulate", load, "--settings", rules, "--cpus", 2, "--json")
    assert [model["model"] for model in result.json["models"]] == ["fashion"]
    assert result.err == f"warning: {rules}: slo_ms names model 'speech', which the load does not have\n"
    rules.write_text("slo_ms: {fashon: 5}\n")
    assert "'fashon', which the load does not have; did you mean 'fashion'?" in shared.cli("simulate", load, "--settings", rules, "--cpus", 2).err


def test_the_simulator_compares_a_policy_with_the_best_fixed_split(shared, tmp_path):
    load, rules = tmp_path / "load.csv", tmp_path / "rules.yaml"
    points = [f"{second * 1000},fashion,{200 if 600 < second < 900 else 20},2" for second in range(0, 3600, 5)]
    load.write_text("\n".join(["unix_ms,model,requests_per_s,service_ms", *points]) + "\n")
    rules.write_text("training: {cpu: 30%}\n")
    for chosen in ("latency_first", "windows", "static_split"):
        result = shared.cli("simulate", load, "--policy", chosen, "--settings", rules, "--cpus", 2, "--slo-ms", 10, "--json").json
        assert result["policy"] == chosen and 0.99 < result["hours"] <= 1.01
        assert 0 <= result["attainment"] <= 1 and 0 < result["training_cpu_hours"] < 2 and 0 < result["training_fraction"] <= 1
        assert set(result["best_static"]) == {"training_share", "attainment", "training_cpu_hours"} and result["regret"] <= 1
        assert [m["model"] for m in result["models"]] == ["fashion"] and result["models"][0]["requests"] > 50_000 and result["models"][0]["p99_ms"] >= 2
    assert shared.cli("simulate", load, "--policy", "static_split", "--cpus", 2, "--json").json == \
        shared.cli("simulate", load, "--policy", "static_split", "--cpus", 2, "--json").json, "the same every time"
