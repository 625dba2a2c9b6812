"""What is thrown away and what is kept: garbage collection, deleted jobs; and what is counted meanwhile."""

import pathlib
import re
import urllib.request

import numpy as np
import onnx_files as onnx
import pytest

from conftest import wait_for
from test_engine_choice import measured

LONG = {"epochs": None, "steps": 4000, "checkpoint": {"every_steps": 20}, "register": None}


def files_below(folder):
    """Those that are to stay: what helpers that still run are writing comes and goes."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path for path in files if "run" not in path.parts and ".tmp-" not in path.name}


def started(server, spec, steps=0):
    """An endless job that has done so many steps."""
    job = server.cli("train", spec, "--json").json["job"]
    wait_for(f"{steps} steps", lambda: server.job(job)["progress"]["step"] > steps)
    return job


def test_garbage_collection_takes_what_nothing_refers_to_and_nothing_else(trained, spec, tmp_path):
    extra = tmp_path / "extra.onnx"
    extra.write_bytes(onnx.linear(onnx.tensor("w", [4, 2], [1] * 8)))
    garbage = trained.cli("models", "import", "extra", extra, "--json").json["sha256"]
    trained.cli("models", "delete", "extra")
    kept = trained.cli("models", "show", "squares", "--json").json["versions"][0]["sha256"]
    # Engines that are being measured would write and remove files while they are counted below.
    derived = trained.folder / "data/artifacts/derived" / measured(trained, "squares")["sha256"]
    wait_for("what lost to be removed", lambda: len(list(derived.iterdir())) == 1)
    waiting = started(trained, spec("waiting.yaml", **LONG), steps=20)
    trained.cli("jobs", "release", waiting)
    step = wait_for("it is released", lambda: (job := trained.job(waiting))["state"] == "queued" and job)["progress"]["step"]

    before = files_below(trained.folder)
    said = trained.cli("gc", "--dry-run", "--json").json
    assert said["dry_run"] and said["bytes"] > 0
    assert sorted(before - files_below(trained.folder)) == [], "nothing is removed"
    done = trained.cli("gc", "--json").json
    assert done["removed"] == said["removed"] and done["bytes"] == said["bytes"]
    text = "\n".join(done["removed"])
    assert garbage in text and kept not in text and f"job-{waiting}/" not in text
    gone = {str(path) for path in before - files_below(trained.folder)}
    assert any(garbage in path for path in gone) and not any(kept in path or f"job-{waiting}/" in path for path in gone), gone
    assert trained.cli("jobs", "logs", 1).out, "the log of a job that ended stays"
    assert trained.cli("gc", "--json").json["removed"] == []

    trained.kill()
    trained.start()
    assert trained.cli("models", "export", "squares", "--out", tmp_path / "out.onnx").code == 0
    trained.cli("jobs", "resume", waiting)
    wait_for("it goes on where it was", lambda: trained.job(waiting)["progress"]["step"] > step)
    log = trained.cli("jobs", "logs", waiting).out
    assert int(re.findall(r"going on from a checkpoint\s+step=(\d+)", log)[-1]) >= step > 0, log[-2000:]


def test_a_log_that_comes_in_pieces_keeps_its_characters(trained):
    text = "模" * 200_000  # 600 kB: the pieces of 256 KiB end within one
    (trained.folder / "data/checkpoints/job-1/trainer.log").write_text(text, encoding="utf-8")
    assert trained.cli("jobs", "logs", 1).out == text
    assert trained.cli("jobs", "logs", 1, "--json").json == {"text": text}


def test_a_job_that_goes_on_after_a_crash_begins_at_its_checkpoint(server, squares, spec):
    server.cli("dataset", "add", "squares", squares)
    job = started(server, spec("long.yaml", **LONG), steps=60)
    server.kill()
    server.start()
    # Not its progress, which is kept: only the trainer says where it begins.
    steps = wait_for("it runs again", lambda: re.findall(r"going on from a checkpoint\s+step=(\d+)", server.cli("jobs", "logs", job).out))
    assert len(steps) == 1 and int(steps[0]) >= 40, "every 20 steps; the newest may have been on its way"


def test_a_job_is_deleted_once_it_has_ended_and_its_model_stays(trained, spec):
    running = started(trained, spec("long.yaml", **LONG))
    refused = trained.cli("jobs", "delete", running, check=False)
    assert refused.code == 5 and "running" in refused.err and "cancel" in refused.err, refused.err
    trained.cli("jobs", "cancel", running)
    wait_for("it ended", lambda: trained.job(running)["state"] == "cancelled")
    for job in (running, 1):
        trained.cli("jobs", "delete", job)
        assert trained.cli("jobs", "show", job, check=False).code == 4
        assert not [path for path in files_below(trained.folder) if f"job-{job}" in str(path)]
    assert trained.cli("jobs", "list", "--json").json["jobs"] == []
    assert trained.cli("models", "show", "squares", "--json").json["versions"][0]["source"] == "job 1"


def test_the_metrics_tell_how_a_job_does(server, squares, spec):
    server.cli("dataset", "add", "squares", squares)
    job = started(server, spec("long.yaml", **LONG), steps=60)

    def read():
        with urllib.request.urlopen(f"http://{server.ready['metrics']}/metrics", timeout=10) as answer:
            return dict(re.findall(r"^(\w+(?:\{[^}]*\})?) (\S+)$", answer.read().decode(), re.M))

    shown = read()
    mine = {name.split("{")[0]: float(value) for name, value in shown.items() if f'job="{job}"' in name}
    assert mine["tandem_training_steps_total"] > 60
    assert 0 < mine["tandem_training_loss"] < 5
    assert mine["tandem_training_images_per_second"] > 0 and 0 < mine["tandem_training_step_seconds"] < 10
    assert shown['tandem_jobs{state="running"}'] == "1"
    wait_for("the CPUs' use, of the last second", lambda: 0 < float(read()["nv_cpu_utilization"]) <= 1)
    assert 0 < float(shown["nv_cpu_memory_used_bytes"]) < float(shown["nv_cpu_memory_total_bytes"])
    assert float(shown['tandem_host_cpu_seconds_total{mode="steal"}']) >= 0
    assert server.cli("status", "--json").json["grpc"] == server.ready["grpc"]


def test_a_version_is_served_in_the_precision_that_it_asks_for(server, tmp_path):
    weights = np.linspace(-1, 1, 64 * 2).astype(np.float32)
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.linear(onnx.tensor("w", [64, 2], weights.tolist()), features=64))
    server.cli("models", "import", "m", path)
    assert server.cli("models", "import", "m", path, "--precision", "bf16", "--json").json["precision"] == "bf16"
    refused = server.cli("models", "import", "m", path, "--precision", "f99", check=False)
    assert refused.code != 0 and "precision is 'f99', must be one of f32, bf16, f16" in refused.err
    x = np.linspace(0.1, 3, 64).astype(np.float32)
    answers = {}
    for version in (1, 2):
        server.cli("models", "deploy", f"m/{version}")
        status, body = server.request("POST", f"/v2/models/m/versions/{version}/infer",
                                      {"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": x.tolist()}]})
        assert status == 200, body
        answers[version] = np.array(re.search(rb'"data":\[([^\]]*)\]', body).group(1).split(b","), float)
    exact = x @ weights.reshape(64, 2)
    assert answers[1] == pytest.approx(exact, rel=1e-5)
    assert answers[2] == pytest.approx(exact, rel=3e-2)
    versions = server.cli("models", "show", "m", "--json").json["versions"]
    assert [version["precision"] for version in versions] == ["f32", "bf16"]


def test_a_job_says_in_which_precision_its_version_is_served(trained, spec):
    wrong = trained.cli("train", spec("wrong.yaml", register={"model": "squares", "precision": "f99"}), check=False)
    assert wrong.code != 0 and "register.precision" in wrong.err and "f32, bf16, f16" in wrong.err, wrong.err
    end = trained.train(spec("half.yaml", register={"model": "squares", "alias": "champion", "precision": "bf16"}))
    assert end["deploy"] == "promoted", end
    versions = trained.cli("models", "show", "squares", "--json").json["versions"]
    assert [version["precision"] for version in versions] == ["f32", "bf16"]
    assert versions[1]["state"] == "READY" and versions[1]["engine"], versions[1]


@pytest.mark.parametrize("architecture, batch", [("mlp", 32), ("resnet8", 128), ("resnet18", 64)])
def test_no_job_takes_more_memory_than_was_estimated(server, squares, spec, architecture, batch):
    server.cli("dataset", "add", "squares", squares)
    job = started(server, spec(**LONG | {"model": {"architecture": architecture}, "batch": batch, "checkpoint": None}), steps=1)
    shown = server.job(job)
    status = pathlib.Path(f"/proc/{shown['pid']}/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
    assert peak < shown["memory_bytes"] < 5 * peak
