// Pixels: converts a decoded picture of any size to the model's input.
//
// Training reads images with Pillow, so this scales bit for bit as Pillow does: antialiased, in two passes, each rounded
// to whole levels. A browser scales differently, which costs an exported classifier accuracy.

/**
 * A decoded picture.
 * @typedef {{width: number, height: number, data: Uint8Array | Uint8ClampedArray}} Picture RGBA, row after row
 */

/** Pillow's weights are fixed-point numbers with this many fractional bits. */
const PRECISION_BITS = 22;
const ONE = 2 ** PRECISION_BITS;

const FILTERS = {
  bilinear: { support: 1, weigh: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, weigh: (x) => cubic(Math.abs(x)) },
};

/** Number of channels of the model's images: 1 (grey) or 3 (RGB). */
export function channelsOf(signature) {
  return signature.preprocess.color === "L" ? 1 : 3;
}

/** The model's input size, `{height, width}`. */
export function sizeOf(signature) {
  const { layout, shape, default_size } = signature.input;
  const [height, width] = default_size ?? (layout === "NCHW" ? shape.slice(2) : shape.slice(1, 3));
  return { height, width };
}

/** The shape of one image of the model's input: height × width × channels, or channels × height × width. */
export function shapeOf(signature) {
  const { height, width } = sizeOf(signature);
  const channels = channelsOf(signature);
  return signature.input.layout === "NCHW" ? [channels * signature.normalize.repeat, height, width] : [height, width, channels];
}

/**
 * Convert, scale and crop a picture as the signature specifies.
 * @param {Picture} picture
 * @returns {Uint8ClampedArray} height × width × channels, 0 to 255
 */
export function toPixels(picture, signature) {
  const { height, width } = sizeOf(signature);
  const { interpolation, shorter_side_px } = signature.preprocess;
  const channels = channelsOf(signature);
  const { width: pictureWidth, height: pictureHeight } = picture;
  const data = channels === 1 ? toGrey(picture) : withoutAlpha(picture);
  const whole = { width: pictureWidth, height: pictureHeight, channels, data };
  const scaled = shorter_side_px ? withShorterSide(picture, shorter_side_px) : { height, width };
  const left = roundHalfToEven((scaled.width - width) / 2);
  const top = roundHalfToEven((scaled.height - height) / 2);
  const across = windows(pictureWidth, scaled.width, left, width, interpolation);
  const down = windows(pictureHeight, scaled.height, top, height, interpolation);
  // Pillow's order of the passes; in the other order a value may differ by a level
  const downFirst = pictureHeight - scaled.height > Math.max(0, 2 * (pictureWidth - scaled.width));
  if (downFirst) return scaleAcross(scaleDown(whole, down, 0), across, { top: 0, bottom: height }).data;
  const rows = rowsOf(down);
  return scaleDown(scaleAcross(whole, across, rows), down, rows.top).data;
}

/**
 * The model's input: the pixels unchanged, or normalised here if the model does not normalise.
 * @param {Uint8Array | Uint8ClampedArray} pixels count × height × width × channels
 * @returns {Uint8Array | Float32Array} Images of the shape `shapeOf`, one after another.
 */
export function toTensor(pixels, signature) {
  const { height, width } = sizeOf(signature);
  const channels = channelsOf(signature);
  const count = pixels.length / (height * width * channels);
  if (signature.normalize.in_model) return new Uint8Array(pixels.buffer, pixels.byteOffset, pixels.length);
  const { mean, std, repeat } = signature.normalize;
  const area = height * width;
  const data = new Float32Array(count * channels * repeat * area);
  for (let plane = 0; plane < count * channels * repeat; plane++) {
    const channel = plane % (channels * repeat);
    const scale = Math.fround(1 / (255 * std[channel]));
    const shift = Math.fround(-mean[channel] / std[channel]);
    const image = Math.floor(plane / (channels * repeat)) * area * channels;
    for (let at = 0; at < area; at++) {
      const level = pixels[image + at * channels + (channel % channels)];
      data[plane * area + at] = Math.fround(level * scale) + shift;
    }
  }
  return data;
}

/** ITU-R 601 luma in whole numbers, as Pillow's `convert("L")`. */
function toGrey({ width, height, data }) {
  const grey = new Uint8Array(width * height);
  for (let at = 0; at < grey.length; at++) {
    grey[at] = (data[4 * at] * 19595 + data[4 * at + 1] * 38470 + data[4 * at + 2] * 7471 + 0x8000) >> 16;
  }
  return grey;
}

