// Parity: compares this model, run here, with the mathematical model, in units of PyTorch's own error.
//
// The folder golden/ holds inputs, the model's float64 outputs (the reference), and the error of PyTorch's float32
// outputs (the noise floor). The noise ratio is the error here divided by the noise floor. About 1 means as good as
// PyTorch; above max_noise_ratio in golden.json the model fails. All errors are computed here.
//
// A model of lower precision, such as int8, is further away on purpose. golden/ then holds what it gave when it was built
// (recorded) and its quantisation error. The deviation ratio is the root-mean-square difference here divided by that error;
// above max_deviation_ratio the model fails: this machine computes something else than what was measured.

import { toPixels } from "./pixels.js";

const ARRAYS = { uint8: Uint8Array, float32: Float32Array, float64: Float64Array };
/** Images of one value. Correct models may score high on them, so the limit is relative to the output's scale. */
const CONSTANT = "constant";

/**
 * Run every golden sample, in batches of several sizes, and compare.
 * @param {(path: string) => Promise<ArrayBuffer>} read A file of golden/.
 * @param {(data: Uint8Array | Float32Array, count: number) => Promise<Record<string, Float32Array>>} run The model.
 * @param {(done: number, all: number) => void} [advance] Called after every batch.
 * @returns {Promise<{passed: boolean, precision: string, noiseRatio?: number, deviationRatio?: number, limit: number,
 *   rows: object[]}>} A noise ratio for float32, a deviation ratio for a lower precision, and the largest that passes.
 */
export async function judgeModel(read, run, advance = () => {}) {
  const golden = await readGolden(read);
  const all = golden.batch_sizes.length * Object.values(golden.kinds).reduce((sum, kind) => sum + kind.num_samples, 0);
  let done = 0;
  const rows = [];
  for (const [kind, samples] of Object.entries(golden.kinds)) {
    const input = await readArray(read, samples.input);
    const tallies = await openTallies(read, samples.outputs, golden);
    for (const batchSize of golden.batch_sizes) {
      for (let start = 0; start < samples.num_samples; start += batchSize) {
        const count = Math.min(batchSize, samples.num_samples - start);
        const stride = input.length / samples.num_samples;
        const outputs = await run(input.slice(start * stride, (start + count) * stride), count);
        for (const [output, tally] of Object.entries(tallies)) tally.add(outputs[output], start);
        advance((done += count), all);
      }
      for (const tally of Object.values(tallies)) tally.endPass();
    }
    for (const [output, tally] of Object.entries(tallies)) {
      rows.push({ kind, output, numSamples: samples.num_samples, ...tally.judge(kind) });
    }
  }
  const limit = golden.max_deviation_ratio ?? golden.max_noise_ratio;
  const precision = golden.precision ?? "float32";
  return { passed: rows.every((row) => row.passed), precision, ...worstRatio(rows), limit, rows };
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
async function openTallies(read, outputs, golden) {
  const tallies = {};
  for (const [output, entry] of Object.entries(outputs)) {
    const { shape } = entry.recorded ?? entry.reference;
    const expected = await readArray(read, entry.recorded ?? entry.reference);
    const Tally = entry.recorded ? DeviationTally : ParityTally;
    tallies[output] = new Tally(expected, shape[1], entry, golden);
  }
  return tallies;
}

/** One output of one kind of sample beside the float64 reference. A pass runs every sample once. */
class ParityTally {
  #maxError = 0;
  #isClose = true;
  #squares = 0;
  #count = 0;

  constructor(reference, numClasses, { noise }, golden) {
    Object.assign(this, { reference, numClasses, noise, golden });
  }

  /** Add outputs of the samples from index `start` on. */
  add(candidate, start) {
    const { rtol, atol } = this.golden.assert_close;
    candidate.forEach((value, at) => {
      const expected = this.reference[start * this.numClasses + at];
      const error = Math.abs(value - expected);
      this.#maxError = Math.max(this.#maxError, error); // NaN stays NaN
      this.#isClose &&= error <= atol + rtol * Math.abs(expected);
      this.#squares += error * error;
      this.#count += 1;
    });
  }

  endPass() {}

  /** The verdict. A NaN anywhere fails. */
  judge(kind) {
    const { floor, rms, scale, is_measured } = this.noise;
    const noiseRatio = this.#maxError / floor;
    const isNear = this.#maxError <= this.golden.max_relative_error * scale;
    const isAsGood = is_measured ? noiseRatio <= this.golden.max_noise_ratio : this.#isClose;
    return {
      error: this.#maxError,
      noiseFloor: floor,
      noiseRatio,
      rmsRatio: Math.sqrt(this.#squares / this.#count) / rms,
      passed: kind === CONSTANT ? isNear || (is_measured && isAsGood) : isAsGood,
    };
  }
}

/** One output of one kind of sample, in a lower precision, beside what was recorded when the model was built. */
class DeviationTally {
  #deviation = 0;
  #squares = 0;
  #count = 0;

  constructor(recorded, numClasses, { quantization_error }, golden) {
    Object.assign(this, { recorded, numClasses, quantizationError: quantization_error, golden });
  }

  /** Add outputs of the samples from index `start` on. */
  add(candidate, start) {
    candidate.forEach((value, at) => {
      const difference = value - this.recorded[start * this.numClasses + at];
      this.#squares += difference * difference;
      this.#count += 1;
    });
  }

  /** The batch size that deviates most decides. */
  endPass() {
    this.#deviation = Math.max(this.#deviation, Math.sqrt(this.#squares / this.#count)); // NaN stays NaN
    this.#squares = this.#count = 0;
  }

  /** The verdict. A NaN anywhere fails. */
  judge() {
    const deviationRatio = this.#deviation / this.quantizationError;
    return {
      deviation: this.#deviation,
      quantizationError: this.quantizationError,
      deviationRatio,
      passed: deviationRatio <= this.golden.max_deviation_ratio,
    };
  }
}

/** The ratio of the row that is worst. */
function worstRatio(rows) {
  if ("noiseRatio" in rows[0]) return { noiseRatio: worstOf(rows).noiseRatio };
  return { deviationRatio: Math.max(...rows.map((row) => row.deviationRatio)) }; // NaN stays NaN
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
