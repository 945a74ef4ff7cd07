// Classifier: opens the model with onnxruntime-web and runs it, on WebAssembly or WebGPU.
//
// It knows nothing about the page.

import { channelsOf, shapeOf, sizeOf, toPixels, toTensor } from "./pixels.js";

/** The module of each provider, loaded only when it is used. */
const RUNTIMES = { wasm: "./onnxruntime/ort.wasm.min.mjs", webgpu: "./onnxruntime/ort.webgpu.min.mjs" };
const RUNTIME_FOLDER = new URL("./onnxruntime/", import.meta.url).href;
/** More threads than this make small models slower. */
const MAX_THREADS = 4;
/** The smallest WebAssembly module with a SIMD instruction. Source: wasm-feature-detect. */
const SIMD_MODULE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

/** The model cannot be opened or run; the message is shown to the user. */
export class ModelError extends Error {}

/** The model's outputs are NaN or infinite: there is no answer. */
export class NoAnswerError extends Error {}

/** The content of model.json. */
export async function readModel() {
  try {
    return await (await fetchFile("model.json")).json();
  } catch (error) {
    throw error instanceof ModelError ? error : new ModelError(`model.json cannot be read: ${error.message}.`);
  }
}

/** The content of a file of golden/. */
export async function readGolden(path) {
  return (await fetchFile(`golden/${path}`)).arrayBuffer();
}

/**
 * Download the model and compare its digest with model.json.
 * @param {(share: number) => void} [advance] Called with the downloaded share, 0 to 1.
 * @returns {Promise<{bytes: Uint8Array, isChecked: boolean}>} Not checked if the browser has no SHA-256.
 */
export async function downloadModel({ path, sha256, size_bytes }, advance = () => {}) {
  let found;
  // "reload": a server without ETags may answer that a model of the same second and size has not changed
  for (const cache of ["no-cache", "reload"]) {
    const bytes = await readAll(await fetchFile(path, cache), size_bytes, advance);
    if (!globalThis.crypto?.subtle) return { bytes, isChecked: false };
    found = toHex(await crypto.subtle.digest("SHA-256", bytes));
    if (found === sha256) return { bytes, isChecked: true };
  }
  throw new ModelError(
    `${path} is not the file that this app was made with. Its SHA-256 begins with ${found.slice(0, 12)}, ` +
      `expected ${sha256.slice(0, 12)}. Copy the whole app again, or run \`onward embed\` again.`,
  );
}

/** The reason why WebGPU cannot be used here, or null. */
export async function whyNoWebGPU() {
  if (!(await hasWebGPURuntime())) return "this app was made without it";
  if (!globalThis.isSecureContext) return "it needs HTTPS";
  if (!navigator.gpu) return "this browser has none";
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  return adapter ? null : "no adapter was found";
}

/** The number of threads that WebAssembly may use. */
export function numThreads(asked = null) {
  if (!globalThis.crossOriginIsolated) return 1;
  const most = Math.min(MAX_THREADS, navigator.hardwareConcurrency || 1);
  return asked ? Math.min(asked, most) : most;
}

/** An open model. */
export class Classifier {
  #ort;
  #session;
  /** onnxruntime runs one batch at a time; the next batch waits for this one. */
  #last = Promise.resolve();

  constructor(ort, session, signature, backend) {
    this.#ort = ort;
    this.#session = session;
    this.signature = signature;
    /** A description for the user. */
    this.backend = backend;
  }

