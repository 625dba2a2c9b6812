"""BentoML: one worker a core, JSON."""

import json
import os

from peer import CORES, ONNXRUNTIME, Peer, Request, model_function


def make_service():
    """What `bentoml serve` names, made in BentoML's own environment."""
    import bentoml
    import numpy

    @bentoml.service(workers=CORES, traffic={"timeout": 60}, metrics={"enabled": False}, logging={"access": {"enabled": False}})
    class Service:
        def __init__(self):
            self.run = model_function(os.environ["PEER_MODEL"])

        @bentoml.api
        def predict(self, input: numpy.ndarray) -> numpy.ndarray:
            return self.run(input.astype(numpy.float32, copy=False))

    return Service


class BentoML(Peer):
    name, packages = "bentoml", ("bentoml==1.4.39", ONNXRUNTIME)
    clients = ("wrk own",)
    ready_path = "/readyz"

    def prepare(self):
        (self.folder / "service.py").write_text("from bentoml_peer import make_service\nService = make_service()\n")
        return [self.home / "bin/bentoml", "serve", "service:Service", "--host", "127.0.0.1", "--port", self.port]

    def environment(self):
        return {"PEER_MODEL": str(self.model.file), "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(self.folder / "bentoml")}

    def request(self):
        return Request("/predict", json.dumps({"input": self.model.nested()}).encode(), {"Content-Type": "application/json"})
