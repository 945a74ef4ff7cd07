/** Decoded pixels: RGBA, row after row, alpha not multiplied in. */
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
  /** One for each label. */
  probabilities: Float32Array;
  /** One for each label. */
  logits: Float32Array;
}

/** What goes into the model and what comes out, from model.json. */
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
  /** PyTorch's own. */
  noiseFloor: number;
  /** One over the other: about 1 is as good as PyTorch. */
  noiseRatio: number;
  rmsRatio: number;
  passed: boolean;
}

/** One test card, decoded and scaled here, beside Pillow's; in levels of 0 to 255. */
export interface CardRow {
  card: string;
  maxLevels: number;
  meanLevels: number;
  passed: boolean;
}

export interface SelfTest {
  passed: boolean;
  model: { passed: boolean; noiseRatio: number; rows: ModelRow[] };
  decoder: { passed: boolean; rows: CardRow[] };
}

/** The model is not there, or is not the one that model.json was written for. */
export class ModelError extends Error {}

/** An image that cannot be classified; the message says which one and why. */
export class ImageError extends Error {}

/** An image classifier. */
export class Classifier {
  private constructor();

  /** Check the model's digest, and load it. `threads` are for one run of the model; by default, all cores. */
  static open(options?: { threads?: number }): Promise<Classifier>;

  readonly title: string;
  /** Of the model's file. */
  readonly sha256: string;
  readonly signature: Signature;
  readonly labels: string[];

  /** Classify an image. */
  classify(image: Image): Promise<Result>;
  /** Classify several as one batch; results are in the order of the images. */
  classify(images: Image[]): Promise<Result[]>;

  /** Run the model on a batch that is ready, as the signature has it; nothing is copied. `count × classes` come out. */
  run(data: Uint8Array | Float32Array, count: number): Promise<{ logits: Float32Array; probabilities: Float32Array }>;

  /** Replay the samples of golden/ here, and compare. */
  selfTest(): Promise<SelfTest>;

  /** Give the model's memory back. */
  close(): Promise<void>;
}
