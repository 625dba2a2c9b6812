// Speaks to a server with @grpc/grpc-js: node grpc_js.js HOST:PORT PROTO_FOLDER. Prints what it found as JSON.
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [address, protos] = process.argv.slice(2);
const definition = loader.loadSync('inference.proto', {includeDirs: [protos], keepCase: true});
const Service = grpc.loadPackageDefinition(definition).inference.GRPCInferenceService;
const client = new Service(address, grpc.credentials.createInsecure());

function request(model, id) {
  return {
    model_name: model,
    id,
    inputs: [{name: 'x', datatype: 'FP32', shape: [1, 4]}],
    raw_input_contents: [Buffer.from(Float32Array.of(1, 2, 3, 4).buffer)],
  };
}

const call = (method, message) => new Promise((resolve, reject) => {
  client[method](message, (error, answer) => error ? reject(error) : resolve(answer));
});

const codeOf = (promise) => promise.then(() => 0, (error) => error.code);

function stream() {
  return new Promise((resolve, reject) => {
    const seen = [];
    const open = client.ModelStreamInfer();
    open.on('data', (answer) => seen.push(answer.error_message ? 'error' : answer.infer_response.id));
    open.on('error', reject);
    open.on('end', () => resolve(seen.sort()));
    for (const id of ['0', '1', '2']) open.write(request('good', id));
    open.write(request('nope', '3'));
    open.end();
  });
}

function cancelled() {
  return new Promise((resolve) => {
    const open = client.ModelInfer(request('good', 'c'), (error) => resolve(error ? error.code : 0));
    open.cancel();
  });
}

async function main() {
  const bytes = (await call('ModelInfer', request('good', 'a'))).raw_output_contents[0];
  console.log(JSON.stringify({
    live: (await call('ServerLive', {})).live,
    infer: [bytes.readFloatLE(0), bytes.readFloatLE(4)],
    stream: await stream(),
    missing: await codeOf(call('ModelInfer', request('nope', 'b'))),
    cancelled: await cancelled(),
  }));
  client.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
