"""LitServe: one worker a core, JSON."""

import json
import os
import sys

from peer import CORES, ONNXRUNTIME, Peer, Request, model_function

try:
    from litserve import LitAPI
except ImportError:  # not in its own environment
    LitAPI = object


class LitServe(Peer):
    name, packages = "litserve", ("litserve==0.2.19", ONNXRUNTIME)
    clients = ("wrk own",)
    ready_path = "/health"

    def prepare(self):
        return self.own_script(self.port)

    def environment(self):
        return {"PEER_MODEL": str(self.model.file)}

    def request(self):
        return Request("/predict", json.dumps({"input": self.model.nested()}).encode(), {"Content-Type": "application/json"})


class Api(LitAPI):
    def setup(self, device):
        self.run = model_function(os.environ["PEER_MODEL"])

    def decode_request(self, request):
        import numpy
        return numpy.asarray(request["input"], dtype=numpy.float32)

    def predict(self, array):
        return self.run(array)

    def encode_response(self, array):
        return {"output": array.tolist()}


def serve(port):
    import litserve
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=CORES, timeout=60)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    serve(*sys.argv[1:])
