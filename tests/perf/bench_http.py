#!/usr/bin/env python3
"""The HTTP door against a bare epoll stub that answers the same bytes, interleaved, with wrk -t1.

usage: bench_http.py BIN_DIR [--url http://HOST:PORT] [--model NAME] [--input NAME] [--shape 1,4] [--seconds S] [--pairs N] [--json FILE]

Without --url, BIN_DIR/echo_http_server is what is measured; with it, a running daemon whose model takes
four FP32 values. Ratios are of medians; pairs with more than 1 % of stolen CPU time are marked.
"""
import argparse
import json
import re
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path

CONCURRENCIES = (1, 8, 32)


def infer_request(name, shape, as_json):
    entry = {"name": name, "shape": shape, "datatype": "FP32"}
    if as_json:
        head = json.dumps({"inputs": [dict(entry, data=[0.25, 1, 2, 3])]}).encode()
        return head, {"Content-Type": "application/json"}
    entry["parameters"] = {"binary_data_size": 16}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    return head + struct.pack("<4f", 0.25, 1, 2, 3), headers


def raw_answer(host, port, path, body, headers):
    """The server's answer as bytes, for the stub to repeat."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}:{port}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        data = b""
        while True:
            end = data.find(b"\r\n\r\n")
            if end >= 0:
                length = int(re.search(rb"Content-Length: (\d+)", data[:end]).group(1))
                if len(data) >= end + 4 + length:
                    break
            piece = connection.recv(65536)
            if not piece:
                sys.exit("the server closed the connection")
            data += piece
    if not data.startswith(b"HTTP/1.1 200"):
        sys.exit(f"the server refused: {data!r}")
    return data


def lua_script(body, headers):
    quoted = "".join(f"\\{byte:03d}" for byte in body)
    lines = ['wrk.method = "POST"', f'wrk.body = "{quoted}"']
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    lines.append('done = function(s, l, r) io.write(string.format("p50 %f p99 %f\\n", l:percentile(50), '
                 'l:percentile(99))) end')
    return "\n".join(lines)


def cpu_ticks():
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return sum(fields), fields[7]


def wrk(url, script, connections, seconds):
    total, steal = cpu_ticks()
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, url], check=True,
                         capture_output=True, text=True).stdout
    after_total, after_steal = cpu_ticks()
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(out)
    p50, p99 = re.search(r"p50 ([\d.]+) p99 ([\d.]+)", out).groups()
    return {"rate": float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)), "p50_us": float(p50),
            "p99_us": float(p99), "steal": (after_steal - steal) / max(1, after_total - total)}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            pass
    sys.exit(f"nothing listens on port {port}")


def measure(urls, script, args):
    results = {}
    for connections in CONCURRENCIES:
        runs = {name: [] for name in urls}
        for _ in range(args.pairs):
            for name, url in urls.items():
                runs[name].append(wrk(url, script, connections, args.seconds))
        medians = {name: {key: statistics.median(run[key] for run in list_of) for key in list_of[0]}
                   for name, list_of in runs.items()}
        server, stub = medians["server"], medians["stub"]
        results[connections] = dict(medians, rate_ratio=server["rate"] / stub["rate"],
                                    p50_ratio=server["p50_us"] / stub["p50_us"])
        print(f"c={connections:<3} server {server['rate']:9.0f}/s p50 {server['p50_us']:6.0f} us p99 "
              f"{server['p99_us']:6.0f} us | stub {stub['rate']:9.0f}/s p50 {stub['p50_us']:6.0f} us | "
              f"rate ratio {results[connections]['rate_ratio']:.2f} p50 ratio {results[connections]['p50_ratio']:.2f} | "
              f"steal {max(server['steal'], stub['steal']):.1%}", flush=True)
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin_dir", type=Path)
    parser.add_argument("--url")
    parser.add_argument("--model", default="echo")
    parser.add_argument("--input", default="x", help="its input")
    parser.add_argument("--shape", default="1,4", help="of that input: four elements")
    parser.add_argument("--as-json", action="store_true", help="JSON tensors instead of binary ones")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    children = []
    try:
        if args.url:
            parts = urllib.parse.urlparse(args.url)
            host, port = parts.hostname, parts.port
        else:
            server = subprocess.Popen([args.bin_dir / "echo_http_server", "0"], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
            children.append(server)
            host, port = server.stdout.readline().strip().split(":")
            port = int(port)
        path = f"/v2/models/{args.model}/infer"
        body, headers = infer_request(args.input, [int(dim) for dim in args.shape.split(",")], args.as_json)
        with tempfile.TemporaryDirectory() as folder:
            answer, script = Path(folder, "answer"), Path(folder, "post.lua")
            answer.write_bytes(raw_answer(host, port, path, body, headers))
            script.write_text(lua_script(body, headers))
            stub_port = free_port()
            children.append(subprocess.Popen([args.bin_dir / "stub_server", str(stub_port), answer]))
            wait_for(stub_port)
            urls = {"stub": f"http://127.0.0.1:{stub_port}{path}", "server": f"http://{host}:{port}{path}"}
            results = measure(urls, str(script), args)
    finally:
        for child in children:
            child.kill()
            child.wait()
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
