// Parity: compares this model, run here, with the mathematical model, in units of PyTorch's own error.
//
// The folder golden/ holds inputs, the model's float64 outputs (the reference), and the error of PyTorch's float32
// outputs (the noise floor). The noise ratio is the error here divided by the noise floor. About 1 means as good as
// PyTorch; above max_noise_ratio in golden.json the model fails. All errors are computed here.

import { toPixels } from "./pixels.js";

const ARRAYS = { uint8: Uint8Array, float32: Float32Array, float64: Float64Array };
/** Images of one value. Correct models may score high on them, so the limit is relative to the output's scale. */
const CONSTANT = "constant";

/**
 * Run every golden sample, in batches of several sizes, and compare.
 * @param {(path: string) => Promise<ArrayBuffer>} read A file of golden/.
 * @param {(data: Uint8Array | Float32Array, count: number) => Promise<Record<string, Float32Array>>} run The model.
 * @param {(done: number, all: number) => void} [advance] Called after every batch.
 * @returns {Promise<{passed: boolean, noiseRatio: number, rows: object[]}>}
 */
export async function judgeModel(read, run, advance = () => {}) {
  const golden = await readGolden(read);
  const all = golden.batch_sizes.length * Object.values(golden.kinds).reduce((sum, kind) => sum + kind.num_samples, 0);
  let done = 0;
  const rows = [];
  for (const [kind, samples] of Object.entries(golden.kinds)) {
    const input = await readArray(read, samples.input);
    const tallies = await openTallies(read, samples.outputs, golden.assert_close);
    for (const batchSize of golden.batch_sizes) {
      for (let start = 0; start < samples.num_samples; start += batchSize) {
        const count = Math.min(batchSize, samples.num_samples - start);
        const stride = input.length / samples.num_samples;
        const outputs = await run(input.slice(start * stride, (start + count) * stride), count);
        for (const [output, tally] of Object.entries(tallies)) tally.add(outputs[output], start);
        advance((done += count), all);
      }
    }
    for (const [output, tally] of Object.entries(tallies)) rows.push(judge(kind, output, samples, tally, golden));
  }
  return { passed: rows.every((row) => row.passed), noiseRatio: worstOf(rows).noiseRatio, rows };
}

/**
 * Decode the reference images here, and compare with Pillow's pixels. JPEG decoders differ by a few levels.
 * @param {(path: string) => Promise<ArrayBuffer>} read A file of golden/.
 * @param {(bytes: ArrayBuffer, preprocess: object) => Promise<import("./pixels.js").Picture>} decode
 * @returns {Promise<{passed: boolean, rows: {card: string, maxLevels: number, meanLevels: number, passed: boolean}[]}>}
 */
export async function judgeDecoder(read, decode, signature) {
  const golden = await readGolden(read);
  const rows = [];
  for (const card of golden.cards) {
    const pixels = toPixels(await decode(await read(card.path), signature.preprocess), signature);
    const expected = await readArray(read, card.pixels);
    let [most, sum] = [0, 0];
    expected.forEach((level, at) => {
      const levels = Math.abs(pixels[at] - level);
      most = Math.max(most, levels);
      sum += levels;
    });
    const meanLevels = sum / expected.length;
    const passed = most <= card.max_levels && meanLevels <= card.max_mean_levels;
    rows.push({ card: card.path, maxLevels: most, meanLevels, passed });
  }
  return { passed: rows.every((row) => row.passed), rows };
}

async function readGolden(read) {
  return JSON.parse(new TextDecoder().decode(await read("golden.json")));
}

async function readArray(read, { path, dtype }) {
  return new ARRAYS[dtype](await read(path));
}

/** Output name -> its error statistics. */
async function openTallies(read, outputs, assertClose) {
  const tallies = {};
  for (const [output, { reference }] of Object.entries(outputs)) {
    tallies[output] = new Tally(await readArray(read, reference), reference.shape[1], assertClose);
  }
  return tallies;
}

class Tally {
  maxError = 0;
  isClose = true;
  #squares = 0;
  #count = 0;

  constructor(reference, numClasses, { rtol, atol }) {
    Object.assign(this, { reference, numClasses, rtol, atol });
  }

  /** Add outputs of the samples from index `start` on. */
  add(candidate, start) {
    candidate.forEach((value, at) => {
      const expected = this.reference[start * this.numClasses + at];
      const error = Math.abs(value - expected);
      this.maxError = Math.max(this.maxError, error); // NaN stays NaN
      this.isClose &&= error <= this.atol + this.rtol * Math.abs(expected);
      this.#squares += error * error;
      this.#count += 1;
    });
  }

  get rmsError() {
    return Math.sqrt(this.#squares / this.#count);
  }
}

/** The verdict on one output of one kind of sample. A NaN anywhere fails. */
function judge(kind, output, samples, tally, golden) {
  const { floor, rms, scale, is_measured } = samples.outputs[output].noise;
  const noiseRatio = tally.maxError / floor;
  const isNear = tally.maxError <= golden.max_relative_error * scale;
  const isAsGood = is_measured ? noiseRatio <= golden.max_noise_ratio : tally.isClose;
  return {
    kind,
    output,
    numSamples: samples.num_samples,
    error: tally.maxError,
    noiseFloor: floor,
    noiseRatio,
    rmsRatio: tally.rmsError / rms,
    passed: kind === CONSTANT ? isNear || (is_measured && isAsGood) : isAsGood,
  };
}

/** The row with the largest noise ratio: a NaN first, constant images last. */
function worstOf(rows) {
  const isWorse = (one, other) => {
    if (Number.isNaN(one.error) !== Number.isNaN(other.error)) return Number.isNaN(one.error);
    if ((one.kind === CONSTANT) !== (other.kind === CONSTANT)) return other.kind === CONSTANT;
    return one.noiseRatio > other.noiseRatio;
  };
  return rows.reduce((worst, row) => (isWorse(row, worst) ? row : worst));
}
