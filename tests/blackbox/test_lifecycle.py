"""Start, stop, and what other processes are told."""

import concurrent.futures
import fcntl
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import time

import onnx_files as onnx
from conftest import BIN, wait_for
from rogue_trainer import rogue_runs, rogue_server
from sharing_tools import busy_database


def test_the_ready_file_names_the_ports_and_the_pid(server):
    assert server.ready["pid"] == server.process.pid
    assert server.ready["grpc"].startswith("127.0.0.1:")
    assert server.request("GET", "/v2/health/ready")[0] == 200
    assert server.request("GET", "/metrics")[0] == 200


def test_both_programs_say_the_same_version():
    said = [subprocess.run([BIN / program, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout.split()
            for program in ("tandem", "tandemd")]
    assert [program for program, _ in said] == ["tandem", "tandemd"] and said[0][1] == said[1][1]


def test_a_second_daemon_on_the_same_data_is_refused_with_the_holder(server):
    other = subprocess.run([BIN / "tandemd", "--data", server.folder / "data", "--http", "127.0.0.1:0", "--metrics", "127.0.0.1:0"],
                           capture_output=True, text=True, timeout=30)
    assert other.returncode == 1
    assert f"pid={server.process.pid}" in other.stderr and server.url in other.stderr
    assert "stop it (tandem stop), or give another folder with --data" in other.stderr


def test_a_taken_port_is_refused_with_the_holder(new_server, tmp_path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        result = subprocess.run([BIN / "tandemd", "--data", tmp_path / "data", "--http", f"127.0.0.1:{port}", "--metrics", "127.0.0.1:0"],
                                capture_output=True, text=True, timeout=30)
    assert result.returncode == 1
    assert str(port) in result.stderr and str(os.getpid()) in result.stderr


def test_another_address_is_refused_without_tokens(tmp_path):
    result = subprocess.run([BIN / "tandemd", "--data", tmp_path / "data", "--http", "0.0.0.0:0", "--metrics", "127.0.0.1:0"],
                            capture_output=True, text=True, timeout=30)
    assert result.returncode == 1
    assert "token" in result.stderr


def test_an_unknown_setting_names_the_nearest(tmp_path):
    config = tmp_path / "tandem.yaml"
    config.write_text("http:\n  adress: 127.0.0.1:0\n")
    result = subprocess.run([BIN / "tandemd", "--data", tmp_path / "data", "--config", config], capture_output=True, text=True, timeout=30)
    assert result.returncode == 2
    assert "tandem.yaml:2" in result.stderr and "adress" in result.stderr


def test_sigterm_ends_it_cleanly_and_its_jobs_leave_by_themselves(trained, spec):
    job = trained.cli("train", spec(epochs=100000), "--json").json["job"]
    wait_for("the job runs", lambda: trained.job(job)["progress"]["step"] > 5)
    assert trained.stop() == 0
    trained.start()
    shown = wait_for("the job goes on", lambda: (j := trained.job(job))["state"] == "running" and j)
    assert shown["attempt"] == 2
    # Of one that does not hear it stands there that it goes on from its last checkpoint.
    reasons = [event["reason"] for event in trained.cli("jobs", "explain", job, "--json").json["events"]]
    assert any(re.match(r"stopped with the server at step \d+; goes on from there", reason) for reason in reasons), reasons
    trained.cli("jobs", "cancel", job)
    wait_for("cancelled", lambda: trained.job(job)["state"] == "cancelled")


def test_stop_command_waits_until_the_daemon_is_gone(server):
    server.cli("stop")
    assert server.process.wait(10) == 0
    assert server.cli("status", check=False).code == 3


def test_no_trainer_outlives_a_killed_daemon(trained, spec):
    job = trained.cli("train", spec(epochs=100000), "--json").json["job"]
    pid = wait_for("a trainer", lambda: trained.job(job)["pid"])
    trained.kill()
    wait_for("the trainer leaves", lambda: not pathlib.Path(f"/proc/{pid}/exe").exists())


def test_a_job_goes_on_though_the_former_trainer_still_writes_its_checkpoint(new_server, squares, spec):
    """Without control groups nobody ends it; it leaves by itself, in its own time."""
    server = new_server("--set", "isolation.rung=off").start()
    server.cli("dataset", "add", "squares", squares)
    job = server.cli("train", spec(model={"architecture": "resnet18"}, epochs=None, steps=100000, micro_batch="batch", register=None,
                                   resources={"disk_write": "20MB"}), "--json").json["job"]
    pid = wait_for("steps", lambda: (j := server.job(job))["progress"]["step"] > 0 and j["pid"])
    server.kill()
    server.start()
    shown = wait_for("another trainer computes", lambda: (j := server.job(job))["state"] == "running" and j["pid"] not in (0, pid) and
                     j["progress"]["step"] > 0 and j, timeout=120)
    assert shown["attempt"] == 2, shown
    assert not pathlib.Path(f"/proc/{pid}/exe").exists()


def test_a_trainer_that_waits_for_the_former_one_hears_that_it_is_to_leave(server, squares, spec):
    server.cli("dataset", "add", "squares", squares)
    folder = server.folder / "data" / "checkpoints" / "job-1"
    folder.mkdir()
    with open(folder / "trainer.lock", "w") as former:
        fcntl.flock(former, fcntl.LOCK_EX)
        print(f"pid={os.getpid()}", file=former, flush=True)
        job = server.cli("train", spec(epochs=100000), "--json").json["job"]
        assert job == 1

        def waiting():
            shown = server.job(job)
            return shown["progress"]["phase"] == "waiting for the former trainer" and shown["pid"]

        pid = wait_for("it waits", waiting)
        os.kill(pid, signal.SIGTERM)
        wait_for("its next attempt waits", lambda: waiting() not in (False, 0, pid))
        reasons = [event["reason"] for event in server.cli("jobs", "explain", job, "--json").json["events"]]
        assert any("stopped with the server at step 0" in reason for reason in reasons), reasons
        server.cli("jobs", "cancel", job)
        ended = wait_for("cancelled", lambda: (shown := server.job(job))["state"] == "cancelled" and shown)
    # Of one that does not hear it stands there that it was killed.
    assert ended["reason"].startswith("cancelled at step 0"), ended


def test_those_who_follow_jobs_keep_no_operator_waiting(server, squares, spec):
    server.cli("dataset", "add", "squares", squares)
    first, second = (server.cli("train", spec(epochs=100000), "--json").json["job"] for _ in range(2))
    server.cli("jobs", "pause", first)
    wait_for("paused", lambda: server.job(first)["state"] == "paused")
    wait_for("it says what it waits for", lambda: server.job(second)["reason"])
    change = json.loads(server.request("GET", f"/api/v1/jobs/{second}/watch")[1])["change"]
    watch = f"GET /api/v1/jobs/{second}/watch?change={change}&timeout_s=60 HTTP/1.1\r\nHost: {server.ready['http']}\r\n\r\n"
    host, port = server.ready["http"].split(":")
    followers = [socket.create_connection((host, int(port))) for _ in range(24)]
    try:
        for follower in followers:
            follower.sendall(watch.encode())
        server.cli("gc", "--dry-run")
        assert select.select(followers, [], [], 0)[0] == [], "an answer of the server waited for one of those who follow"
    finally:
        for follower in followers:
            follower.close()


def test_probes_are_answered_while_management_waits_for_the_disk(server, tmp_path):
    (tmp_path / "m.onnx").write_bytes(onnx.identity())
    server.cli("models", "import", "m", tmp_path / "m.onnx")
    server.cli("models", "deploy", "m")
    host, port = server.ready["http"].split(":")

    def waiting():
        """A request that waits for a control thread; None while one is free."""
        connection = socket.create_connection((host, int(port)))
        connection.sendall(f"GET /v2 HTTP/1.1\r\nHost: {server.ready['http']}\r\n\r\n".encode())
        if not select.select([connection], [], [], 0.5)[0]:
            return connection
        connection.close()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        with busy_database(server):
            moves = [pool.submit(server.request, "POST", "/api/v1/models/m/alias", {"alias": "stable", "version": 1}) for _ in range(8)]
            with wait_for("every control thread waits for the disk", waiting) as queued:
                for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/m/ready", "/v2/models/m/versions/1/ready", "/"):
                    assert server.request("GET", path)[0] == 200, path
                assert select.select([queued], [], [], 0)[0] == [], "the control threads were free again"
        assert {move.result()[0] for move in moves} <= {200, 503}
    server.assert_well()


def test_who_follows_a_job_of_a_stopping_daemon_waits_as_before(rogue_server, spec):
    server = rogue_server("time.sleep(600)", "--set", "stop_timeout=8s")
    job, _ = rogue_runs(server, spec)
    server.process.terminate()
    wait_for("it stops", lambda: "tandemd stops" in server.log_text())
    change = json.loads(server.request("GET", f"/api/v1/jobs/{job}/watch")[1])["change"]
    begun = time.monotonic()
    status, body = server.request("GET", f"/api/v1/jobs/{job}/watch?change={change}&timeout_s=2")
    assert status == 200 and json.loads(body)["change"] == change
    assert time.monotonic() - begun > 1.9, "it was answered although nothing had changed"
    assert server.process.wait(60) == 0


def test_no_trainer_outlives_a_daemon_that_was_killed_in_the_middle_of_a_pause(new_server, squares, spec):
    server = new_server("--set", "isolation.rung=off").start()
    server.cli("dataset", "add", "squares", squares)
    job = server.cli("train", spec(epochs=100000), "--json").json["job"]
    pid = wait_for("steps", lambda: (j := server.job(job))["progress"]["step"] > 0 and j["pid"])
    os.kill(pid, signal.SIGSTOP)  # as a pause begins
    server.kill()
    server.start()
    wait_for("the trainer leaves", lambda: not pathlib.Path(f"/proc/{pid}/exe").exists())


def test_what_was_there_is_there_after_kill_9(trained, spec):
    before = trained.cli("models", "show", "squares", "--json").json
    jobs = trained.cli("jobs", "list", "--json").json
    trained.kill()
    trained.start()
    after = trained.cli("models", "show", "squares", "--json").json
    assert after["aliases"] == before["aliases"] and after["history"] == before["history"]
    assert [v["sha256"] for v in after["versions"]] == [v["sha256"] for v in before["versions"]]
    assert after["versions"][0]["state"] == "READY"
    assert trained.cli("jobs", "list", "--json").json == jobs


def test_a_paused_job_stands_still_and_goes_on(trained, spec):
    job = trained.cli("train", spec(epochs=100000), "--json").json["job"]
    wait_for("the job runs", lambda: trained.job(job)["progress"]["step"] > 5)
    trained.cli("jobs", "pause", job)
    wait_for("paused", lambda: trained.job(job)["state"] == "paused")
    wait_for("the trainer rests", lambda: trained.job(job)["progress"]["phase"] == "paused")
    step = trained.job(job)["progress"]["step"]
    pid = trained.job(job)["pid"]

    def cpu():
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    used = cpu()
    time.sleep(0.5)  # the measurement itself: no CPU is used while time passes
    assert cpu() - used <= 3
    assert trained.job(job)["progress"]["step"] == step
    trained.cli("jobs", "resume", job)
    wait_for("goes on", lambda: trained.job(job)["progress"]["step"] > step)
    trained.cli("jobs", "cancel", job)
    wait_for("cancelled", lambda: trained.job(job)["state"] == "cancelled")


def test_a_trainer_that_hangs_is_killed_when_its_job_is_cancelled(trained, spec):
    job = trained.cli("train", spec(epochs=100000), "--json").json["job"]
    pid = wait_for("a trainer", lambda: trained.job(job)["progress"]["step"] > 1 and trained.job(job)["pid"])
    os.kill(pid, signal.SIGSTOP)
    trained.cli("jobs", "cancel", job)
    wait_for("cancelled", lambda: trained.job(job)["state"] == "cancelled")
    assert not pathlib.Path(f"/proc/{pid}/exe").exists()


def test_the_log_is_json_on_request(new_server):
    server = new_server("--log-json").start()
    server.stop()
    lines = [json.loads(line) for line in server.log_text().splitlines()]
    assert {"time", "level", "message"} <= lines[0].keys()
    assert any(line["message"] == "tandemd serves" for line in lines)


def test_a_log_file_has_the_requests_with_their_ids(new_server, tmp_path):
    file = tmp_path / "own.log"
    server = new_server("--log-file", str(file)).start()
    server.cli("models", "list")
    assert server.request("PUT", "/api/v1/log-level", {"level": "debug"}, {"X-Request-Id": "level-7"})[0] == 200
    assert server.request("GET", "/api/v1/models/none", None, {"X-Request-Id": "asked-8"})[0] == 404
    server.stop()
    lines = [line for line in file.read_text().splitlines() if "request_id=" in line]
    assert any("request_id=level-7" in line and "code=200" in line for line in lines), lines
    assert any("request_id=asked-8" in line and "code=404" in line and "none" in line for line in lines), lines
    assert "request_id" not in server.log_text(), "nothing of it on stderr"
