"""Canary, shadow and approval: which version requests get, as clients and the command line see it."""

import json
import re

import onnx_files as onnx
import pytest
from conftest import wait_for

ASK = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


def scaled(factor):
    """x [N, 4] -> y [N, 4], times `factor`."""
    return onnx.linear(onnx.tensor("w", [4, 4], [factor if i % 5 == 0 else 0 for i in range(16)]), classes=4)


def slow(width=512, layers=8):
    """The same signature, some hundred times the work."""
    sizes = [4] + [width] * layers + [4]
    weights = [onnx.tensor(f"w{i}", [a, b], [0.001] * (a * b)) for i, (a, b) in enumerate(zip(sizes, sizes[1:]))]
    names = ["x"] + [f"h{i}" for i in range(layers)] + ["y"]
    nodes = [onnx.node("MatMul", [names[i], f"w{i}"], [names[i + 1]], name=f"product{i}") for i in range(len(weights))]
    return onnx.model(nodes, [onnx.value("x", ["N", 4])], [onnx.value("y", ["N", 4])], weights)


def bring(server, tmp_path, *files):
    for number, data in enumerate(files, 1):
        path = tmp_path / f"m{number}.onnx"
        path.write_bytes(data)
        server.cli("models", "import", "m", path)
    server.cli("models", "deploy", "m/1")


def answer(server, key, version=None):
    path = "/v2/models/m/infer" if version is None else f"/v2/models/m/versions/{version}/infer"
    status, body = server.request("POST", path, ASK, {"X-Request-Id": key})
    assert status == 200, body
    return int(re.search(rb'"model_version":"(\d+)"', body).group(1))


def show(server):
    return server.cli("models", "show", "m", "--json").json


def test_a_canary_takes_its_part_by_key_and_promote_ends_it(server, tmp_path):
    bring(server, tmp_path, scaled(1), scaled(2))
    server.cli("models", "canary", "m", "2", "--percent", "30")
    first = {key: answer(server, f"key-{key}") for key in range(200)}
    assert {1, 2} == set(first.values()) and 30 <= list(first.values()).count(2) <= 90
    assert first == {key: answer(server, f"key-{key}") for key in range(200)}, "a key stays with its version"
    assert all(answer(server, f"key-{key}", 1) == 1 for key in range(20)), "who names a version gets it"
    server.cli("models", "promote", "m", "2", "--why", "it did well")
    assert {answer(server, f"key-{key}") for key in range(50)} == {2}
    assert "canary" not in show(server).get("split", {})
    server.cli("models", "rollback", "m")
    assert {answer(server, f"key-{key}") for key in range(50)} == {1}


def test_a_lazy_model_is_told_of_and_loaded_by_its_first_request(server, tmp_path):
    bring(server, tmp_path, scaled(1))
    server.cli("models", "configure", "m", "--set", "lazy=true")
    server.stop()
    server.start()

    def entry():
        status, body = server.request("POST", "/v2/repository/index", {})
        assert status == 200, body
        return [(e["version"], e["state"], e.get("reason", "")) for e in json.loads(body) if e["name"] == "m"]

    assert entry() == [("1", "UNAVAILABLE", "lazy: loaded by its first request")]
    status, body = server.request("GET", "/v2/models/m")
    assert status == 200 and json.loads(body)["versions"] == ["1"] and json.loads(body)["inputs"][0]["name"] == "x", body
    assert entry()[0][1] == "UNAVAILABLE", "looking at it does not load it"
    assert answer(server, "first") == 1
    assert entry() == [("1", "READY", "")]


def test_a_canary_that_is_too_slow_is_taken_back_with_the_reason(server, tmp_path):
    bring(server, tmp_path, scaled(1), slow())
    server.cli("models", "configure", "m", "--set", "canary.min_requests=50", "--set", "canary.max_p99_ratio=1.5")
    server.cli("models", "canary", "m", "2", "--percent", "50")
    asked = iter(range(100_000))

    def taken_back():
        for _ in range(50):
            answer(server, f"key-{next(asked)}")
        return [event for event in show(server).get("events", []) if event["who"] == "tandem"]

    event = wait_for("the canary to be taken back", taken_back)[0]
    assert "p99" in str(event), event
    assert {answer(server, f"key-{key}") for key in range(100)} == {1}


def test_a_shadow_is_compared_and_never_answers(server, tmp_path):
    bring(server, tmp_path, scaled(1), scaled(2))
    server.cli("models", "shadow", "m", "2", "--percent", "100")
    assert {answer(server, f"key-{key}") for key in range(40)} == {1}
    compared = wait_for("40 copies", lambda: [shown for shown in [server.cli("models", "show", "m").out] if re.search(r"[1-9]\d* different", shown)])
    assert "shadow 100%" in compared[0]
    server.cli("models", "shadow", "m", "--stop")
    assert "shadow 100%" not in server.cli("models", "show", "m").out.split("history")[0]


def test_champion_moves_only_to_an_approved_version_where_the_model_asks_for_it(server, tmp_path):
    bring(server, tmp_path, scaled(1), scaled(2))
    server.cli("models", "configure", "m", "--set", "approval=true")
    refused = server.cli("models", "promote", "m", "2", check=False)
    assert refused.code != 0 and "tandem models approve m 2" in refused.err
    assert server.cli("models", "approve", "m", "2", check=False).code != 0, "an approval needs a comment"
    server.cli("models", "reject", "m", "2", "--comment", "not yet")
    assert server.cli("models", "promote", "m", "2", check=False).code != 0
    server.cli("models", "approve", "m", "2", "--comment", "checked")
    server.cli("models", "promote", "m", "2")
    assert answer(server, "key") == 2
    assert "checked" in server.cli("models", "show", "m").out


def test_an_imported_version_serves_at_once_where_the_configuration_wants_it(server, tmp_path):
    bring(server, tmp_path, scaled(1))
    server.cli("models", "configure", "m", "--set", "versions=all")
    (tmp_path / "m2.onnx").write_bytes(scaled(2))
    server.cli("models", "import", "m", tmp_path / "m2.onnx")
    wait_for("version 2 is ready", lambda: server.request("GET", "/v2/models/m/versions/2/ready")[0] == 200)
    assert answer(server, "key", 2) == 2
    assert answer(server, "key") == 1, "champion stays"


@pytest.mark.parametrize("command, word", [
    (["canary", "m", "7", "--percent", "10"], "7"), (["canary", "m", "2", "--percent", "101"], "100"),
    (["canary", "m", "1", "--percent", "10"], "champion"), (["shadow", "nothing", "1", "--percent", "10"], "nothing"),
    (["configure", "m", "--set", "max_batch_sise=8"], "max_batch_size"), (["configure", "m", "--set", "pad=true"], "preferred_batch_sizes"),
    (["configure", "m", "--set", "labels.nothing=[a, b]"], "labels names the output 'nothing'"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else value)
def test_what_cannot_be_is_refused_and_changes_nothing(server, tmp_path, command, word):
    bring(server, tmp_path, scaled(1), scaled(2))
    before = show(server)
    refused = server.cli("models", *command, check=False)
    assert refused.code != 0 and word in refused.err, refused.err
    assert show(server)["history"] == before["history"] and show(server).get("config") == before.get("config")
