"""perf_analyzer, the protocol's own load generator: where it is, and one measurement with it."""

import csv
import os
import pathlib
import shutil
import subprocess
import tempfile


def find():
    """(program, environment), or None with the reason in words."""
    home = pathlib.Path(os.environ.get("TANDEM_TOOLS", pathlib.Path.home() / ".cache/tandem/tools")) / "perf_analyzer"
    program = shutil.which("perf_analyzer") or home / "perf_analyzer"
    if not pathlib.Path(program).exists():
        return None, "perf_analyzer is missing; scripts/setup --test installs it"
    libraries = f"{home}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    return str(program), dict(os.environ, LD_LIBRARY_PATH=libraries)


def measure(url, model, wire="http", concurrency=1, shape=None, milliseconds=2000, shared_memory=False, options=()):
    """{"rate", "p50_us", "p99_us"}. `shape`: "NAME:1,28,28" where a dimension of the model is open."""
    program, environment = find()
    if program is None:
        raise SystemExit(f"error: {environment}")
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder, "report.csv")
        command = [program, "-m", model, "-u", url, "-i", wire, "--concurrency-range", str(concurrency), "-f", report,
                   "--measurement-interval", str(milliseconds), "--percentile", "99", "--stability-percentage", "999", *options]
        if shape:
            command += ["--shape", shape]
        if shared_memory:
            command += ["--shared-memory", "system", "--output-shared-memory-size", str(32 << 20)]
        done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=300)
        if done.returncode != 0 or not report.exists():
            raise RuntimeError(f"perf_analyzer on {url}: {(done.stderr or done.stdout)[-2000:]}")
        row = next(csv.DictReader(report.open()))
    return {"rate": float(row["Inferences/Second"]), "p50_us": float(row["p50 latency"]), "p99_us": float(row["p99 latency"])}