function withoutAlpha({ width, height, data }) {
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
    rgb[to] = data[from];
    rgb[to + 1] = data[from + 1];
    rgb[to + 2] = data[from + 2];
  }
  return rgb;
}

/** The size of a picture after its shorter side is scaled to `shorterSide` pixels. */
function withShorterSide({ width, height }, shorterSide) {
  const shorter = Math.min(width, height);
  return {
    width: Math.floor((shorterSide * width) / shorter),
    height: Math.floor((shorterSide * height) / shorter),
  };
}

/**
 * The input pixels and weights of `count` output pixels from `start` on, when `length` pixels are scaled to `scaled`.
 * Outside the picture there are none, so that it is black there.
 */
function windows(length, scaled, start, count, interpolation) {
  const [from, end] = [Math.max(start, 0), Math.min(start + count, scaled)];
  const nearest = interpolation === "nearest" ? nearestWindows(length, scaled, from, end) : null;
  return Array.from({ length: count }, (_, at) => {
    const position = start + at;
    if (position < from || position >= end) return { first: 0, weights: [] };
    return nearest?.[position - from] ?? filteredWindow(length, scaled, position, FILTERS[interpolation]);
  });
}

function filteredWindow(length, scaled, position, filter) {
  const scale = length / scaled;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  const centre = (position + 0.5) * scale;
  const first = Math.max(0, Math.trunc(centre - support + 0.5));
  const end = Math.min(length, Math.trunc(centre + support + 0.5));
  const inverse = 1 / stretch;
  const weights = [];
  let sum = 0;
  for (let at = first; at < end; at++) {
    weights.push(filter.weigh((at - centre + 0.5) * inverse));
    sum += weights.at(-1);
  }
  return { first, weights: Int32Array.from(weights, (weight) => roundAwayFromZero((weight / sum) * ONE)) };
}

/** The windows from `from` to `end`. Pillow adds up steps from the first pixel on; this repeats its rounding errors. */
function nearestWindows(length, scaled, from, end) {
  const step = length / scaled;
  const kept = [];
  for (let at = 0, position = step * 0.5; at < end; at++, position += step) {
    if (at < from) continue;
    const first = Math.trunc(position);
    kept.push({ first, weights: first < length ? [ONE] : [] });
  }
  return kept;
}

/** Scale the rows that `down` uses. */
function scaleAcross({ width, channels, data }, across, { top, bottom }) {
  const scaled = new Uint8ClampedArray((bottom - top) * across.length * channels);
  let to = 0;
  for (let row = top; row < bottom; row++) {
    for (const { first, weights } of across) {
      for (let channel = 0; channel < channels; channel++) {
        scaled[to++] = weigh(data, (row * width + first) * channels + channel, channels, weights);
      }
    }
  }
  return { width: across.length, height: bottom - top, channels, data: scaled };
}

/** Scale every column; `top` is the index of the first row in `data`. */
function scaleDown({ width, channels, data }, down, top) {
  const stride = width * channels;
  const scaled = new Uint8ClampedArray(down.length * stride);
  let to = 0;
  for (const { first, weights } of down) {
    const from = (first - top) * stride;
    for (let column = 0; column < stride; column++) scaled[to++] = weigh(data, from + column, stride, weights);
  }
  return { width, height: down.length, channels, data: scaled };
}

/** The weighted sum of values `stride` apart, in whole levels. */
function weigh(data, from, stride, weights) {
  let sum = ONE / 2;
  for (let at = 0; at < weights.length; at++, from += stride) sum += data[from] * weights[at];
  return sum >> PRECISION_BITS;
}

/** The first row that a window uses, and the end of the range. */
function rowsOf(down) {
  const used = down.filter(({ weights }) => weights.length > 0);
  return {
    top: Math.min(...used.map(({ first }) => first)),
    bottom: Math.max(...used.map(({ first, weights }) => first + weights.length)),
  };
}

/** Catmull-Rom: a cubic with a = -0.5. */
function cubic(x) {
  if (x < 1) return ((-0.5 + 2) * x - (-0.5 + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

function roundAwayFromZero(x) {
  return Math.trunc(x < 0 ? x - 0.5 : x + 0.5);
}

function roundHalfToEven(x) {
  const below = Math.floor(x);
  const rest = x - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
}