  /**
   * Open the model and run it once, because the first run is slow.
   * @param {Uint8Array} bytes The ONNX file.
   * @param {"wasm" | "webgpu"} provider
   * @param {number} threads Number of WebAssembly threads.
   */
  static async open(bytes, signature, provider, threads) {
    checkWebAssembly();
    try {
      const ort = await import(RUNTIMES[provider]);
      ort.env.wasm.wasmPaths = RUNTIME_FOLDER;
      ort.env.wasm.numThreads = threads;
      ort.env.logLevel = "error";
      const session = await ort.InferenceSession.create(bytes, { executionProviders: [provider] });
      const classifier = new Classifier(ort, session, signature, await describe(provider, threads));
      const { height, width } = sizeOf(signature);
      const blank = new Uint8ClampedArray(height * width * channelsOf(signature));
      await classifier.run(toTensor(blank, signature), 1); // a blank image may have no answer
      return classifier;
    } catch (error) {
      throw new ModelError(`The model cannot be opened on ${NAMES[provider]}: ${error.message ?? error}`);
    }
  }

  /**
   * Run one batch.
   * @param {Uint8Array | Float32Array} data The model's input, image after image.
   * @returns {Promise<Record<"logits" | "probabilities", Float32Array>>} count × classes each
   */
  run(data, count) {
    const turn = this.#last.then(() => this.#run(data, count));
    this.#last = turn.catch(() => {});
    return turn;
  }

  /**
   * Classify one image.
   * @param {Uint8ClampedArray} pixels height × width × channels, from `prepare`.
   * @returns {Promise<{probabilities: Float32Array, inference_ms: number}>}
   * @throws {NoAnswerError} The model's outputs are NaN or infinite.
   */
  async classify(pixels) {
    const data = toTensor(pixels, this.signature);
    await this.#last;
    const start = performance.now();
    const { logits, probabilities } = await this.run(data, 1);
    if (![...logits, ...probabilities].every(Number.isFinite)) {
      throw new NoAnswerError("No answer for this picture: the model's outputs are NaN or infinite.");
    }
    return { probabilities, inference_ms: performance.now() - start };
  }

  /** Scale and crop a picture to the model's input. */
  prepare(picture) {
    return toPixels(picture, this.signature);
  }

  async close() {
    await this.#last;
    await this.#session.release();
  }

  async #run(data, count) {
    const { name, dtype } = this.signature.input;
    const tensor = new this.#ort.Tensor(dtype, data, [count, ...shapeOf(this.signature)]);
    const outputs = await this.#session.run({ [name]: tensor });
    return { logits: outputs.logits.data, probabilities: outputs.probabilities.data };
  }
}

const NAMES = { wasm: "WebAssembly", webgpu: "WebGPU" };

function checkWebAssembly() {
  if (typeof WebAssembly === "object" && WebAssembly.validate(SIMD_MODULE)) return;
  throw new ModelError(
    "This browser has no WebAssembly with SIMD, which the model needs. Use Chrome or Edge 91, Firefox 89, " +
      "Safari 16.4 or later. In a newer browser, turn WebAssembly on in its settings.",
  );
}

async function describe(provider, threads) {
  if (provider === "webgpu") {
    const { info } = await navigator.gpu.requestAdapter();
    return `WebGPU (${info.description || [info.vendor, info.architecture].filter(Boolean).join(" ") || "adapter"})`;
  }
  const isolation = globalThis.crossOriginIsolated ? "" : " (page is not cross-origin isolated)";
  return `WebAssembly, SIMD, ${threads} ${threads === 1 ? "thread" : "threads"}${isolation}`;
}

async function hasWebGPURuntime() {
  const response = await fetchFile("onnxruntime/version.json").catch(() => null);
  return Boolean(response && (await response.json()).webgpu);
}

/** "no-cache": ask the server whether it changed, whatever it said about caching, so that no old model answers. */
async function fetchFile(path, cache = "no-cache") {
  const response = await fetch(new URL(path, import.meta.url), { cache }).catch(() => null);
  if (!response) throw new ModelError(`${path} cannot be loaded. Check that the server is running.`);
  if (response.ok) return response;
  throw new ModelError(`${path}: the server answered ${response.status}, expected 200. Copy the whole folder again.`);
}

async function readAll(response, size_bytes, advance) {
  const chunks = [];
  let there = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    there += value.length;
    advance(Math.min(1, there / size_bytes));
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

function toHex(buffer) {
  return Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
