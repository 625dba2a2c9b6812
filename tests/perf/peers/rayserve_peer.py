"""Ray Serve: one replica a core, raw bytes."""

import json
import signal
import sys

from peer import CORES, ONNXRUNTIME, Peer, Request, model_function


class RayServe(Peer):
    name, packages = "rayserve", ("ray[serve]==2.60.0", ONNXRUNTIME)
    clients = ("wrk own",)
    ready_path = "/-/healthz"

    def prepare(self):
        return self.own_script(self.model.file, self.port, json.dumps(self.model.shape))

    def environment(self):
        return {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0"}

    def request(self):
        return Request("/", self.model.binary(), {"Content-Type": "application/octet-stream"})


def serve(file, port, shape):
    import numpy
    import ray
    from ray import serve as ray_serve
    from ray._private import services
    from starlette.responses import Response

    shape = json.loads(shape)

    @ray_serve.deployment(num_replicas=CORES, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.1})
    class Onnx:
        def __init__(self):
            self.run = model_function(file)

        async def __call__(self, request):
            array = numpy.frombuffer(await request.body(), numpy.float32).reshape(shape)
            return Response(self.run(array).tobytes(), media_type="application/octet-stream")

    # On loopback it listens there only; it replaces that address by the machine's if it can.
    services.resolve_ip_for_localhost = lambda host: host
    services.get_node_ip_address = lambda *_: "127.0.0.1"
    ray.init(address="local", _node_ip_address="127.0.0.1", include_dashboard=False, num_cpus=CORES, logging_level="warning")
    ray_serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    ray_serve.run(Onnx.bind())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        signal.pause()
    finally:
        ray_serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    serve(*sys.argv[1:])
