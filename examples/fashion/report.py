"""Puts the measurements of examples/fashion/run into a table, and into a JSON file for scripts."""

import argparse
import csv
import json
import os
import pathlib
import sys
import time


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")


def read_requests(path):
    with open(path) as file:
        for row in csv.DictReader(file):
            yield {"ms": float(row["unix_ms"]), "latency": float(row["latency_ms"]), "ok": row["ok"] == "1",
                   "correct": row["correct"] == "1", "version": row["version"]}


def phases(requests, train_begin, train_end):
    """Alone: before the training job. Training: while it ran. Swap: from its end on, while the new version is loaded,
    evaluated and takes over."""
    split = {"alone": [], "training": [], "swap": []}
    for request in requests:
        name = "alone" if request["ms"] < train_begin else "training" if request["ms"] < train_end else "swap"
        split[name].append(request["latency"])
    return split


def accuracy(requests, version):
    answered = [r for r in requests if r["ok"] and r["version"] == version]
    return sum(r["correct"] for r in answered) / len(answered) if answered else float("nan")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("train_begin", type=float)
    parser.add_argument("--result", type=pathlib.Path)
    parser.add_argument("--least-accuracy", type=float, default=0, help="of the new version, as the client saw it")
    args = parser.parse_args()
    job = json.loads((args.work / "job.json").read_text())
    model = json.loads((args.work / "model.json").read_text())
    status = json.loads((args.work / "status.json").read_text())
    doctor = {c["name"]: c["detail"] for c in json.loads((args.work / "doctor.json").read_text())["checks"]}
    requests = list(read_requests(args.work / "requests.csv"))
    latency = phases([r for r in requests if r["ok"]], args.train_begin, job["finished_ms"])
    result = {
        "client_accuracy": {"v1": accuracy(requests, "1"), "v2": accuracy(requests, "2")},
        "requests": {"sent": len(requests), "failed": sum(not r["ok"] for r in requests)},
        "p50_ms": {name: quantile(values, 0.5) for name, values in latency.items()},
        "p99_ms": {name: quantile(values, 0.99) for name, values in latency.items()},
        "train_images_per_s": job["metrics"].get("images_per_s"),
        "seconds": {"setup": float(os.environ.get("TANDEM_SETUP_SECONDS", "nan")), "build": float(os.environ.get("TANDEM_BUILD_SECONDS", "nan")),
                    "train": job["metrics"].get("seconds", (job["finished_ms"] - job["started_ms"]) / 1000),
                    "total": time.time() - float(os.environ.get("TANDEM_BEGAN", time.time()))},
        "isolation": status["isolation"],
        "gpu": doctor.get("gpu", ""),
        "deploy": {"outcome": job["deploy"], "reason": job["deploy_reason"]},
        "champion": model["aliases"].get("champion"),
    }
    print_table(result)
    if args.result:
        clean = json.loads(json.dumps(result).replace("NaN", "null"))
        args.result.write_text(json.dumps(clean, indent=2) + "\n")
    if wrong := complaints(result, args.least_accuracy):
        sys.exit("\n" + "\n".join(f"error: {complaint}" for complaint in wrong))


def complaints(result, least_accuracy):
    """What the run promises and did not keep."""
    wrong = []
    if result["requests"]["failed"]:
        wrong.append(f"{result['requests']['failed']} requests failed; none may, while versions change")
    if result["deploy"]["outcome"] != "promoted":
        wrong.append(f"the new version did not take over: {result['deploy']['reason']}")
    elif not result["client_accuracy"]["v2"] >= least_accuracy:
        wrong.append(f"the new version's accuracy, as the client saw it, is {result['client_accuracy']['v2']:.4f}, expected {least_accuracy} or more")
    return wrong


def print_table(result):
    rows = [
        ("accuracy seen by the client, version 1", f"{result['client_accuracy']['v1']:.4f}"),
        ("accuracy seen by the client, version 2", f"{result['client_accuracy']['v2']:.4f}"),
        ("requests sent / failed", f"{result['requests']['sent']} / {result['requests']['failed']}"),
    ]
    for name in ("alone", "training", "swap"):
        rows.append((f"latency {name}, p50 / p99", f"{result['p50_ms'][name]:.2f} / {result['p99_ms'][name]:.2f} ms"))
    rows += [
        ("training speed beside serving", f"{result['train_images_per_s']:.0f} images/s"),
        ("training time", f"{result['seconds']['train']:.0f} s"),
        ("the new version", f"{result['deploy']['outcome']}: {result['deploy']['reason']}"),
        ("isolation", result["isolation"]),
        ("GPU", result["gpu"]),
    ]
    for name, key in (("set-up", "setup"), ("build", "build"), ("all", "total")):
        seconds = result["seconds"][key]
        if seconds == seconds and seconds > 0:
            rows.append((f"wall time, {name}", f"{seconds:.0f} s"))
    width = max(len(name) for name, _ in rows)
    print()
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")


main()
