// The page's classifier beside a bare onnxruntime-web call. Evaluated in the page, it gives the figures.
async () => {
  const { Classifier, downloadModel, numThreads, readGolden, readModel } = await import("./classifier.js");
  const { judgeModel } = await import("./parity.js");
  const { shapeOf } = await import("./pixels.js");
  const { takeTurns } = await import("./turns.mjs"); // page.py puts it there
  const ort = await import("./onnxruntime/ort.wasm.min.mjs");

  const model = await readModel();
  const { bytes } = await downloadModel(model.model);
  const app = await Classifier.open(bytes, model.signature, "wasm", numThreads());
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  const run = (data, count) => app.run(data, count);
  const figures = await takeTurns(run, ort, session, shapeOf(model.signature));
  const { noiseRatio } = await judgeModel(readGolden, run);
  return { ...figures, noise_ratio: noiseRatio, backend: app.backend };
};
