// The Node.js app beside a bare onnxruntime-node call: `node node_app.mjs FOLDER [--cold]`.

import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const BATCH_SIZES = [1, 32];
const NUM_ROUNDS = 15;
const ROUND_MS = 200;

const [folder] = process.argv.slice(2);
const { Classifier } = await import(pathToFileURL(join(folder, "classifier.js")));
const { sizeOf, channelsOf } = await import(pathToFileURL(join(folder, "pixels.js")));
const app = await Classifier.open();
const { height, width } = sizeOf(app.signature);
const channels = channelsOf(app.signature);
await app.run(new Uint8Array(height * width * channels), 1);
console.log("first");
if (!process.argv.includes("--cold")) await measure();

async function measure() {
  const ort = createRequire(join(folder, "classifier.js"))("onnxruntime-node");
  const session = await ort.InferenceSession.create(join(folder, "model.onnx"));
  const bare = (data, count) => session.run({ image: new ort.Tensor("uint8", data, [count, height, width, channels]) });
  const seconds = {};
  const overBare = {};
  for (const count of BATCH_SIZES) {
    const data = Uint8Array.from({ length: count * height * width * channels }, (_, at) => (at * 2654435761) >>> 24);
    const pairs = [];
    for (let round = 0; round < NUM_ROUNDS; round++) {
      const runs = [(...batch) => app.run(...batch), bare];
      const order = round % 2 ? [1, 0] : [0, 1];
      const pair = [];
      for (const which of order) pair[which] = await secondsPerCall(runs[which], data, count);
      pairs.push(pair);
    }
    seconds[count] = median(pairs.map(([ours]) => ours));
    overBare[count] = median(pairs.map(([ours, bareOne]) => ours / bareOne));
  }
  const { model } = await app.selfTest();
  const figures = { latency_ms: 1e3 * seconds[1], images_per_s: 32 / seconds[32], over_bare: overBare };
  console.log(JSON.stringify({ ...figures, noise_ratio: model.noiseRatio }));
}

async function secondsPerCall(run, data, count) {
  const taken = [];
  const end = performance.now() + ROUND_MS;
  for (let start = performance.now(); start < end; start = performance.now()) {
    await run(data, count);
    taken.push((performance.now() - start) / 1e3);
  }
  return median(taken);
}

function median(values) {
  return [...values].sort((one, other) => one - other)[values.length >> 1];
}
