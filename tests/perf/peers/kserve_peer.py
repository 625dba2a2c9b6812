"""KServe's SDK: a subclass of its Model, one worker (its default)."""

import sys

from peer import ONNXRUNTIME, Peer, model_function, v2_request


class KServe(Peer):
    name, packages = "kserve", ("kserve==0.21.0", ONNXRUNTIME)
    clients = ("wrk binary", "h2load grpc")
    ready_path = "/v2/health/ready"

    def prepare(self):
        return self.own_script(self.model.file, self.port, self.grpc_port, self.model.name, self.model.output)

    def request(self):
        return v2_request(self.model, binary=True)


def on_loopback():
    """KServe listens on all interfaces and has no setting for it."""
    import uvicorn
    from grpc.aio import _server
    config, add_port = uvicorn.Config.__init__, _server.Server.add_insecure_port
    uvicorn.Config.__init__ = lambda self, app, **settings: config(self, app, **{**settings, "host": "127.0.0.1"})
    _server.Server.add_insecure_port = lambda self, address: add_port(self, address.replace("[::]", "127.0.0.1"))


def serve(file, port, grpc_port, name, output):
    sys.argv = sys.argv[:1]  # KServe reads them
    import logging

    from kserve import InferOutput, InferResponse, Model, ModelServer

    class Onnx(Model):
        def load(self):
            self.run = model_function(file)
            self.ready = True
            return True

        def predict(self, payload, headers=None, response_headers=None):
            array = self.run(payload.inputs[0].as_numpy())
            answer = InferOutput(output, list(array.shape), "FP32")
            answer.set_data_from_numpy(array, binary_data=True)
            return InferResponse(payload.id or "", self.name, [answer])

    on_loopback()
    model = Onnx(name)
    model.load()
    server = ModelServer(http_port=int(port), grpc_port=int(grpc_port), enable_latency_logging=False)
    logging.disable(logging.INFO)  # a line a request
    server.start([model])


if __name__ == "__main__":
    serve(*sys.argv[1:])
