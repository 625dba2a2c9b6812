"""The main job: train, deploy by itself, serve, swap, roll back."""

import threading
import time

import numpy as np
import tritonclient.http as triton

from conftest import make_images, wait_for


def client_of(server):
    return triton.InferenceServerClient(server.ready["http"])


def infer(client, images, model="squares", version=""):
    batch = (images.astype(np.float32) / 255).reshape(len(images), 1, 16, 16)
    tensor = triton.InferInput("input", batch.shape, "FP32")
    tensor.set_data_from_numpy(batch)
    result = client.infer(model, [tensor], model_version=version)
    return result.as_numpy("logits"), result.get_response()["model_version"]


def test_a_trained_model_serves_what_it_learned(trained):
    images, labels = make_images(64, seed=9)
    logits, version = infer(client_of(trained), images)
    assert version == "1"
    assert (logits.argmax(1) == labels).mean() > 0.95


def test_a_better_version_takes_over_without_a_failed_request(trained, spec):
    images, labels = make_images(8, seed=5)
    stop, failures, answers = threading.Event(), [], []  # (when it was asked, when it was answered, by which version)

    def ask():
        client = client_of(trained)
        while not stop.is_set():
            asked = time.monotonic()
            try:
                version = infer(client, images)[1]
                answers.append((asked, time.monotonic(), version))
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    [t.start() for t in threads]
    cnn = spec("cnn.yaml", model={"architecture": "lenet"}, epochs=4,
               register={"model": "squares", "alias": "champion", "promote_if": {"metric": "loss", "better_than": 100}})
    try:
        end = trained.train(cnn)
        promoted = time.monotonic()
        wait_for("answers to who asks after that", lambda: failures or sum(asked > promoted for asked, _, _ in answers) >= 50)
    finally:
        stop.set()
        [t.join() for t in threads]
    assert end["deploy"] == "promoted", end
    assert not failures, failures[:3]
    assert answers[0][2] == "1" and {version for _, _, version in answers} == {"1", "2"}
    # Once it took over, nobody who asks then gets the old one; what was asked before may be answered late.
    first = min([promoted] + [answered for _, answered, version in answers if version == "2"])
    assert not [answer for answer in answers if answer[0] > first and answer[2] == "1"]


def test_a_worse_version_is_kept_as_challenger(trained, spec):
    worse = spec("worse.yaml", steps=1, epochs=None, optimizer={"name": "sgd", "lr": 1e-6},
                 register={"model": "squares", "alias": "champion", "promote_if": {"metric": "accuracy", "better_than": "champion"}})
    end = trained.train(worse)
    assert end["deploy"] == "kept", end
    model = trained.cli("models", "show", "squares", "--json").json
    assert model["aliases"] == {"champion": 1, "challenger": 2}
    assert "is not better than" in model["versions"][1]["deploy_reason"]
    assert infer(client_of(trained), make_images(1, seed=1)[0])[1] == "1"


def test_a_bound_that_is_no_alias_of_the_model_is_refused(trained, spec):
    def rule(bound, model="squares"):
        return spec("rule.yaml", steps=1, epochs=None, register={"model": model, "promote_if": {"metric": "accuracy", "better_than": bound}})

    for bound, words in (("champoin", "did you mean 'champion'?"), ("zzz", "tandem models show squares")):
        refused = trained.cli("train", rule(bound), check=False)
        assert refused.code == 1 and f"better_than is '{bound}'" in refused.err and words in refused.err, refused.err
    for bound, model in (("challenger", "squares"), ("0.99", "squares"), ("stable", "not-there-yet")):
        assert trained.train(rule(bound, model))["state"] == "succeeded", (bound, model)


def test_a_rollback_restores_the_former_version_and_is_kept_in_the_history(trained, spec):
    assert trained.train(spec("again.yaml", seed=4))["deploy"] == "promoted"
    assert infer(client_of(trained), make_images(1, seed=1)[0])[1] == "2"
    trained.cli("rollback", "squares")
    assert infer(client_of(trained), make_images(1, seed=1)[0])[1] == "1"
    history = trained.cli("models", "show", "squares", "--json").json["history"]
    assert [(m["from"], m["to"]) for m in history if m["alias"] == "champion"] == [(2, 1), (1, 2), (0, 1)]
    assert all(m["who"] and m["when_ms"] > 0 for m in history)


def test_an_exported_version_imports_as_the_same_bytes_and_deploys(trained, tmp_path):
    trained.stop()
    trained.start("--set", "serving.engine=openvino")  # two engines need not agree to the last bit
    trained.cli("models", "export", "squares@champion", "--out", tmp_path / "out.onnx")
    trained.cli("models", "import", "copy", tmp_path / "out.onnx")
    trained.cli("models", "deploy", "copy")
    model = trained.cli("models", "show", "copy", "--json").json
    original = trained.cli("models", "show", "squares", "--json").json
    assert model["versions"][0]["sha256"] == original["versions"][0]["sha256"]
    images = make_images(4, seed=2)[0]
    client = client_of(trained)
    assert np.array_equal(infer(client, images)[0], infer(client, images, model="copy")[0])


def test_training_goes_on_from_a_registered_version(trained, spec):
    end = trained.train(spec("more.yaml", model={"from": "squares@champion"}, epochs=1))
    assert end["state"] == "succeeded" and end["version"] == 2
    assert "squares/1" in trained.job(end["job"])["spec"]


def test_deletion_is_refused_while_an_alias_points_to_the_version(trained):
    result = trained.cli("models", "delete", "squares", check=False)
    assert result.code == 5
    assert "champion" in result.err
