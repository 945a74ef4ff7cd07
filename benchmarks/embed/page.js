// The page's classifier beside a bare onnxruntime-web call, in the page. Evaluated in it, it gives the figures.
async () => {
  const BATCH_SIZES = [1, 32];
  const NUM_ROUNDS = 15;
  const ROUND_MS = 200;
  const { Classifier, downloadModel, numThreads, readGolden, readModel } = await import("./classifier.js");
  const { judgeModel } = await import("./parity.js");
  const { channelsOf, sizeOf } = await import("./pixels.js");
  const ort = await import("./onnxruntime/ort.wasm.min.mjs");

  const median = (values) => [...values].sort((one, other) => one - other)[values.length >> 1];
  const secondsPerCall = async (run, data, count) => {
    const taken = [];
    const end = performance.now() + ROUND_MS;
    for (let start = performance.now(); start < end; start = performance.now()) {
      await run(data, count);
      taken.push((performance.now() - start) / 1e3);
    }
    return median(taken);
  };

  const model = await readModel();
  const { bytes } = await downloadModel(model.model);
  const app = await Classifier.open(bytes, model.signature, "wasm", numThreads());
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  const { height, width } = sizeOf(model.signature);
  const channels = channelsOf(model.signature);
  const bare = (data, count) => session.run({ image: new ort.Tensor("uint8", data, [count, height, width, channels]) });
  const seconds = {};
  const overBare = {};
  for (const count of BATCH_SIZES) {
    const data = Uint8Array.from({ length: count * height * width * channels }, (_, at) => (at * 2654435761) >>> 24);
    const pairs = [];
    for (let round = 0; round < NUM_ROUNDS; round++) {
      const runs = [(...batch) => app.run(...batch), bare];
      const pair = [];
      for (const which of round % 2 ? [1, 0] : [0, 1]) pair[which] = await secondsPerCall(runs[which], data, count);
      pairs.push(pair);
    }
    seconds[count] = median(pairs.map(([ours]) => ours));
    overBare[count] = median(pairs.map(([ours, other]) => ours / other));
  }
  const { noiseRatio } = await judgeModel(readGolden, (data, count) => app.run(data, count));
  const figures = { latency_ms: 1e3 * seconds[1], images_per_s: 32 / seconds[32], over_bare: overBare };
  return { ...figures, noise_ratio: noiseRatio, backend: app.backend };
};
