// Speaks to a server with @grpc/grpc-js: node grpc_js.js HOST:PORT PROTO_FOLDER. Prints what it found as JSON.
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [address, protos] = process.argv.slice(2);
const definition = loader.loadSync(['inference.proto', 'health.proto'], {includeDirs: [protos], keepCase: true, enums: String});
const {inference, grpc: {health}} = grpc.loadPackageDefinition(definition);
const credentials = grpc.credentials.createInsecure();
const client = new inference.GRPCInferenceService(address, credentials);
const healthClient = new health.v1.Health(address, credentials);

function request(model, id, input = 'x') {
  return {
    model_name: model,
    id,
    inputs: [{name: input, datatype: 'FP32', shape: [1, 4]}],
    raw_input_contents: [Buffer.from(Float32Array.of(1, 2, 3, 4).buffer)],
  };
}

const floats = (answer) => {
  const bytes = answer.raw_output_contents[0];
  return [bytes.readFloatLE(0), bytes.readFloatLE(4)];
};

// Every call has a deadline, so that a server that does not answer is an error here and not a test that hangs.
const deadline = () => ({deadline: Date.now() + 60_000});

const call = (method, message, from = client) => new Promise((resolve, reject) => {
  from[method](message, deadline(), (error, answer) => error ? reject(error) : resolve(answer));
});

const refusal = (promise) => promise.then(
    () => 'answered', (error) => ({code: grpc.status[error.code], details: error.details}));

// One stream on which `requests` are sent; what came of each by its id, and how the stream ended.
function stream(requests, metadata = new grpc.Metadata()) {
  return new Promise((resolve) => {
    const answers = {};
    let failures = 0;
    const open = client.ModelStreamInfer(metadata, deadline());
    open.on('data', (answer) => {
      if (answer.error_message) ++failures;
      else answers[answer.infer_response.id] = floats(answer.infer_response);
    });
    open.on('error', () => {});  // The status below says it.
    open.on('status', (status) => resolve({answers, failures, end: grpc.status[status.code]}));
    requests.forEach((one) => open.write(one));
    open.end();
  });
}

// The states that the health service tells a client that goes on watching, up to the first.
function watched() {
  return new Promise((resolve, reject) => {
    const open = healthClient.Watch({service: ''}, deadline());
    open.on('data', (answer) => {
      resolve(answer.status);
      open.cancel();
    });
    open.on('error', reject);  // Also the cancellation, after the answer, which then changes nothing.
  });
}

// The call is cancelled before it is sent, or while the server has it.
function cancelled() {
  return new Promise((resolve) => {
    const open = client.ModelInfer(request('good', 'c'), (error) => resolve(error ? grpc.status[error.code] : 'answered'));
    open.cancel();
  });
}

async function main() {
  const statusWanted = new grpc.Metadata();
  statusWanted.set('triton_grpc_error', 'true');
  const described = await call('ModelMetadata', {name: 'good'});
  console.log(JSON.stringify({
    live: (await call('ServerLive', {})).live,
    health: (await call('Check', {service: 'inference.GRPCInferenceService'}, healthClient)).status,
    watch: await watched(),
    unknown_service: (await refusal(call('Check', {service: 'nonsense'}, healthClient))).code,
    metadata: [...described.inputs, ...described.outputs].map(({name, datatype, shape}) => [name, datatype, shape.map(Number)]),
    infer: floats(await call('ModelInfer', request('good', 'a'))),
    stream: await stream([request('good', '0'), request('nope', '1'), request('good', '2')]),
    stream_with_status: await stream([request('nope', '0')], statusWanted),
    missing: await refusal(call('ModelInfer', request('nope', 'b'))),
    wrong_input: await refusal(call('ModelInfer', request('good', 'd', 'z'))),
    cancelled: await cancelled(),
    after: floats(await call('ModelInfer', request('good', 'e'))),
  }));
  client.close();
  healthClient.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
