// Classifier: the model beside this file, from images to labels.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { InferenceSession, Tensor } from "onnxruntime-node";

import { ImageError, checkSize, decode } from "./decode.js";
import { ModelError, readModel } from "./model.js";
import { judgeDecoder, judgeModel } from "./parity.js";
import { shapeOf, toPixels, toTensor } from "./pixels.js";

export { ImageError, ModelError };

const HERE = fileURLToPath(new URL(".", import.meta.url));
const ARRAYS = { uint8: Uint8Array, float32: Float32Array };

/**
 * An image classifier. `Classifier.open()` makes one; one is enough for a process.
 *
 * A model runs on the thread that asks: nothing else happens there meanwhile. A server with other things to do gives it
 * a worker thread.
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
   * Check the model's digest, and load it.
   * @param {object} [options]
   * @param {number} [options.threads] For one run of the model; by default onnxruntime takes all cores.
   * @returns {Promise<Classifier>}
   * @throws {ModelError} A file is missing, or is not the one that model.json names.
   */
  static async open({ threads } = {}) {
    if (threads !== undefined && !(Number.isInteger(threads) && threads > 0)) {
      throw new RangeError(`threads is ${threads}, expected a whole number of at least 1.`);
    }
    const model = await readModel(HERE);
    const session = await InferenceSession.create(model.path, threads ? { intraOpNumThreads: threads } : {});
    return new Classifier(model, session);
  }

  /**
   * Classify an image, or several as one batch.
   * @param {Image | Image[]} images Each one the path of a file, a file's bytes, or an RGBA picture
   *   `{width, height, data}`.
   * @returns {Promise<Result | Result[]>} Of an array, one result for each image, in its order.
   * @throws {ImageError} One cannot be read; the message says which one and why.
   */
  async classify(images) {
    if (!Array.isArray(images)) return (await this.classify([images]))[0];
    if (images.length === 0) return [];
    const prepared = await Promise.all(images.map((image, at) => this.#prepare(image, at)));
    const { length } = prepared[0];
    const batch = new Uint8Array(images.length * length);
    prepared.forEach((pixels, at) => batch.set(pixels, at * length));
    const outputs = await this.run(toTensor(batch, this.signature), images.length);
    return images.map((_, at) => this.#result(outputs, at));
  }

  /**
   * Run the model on a batch that is ready; nothing is copied.
   * @param {Uint8Array | Float32Array} data As the signature says: raw pixels, `count × height × width × channels`, or,
   *   where the model does not normalise, `count × channels × height × width`.
   * @param {number} count How many images.
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
   * Replay the samples of golden/ here: the model against float64, in PyTorch's own error; the decoder against Pillow.
   * @returns {Promise<SelfTest>}
   */
  async selfTest() {
    const model = await judgeModel(readGolden, (data, count) => this.run(data, count));
    const decoder = await judgeDecoder(readGolden, decode, this.signature);
    return { passed: model.passed && decoder.passed, model, decoder };
  }

  /** Give the model's memory back. */
  async close() {
    await this.#session.release();
  }

  /** One image's pixels as the model takes them. */
  async #prepare(image, at) {
    try {
      return toPixels(await pictureOf(image), this.signature);
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      const name = typeof image === "string" ? image : `image ${at}`;
      throw new ImageError(`${name}: ${error.message}.`, { cause: error });
    }
  }

  #result(outputs, at) {
    const [logits, probabilities] = [outputs.logits, outputs.probabilities].map((output) =>
      output.subarray(at * this.labels.length, (at + 1) * this.labels.length),
    );
    const index = probabilities.reduce((best, value, other) => (value > probabilities[best] ? other : best), 0);
    return { label: this.labels[index], index, probability: probabilities[index], probabilities, logits };
  }
}

function checkBatch(data, dtype, dims) {
  const length = dims.reduce((product, side) => product * side);
  if (data instanceof ARRAYS[dtype] && data.length === length && length > 0) return;
  const found = `${data?.constructor?.name ?? typeof data} of ${data?.length} values`;
  const expected = `${ARRAYS[dtype].name} of ${dims.join(" × ")} = ${length}`;
  throw new TypeError(`a batch is a ${found}, expected a ${expected}, at least one image.`);
}

async function pictureOf(image) {
  if (typeof image === "string") return decode(await readImage(image));
  if (image instanceof Uint8Array || image instanceof ArrayBuffer) return decode(image);
  checkPicture(image);
  return image;
}

function checkPicture(image) {
  const { width, height, data } = image ?? {};
  const isBytes = data instanceof Uint8Array || data instanceof Uint8ClampedArray;
  if (isBytes && width > 0 && height > 0 && data.length === 4 * width * height) return checkSize(width, height);
  throw new ImageError("it is no image; expected a path, a file's bytes, or {width, height, data}, 4 bytes a pixel");
}

async function readImage(path) {
  try {
    return await readFile(path);
  } catch (error) {
    throw new ImageError(`it cannot be read (${error.code ?? error.message})`, { cause: error });
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
