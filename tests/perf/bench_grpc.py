#!/usr/bin/env python3
"""The gRPC door against a bare grpc++ callback server that echoes, interleaved, with one client thread.

usage: bench_grpc.py BIN_DIR [--url HOST:PORT --model NAME --input NAME] [--bytes N ...] [--seconds S] [--pairs N] [--json FILE]

Without --url, BIN_DIR/echo_grpc_server is what is measured; with it, a running daemon whose model takes an FP32 tensor
of one dimension. Ratios are of medians; pairs with more than 1 % of stolen CPU time are marked.
"""
import argparse
import contextlib
import json
import statistics
import subprocess
from pathlib import Path

from measure import Window

CONCURRENCIES = (1, 8, 32)


@contextlib.contextmanager
def started(program):
    process = subprocess.Popen([program, "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


def load(options, address, model, size, concurrency):
    command = [options.bin / "grpc_load", address, model, options.input, str(size), str(concurrency), str(options.seconds)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(options, stub, door, size, concurrency):
    sides = {"stub": [], "door": []}
    for pair in range(options.pairs):
        with Window() as window:
            sides["stub"].append(load(options, stub, "echo", size, concurrency))
            sides["door"].append(load(options, door, options.model, size, concurrency))
        if window.steal > 0.01:
            print(f"  pair {pair}: {window.steal:.1%} of the CPU time was stolen")
    medians = {side: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for side, runs in sides.items()}
    ratios = {key: medians["door"][key] / medians["stub"][key] for key in medians["door"]}
    print(f"{size} bytes, concurrency {concurrency}: requests/s {medians['door']['requests_per_s']:.0f} "
          f"({ratios['requests_per_s']:.2f}x), p50 {medians['door']['p50_us']:.0f} us ({ratios['p50_us']:.2f}x), "
          f"p99 {medians['door']['p99_us']:.0f} us ({ratios['p99_us']:.2f}x)")
    return dict(bytes=size, concurrency=concurrency, **medians, ratios=ratios)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", type=Path)
    parser.add_argument("--url")
    parser.add_argument("--model", default="echo")
    parser.add_argument("--input", default="x")
    parser.add_argument("--bytes", type=int, nargs="+", default=[4, 1 << 20, 16_000_000])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        stub = stack.enter_context(started(options.bin / "grpc_stub"))
        door = options.url or stack.enter_context(started(options.bin / "echo_grpc_server"))
        found = [compare(options, stub, door, size, concurrency) for size in options.bytes for concurrency in CONCURRENCIES]
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
