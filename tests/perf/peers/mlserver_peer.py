"""MLServer: its runtime's class with the model in the server's process, as one copy is faster than its pool on few cores."""

import json

from peer import ONNXRUNTIME, Peer, model_function, v2_request


def make_runtime():
    """What model-settings.json names, made in MLServer's own environment."""
    import numpy
    from mlserver import MLModel
    from mlserver.codecs import NumpyCodec
    from mlserver.types import InferenceResponse

    class Runtime(MLModel):
        async def load(self):
            self.run = model_function(self.settings.parameters.uri)
            return True

        async def predict(self, payload):
            given = payload.inputs[0]
            array = NumpyCodec.decode_input(given).astype(numpy.float32, copy=False)
            output = NumpyCodec.encode_output(self.settings.parameters.extra["output"], self.run(array))
            return InferenceResponse(model_name=self.name, outputs=[output])

    return Runtime


class MLServer(Peer):
    name, packages = "mlserver", ("mlserver==1.7.1", ONNXRUNTIME)
    clients = ("wrk own", "h2load grpc")  # binary tensors over HTTP fail there with 500
    ready_path = "/v2/health/ready"

    def prepare(self):
        (self.folder / "runtime.py").write_text("from mlserver_peer import make_runtime\nRuntime = make_runtime()\n")
        (self.folder / "settings.json").write_text(json.dumps({
            "host": "127.0.0.1", "http_port": self.port, "grpc_port": self.grpc_port, "metrics_endpoint": None, "parallel_workers": 0,
            "debug": False}))
        (self.folder / "model-settings.json").write_text(json.dumps({
            "name": self.model.name, "implementation": "runtime.Runtime",
            "parameters": {"uri": str(self.model.file), "extra": {"output": self.model.output}}}))
        return [self.home / "bin/mlserver", "start", self.folder]

    def request(self):
        return v2_request(self.model, binary=False)
