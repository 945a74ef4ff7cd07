/** Decoded pixels: RGBA, row after row, alpha not premultiplied. */
export interface Picture {
  width: number;
  height: number;
  data: Uint8Array | Uint8ClampedArray;
}

/** The path of an image file, the bytes of one, or pixels. */
export type Image = string | Uint8Array | ArrayBuffer | Picture;

export interface Result {
  /** The most probable class. */
  label: string;
  index: number;
  /** 0 to 1. */
  probability: number;
  /** One value per label. */
  probabilities: Float32Array;
  /** One value per label. */
  logits: Float32Array;
}

/** The model's inputs and outputs, from model.json. */
export interface Signature {
  input: {
    name: string;
    dtype: "uint8" | "float32";
    layout: "NHWC" | "NCHW";
    shape: (number | string)[];
    range: [number, number] | null;
    default_size?: [height: number, width: number];
  };
  preprocess: {
    color: "RGB" | "L";
    resize: "stretch" | "shorter-side";
    shorter_side_px: number | null;
    interpolation: "nearest" | "bilinear" | "bicubic";
    /** Whether images are turned by their EXIF orientation. */
    exif: "apply" | "ignore";
  };
  normalize: { in_model: boolean; repeat: number; scale: string; mean: number[]; std: number[] };
  outputs: { name: string; dtype: "float32"; shape: (number | string)[] }[];
  labels: string[];
}

/** One output on one kind of golden sample. */
export interface ModelRow {
  kind: string;
  output: string;
  numSamples: number;
  /** The largest error against float64. */
  error: number;
  /** PyTorch's own error. */
  noiseFloor: number;
  /** error / noiseFloor: about 1 is as good as PyTorch. */
  noiseRatio: number;
  rmsRatio: number;
  passed: boolean;
}

/** For a model of lower precision: one output on one kind of golden sample, beside what was recorded when it was built. */
export interface DeviationRow {
  kind: string;
  output: string;
  numSamples: number;
  /** The root-mean-square difference from the recorded outputs; of several batch sizes, the largest. */
  deviation: number;
  /** How far the model is from float64 by its rounding alone. */
  quantizationError: number;
  /** deviation / quantizationError; above the limit fails. */
  deviationRatio: number;
  passed: boolean;
}

/** One reference image: the difference from Pillow's pixels, in levels of 0 to 255. */
export interface CardRow {
  card: string;
  maxLevels: number;
  meanLevels: number;
  passed: boolean;
}

export interface SelfTest {
  passed: boolean;
  model:
    | { passed: boolean; precision: "float32"; noiseRatio: number; limit: number; rows: ModelRow[] }
    | { passed: boolean; precision: string; deviationRatio: number; limit: number; rows: DeviationRow[] };
  decoder: { passed: boolean; rows: CardRow[] };
}

/** The model is missing, or is not the one that model.json names. */
export class ModelError extends Error {}

/** An image that cannot be classified; the message says which one and why. */
export class ImageError extends Error {}

/** The model's outputs are NaN or infinite for an image; the message says for which one. */
export class NoAnswerError extends Error {}

/** An image classifier. */
export class Classifier {
  private constructor();

  /** Check the model's digest and load it. `threads`: number per inference; by default, every core that the process may use. */
  static open(options?: { threads?: number }): Promise<Classifier>;

  readonly title: string;
  /** SHA-256 of the model file. */
  readonly sha256: string;
  readonly signature: Signature;
  readonly labels: string[];

  /** Classify an image. */
  classify(image: Image): Promise<Result>;
  /** Classify several images as one batch; results are in the order of the images. */
  classify(images: Image[]): Promise<Result[]>;

  /** Run the model on a prepared batch, without a copy. Each output has `count × classes` values. */
  run(data: Uint8Array | Float32Array, count: number): Promise<{ logits: Float32Array; probabilities: Float32Array }>;

  /** Run the samples of golden/ and compare. */
  selfTest(): Promise<SelfTest>;

  /** Free the model's memory. */
  close(): Promise<void>;
}
