// Classifier: runs the model in this folder, from images to labels.

import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import "./no-telemetry.js"; // before onnxruntime
import { InferenceSession, Tensor } from "onnxruntime-node";

import { ImageError, checkSize, decode } from "./decode.js";
import { ModelError, readModel } from "./model.js";
import { judgeDecoder, judgeModel } from "./parity.js";
import { shapeOf, toPixels, toTensor } from "./pixels.js";

export { ImageError, ModelError };

/** The model's outputs are NaN or infinite for an image; the message says for which one. */
export class NoAnswerError extends Error {
  name = "NoAnswerError";
}

const HERE = fileURLToPath(new URL(".", import.meta.url));
const ARRAYS = { uint8: Uint8Array, float32: Float32Array };

/**
 * An image classifier. Open it with `Classifier.open()`; a process needs only one.
 *
 * The model blocks the thread that calls it. In a server, use a worker thread.
 */
export class Classifier {
  #session;
  #shape;

  /** Use `Classifier.open()`. */
  constructor(model, session) {
    this.title = model.title;
    this.sha256 = model.sha256;
    this.signature = model.signature;
    this.labels = model.signature.labels;
    this.#session = session;
    this.#shape = shapeOf(model.signature);
  }

  /**
   * Check the model's digest and load it.
   * @param {object} [options]
   * @param {number} [options.threads] Number per inference; by default, every core that the process may use.
   * @returns {Promise<Classifier>}
   * @throws {ModelError} A file is missing or is not the one that model.json names.
   */
  static async open({ threads } = {}) {
    if (threads !== undefined && !(Number.isInteger(threads) && threads > 0)) {
      throw new RangeError(`threads is ${threads}, expected a whole number of at least 1.`);
    }
    const model = await readModel(HERE);
    const session = await InferenceSession.create(model.bytes, {
      intraOpNumThreads: threads ?? availableParallelism(), // onnxruntime's own default forgets the limits of a process
      externalData: model.beside,
    });
    return new Classifier(model, session);
  }

  /**
   * Classify one image, or several as one batch.
   * @param {Image | Image[]} images Each is a path, the bytes of a file, or an RGBA picture `{width, height, data}`.
   * @returns {Promise<Result | Result[]>} For an array, one result per image, in the same order.
   * @throws {ImageError} An image cannot be read; the message says which one and why.
   * @throws {NoAnswerError} The model's outputs are NaN or infinite for an image; the message says for which one.
   */
  async classify(images) {
    if (!Array.isArray(images)) return (await this.classify([images]))[0];
    if (images.length === 0) return [];
    const prepared = await Promise.all(images.map((image, at) => this.#prepare(image, at)));
    const { length } = prepared[0];
    const batch = new Uint8Array(images.length * length);
    prepared.forEach((pixels, at) => batch.set(pixels, at * length));
    const outputs = await this.run(toTensor(batch, this.signature), images.length);
    return images.map((image, at) => this.#result(outputs, at, nameOf(image, at)));
  }

  /**
   * Run the model on a prepared batch, without a copy.
   * @param {Uint8Array | Float32Array} data Raw pixels, `count × height × width × channels`; or normalised values,
   *   `count × channels × height × width`, if the model does not normalise.
   * @param {number} count Number of images.
   * @returns {Promise<{logits: Float32Array, probabilities: Float32Array}>} `count × classes` each.
   */
  async run(data, count) {
    const { name, dtype } = this.signature.input;
    const dims = [count, ...this.#shape];
    checkBatch(data, dtype, dims);
    const { logits, probabilities } = await this.#session.run({ [name]: new Tensor(dtype, data, dims) });
    return { logits: logits.data, probabilities: probabilities.data };
  }

  /**
   * Run the samples of golden/: compare the model with float64 and the decoder with Pillow.
   * @returns {Promise<SelfTest>}
   */
  async selfTest() {
    const model = await judgeModel(readGolden, (data, count) => this.run(data, count));
    const decoder = await judgeDecoder(readGolden, decode, this.signature);
    return { passed: model.passed && decoder.passed, model, decoder };
  }

  /** Free the model's memory. */
  async close() {
    await this.#session.release();
  }

  /** The pixels of one image, in the model's size. */
  async #prepare(image, at) {
    try {
      return toPixels(await pictureOf(image, this.signature.preprocess), this.signature);
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      throw new ImageError(`${nameOf(image, at)}: ${error.message}.`, { cause: error });
    }
  }

  #result(outputs, at, name) {
    const [logits, probabilities] = [outputs.logits, outputs.probabilities].map((output) =>
      output.subarray(at * this.labels.length, (at + 1) * this.labels.length),
    );
    if (![...logits, ...probabilities].every(Number.isFinite)) {
      throw new NoAnswerError(`${name}: no answer, because the model's outputs are NaN or infinite.`);
    }
    const index = probabilities.reduce((best, value, other) => (value > probabilities[best] ? other : best), 0);
    return { label: this.labels[index], index, probability: probabilities[index], probabilities, logits };
  }
}

function nameOf(image, at) {
  return typeof image === "string" ? image : `image ${at}`;
}

function checkBatch(data, dtype, dims) {
  const length = dims.reduce((product, side) => product * side);
  if (data instanceof ARRAYS[dtype] && data.length === length && length > 0) return;
  const found = `${data?.constructor?.name ?? typeof data} of ${data?.length} values`;
  const expected = `${ARRAYS[dtype].name} of ${dims.join(" × ")} = ${length}`;
  throw new TypeError(`the batch is a ${found}, expected a ${expected}, with at least one image.`);
}

async function pictureOf(image, preprocess) {
  if (typeof image === "string") return decode(await readImage(image), preprocess);
  if (image instanceof Uint8Array || image instanceof ArrayBuffer) return decode(image, preprocess);
  checkPicture(image);
  return image;
}

function checkPicture(image) {
  const { width, height, data } = image ?? {};
  const isBytes = data instanceof Uint8Array || data instanceof Uint8ClampedArray;
  if (isBytes && width > 0 && height > 0 && data.length === 4 * width * height) return checkSize(width, height);
  throw new ImageError("not an image; expected a path, the bytes of a file, or {width, height, data}, 4 bytes per pixel");
}

async function readImage(path) {
  try {
    return await readFile(path);
  } catch (error) {
    throw new ImageError(`cannot be read (${error.code ?? error.message})`, { cause: error });
  }
}

async function readGolden(path) {
  try {
    return new Uint8Array(await readFile(join(HERE, "golden", path))).buffer;
  } catch (error) {
    throw new ModelError(`golden/${path} cannot be read (${error.code}); the self-test needs it.`, { cause: error });
  }
}

/** @typedef {import("./classifier.d.ts").Image} Image */
/** @typedef {import("./classifier.d.ts").Result} Result */
/** @typedef {import("./classifier.d.ts").SelfTest} SelfTest */
