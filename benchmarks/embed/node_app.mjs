// The Node.js app beside a bare onnxruntime-node call: `node node_app.mjs FOLDER [--cold]`.

import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { takeTurns } from "./turns.mjs";

const [folder] = process.argv.slice(2);
const { Classifier } = await import(pathToFileURL(join(folder, "classifier.js")));
const { shapeOf } = await import(pathToFileURL(join(folder, "pixels.js")));
const app = await Classifier.open();
const shape = shapeOf(app.signature);
await app.run(new Uint8Array(shape.reduce((product, side) => product * side)), 1);
console.log("first");
if (!process.argv.includes("--cold")) {
  const ort = createRequire(join(folder, "classifier.js"))("onnxruntime-node");
  const session = await ort.InferenceSession.create(join(folder, "model.onnx"));
  const figures = await takeTurns((...batch) => app.run(...batch), ort, session, shape);
  const { model } = await app.selfTest();
  console.log(JSON.stringify({ ...figures, noise_ratio: model.noiseRatio }));
}
