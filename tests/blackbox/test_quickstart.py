"""The main job as a newcomer runs it, and the result that other people's scripts read."""

import gzip
import json
import os
import pathlib
import struct
import subprocess
import sys
import zlib

import pytest

from conftest import BIN

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "fashion"


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="the package dataset-fashion-mnist is not installed")
def test_a_model_is_trained_while_another_version_answers_and_takes_over(tmp_path):
    result = tmp_path / "result.json"
    done = subprocess.run([EXAMPLE / "run", "--quick", "--result", result], env={**os.environ, "TANDEM_BIN": str(BIN), "TMPDIR": str(tmp_path)},
                          capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    values = json.loads(result.read_text())
    assert values["requests"]["sent"] > 1000 and values["requests"]["failed"] == 0
    assert 0.7 < values["client_accuracy"]["v1"] < values["client_accuracy"]["v2"]
    for name in ("p50_ms", "p99_ms"):
        assert set(values[name]) == {"alone", "training", "swap"} and all(value > 0 for value in values[name].values())
    assert values["train_images_per_s"] > 0 and set(values["seconds"]) == {"setup", "build", "train", "total"}
    assert "requests sent / failed" in done.stdout and "Go on by hand" in done.stdout
    assert not list(tmp_path.glob("tandem-fashion-*")), "nothing is left behind"


def test_a_picture_of_the_data_set_can_be_made_to_ask_about(squares, tmp_path):
    out, number, side = tmp_path / "picture.png", 3, 16
    subprocess.run([sys.executable, EXAMPLE / "picture.py", out, str(number), squares], check=True, timeout=60)
    content = out.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", content[16:24]) == (side, side)
    (length,) = struct.unpack(">I", content[33:37])
    rows = zlib.decompress(content[41:41 + length])  # each begins with its filter
    shown = b"".join(rows[at + 1:at + 1 + side] for at in range(0, len(rows), side + 1))
    images = gzip.decompress((squares / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    assert shown == images[number * side * side:(number + 1) * side * side]
    refused = subprocess.run([sys.executable, EXAMPLE / "picture.py", out, "200", squares], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1 and "images 0 to 199, not 200" in refused.stderr


def report(folder, *arguments, failed=0, deploy="promoted", right=9):
    """Of ten requests to version 2, `right` are right and `failed` are not answered."""
    lines = ["unix_ms,latency_ms,ok,correct,version"]
    lines += [f"{100 + i},1.0,{int(i >= failed)},{int(i < right)},2" for i in range(10)]
    (folder / "requests.csv").write_text("\n".join(lines) + "\n")
    (folder / "job.json").write_text(json.dumps({"finished_ms": 103, "started_ms": 100, "metrics": {"images_per_s": 10.0, "seconds": 1.0},
                                                 "deploy": deploy, "deploy_reason": "as it was measured"}))
    (folder / "model.json").write_text(json.dumps({"aliases": {"champion": 2}}))
    (folder / "status.json").write_text(json.dumps({"isolation": "none"}))
    (folder / "doctor.json").write_text(json.dumps({"checks": []}))
    return subprocess.run([sys.executable, EXAMPLE / "report.py", folder, "101", *arguments], capture_output=True, text=True, timeout=60)


def test_the_run_fails_where_it_did_not_keep_what_it_promises(tmp_path):
    good = report(tmp_path, "--least-accuracy", "0.85")
    assert good.returncode == 0, good.stderr
    for bad, words in ((report(tmp_path, failed=1), "1 requests failed"), (report(tmp_path, deploy="kept"), "did not take over: as it was measured"),
                       (report(tmp_path, "--least-accuracy", "0.92"), "is 0.9000, expected 0.92 or more")):
        assert bad.returncode == 1 and words in bad.stderr, bad.stderr
        assert "requests sent / failed" in bad.stdout, "the table is printed all the same"
