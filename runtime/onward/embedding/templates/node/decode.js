// Decode: from an image file's bytes to a picture, upright, in the colours that Pillow reads.
//
// sharp's decoders are the ones that Pillow has: pictures are the same to the bit, JPEG included. Where sharp would
// convert colours in a way of its own (CMYK, ICC profiles, alpha), it is told not to.

import sharp from "sharp";

/** Pillow's bound: larger files are refused before they are decoded. */
export const MAX_PIXELS = 89_478_485;
/** As sharp calls them; heif is AVIF. It would read SVG, too, which is no picture until somebody draws it. */
const FORMATS = ["jpeg", "png", "webp", "gif", "tiff", "heif"];
const READABLE = "a JPEG, PNG, WebP, GIF, TIFF or AVIF file";

/** An image that cannot be classified; the message says why. */
export class ImageError extends Error {
  name = "ImageError";
}

/**
 * Decode an image file; of an animation, the first frame.
 * @param {Uint8Array | ArrayBuffer} bytes
 * @returns {Promise<import("./pixels.js").Picture>}
 */
export async function decode(bytes) {
  if (bytes.byteLength === 0) throw new ImageError(`it is empty, expected ${READABLE}`);
  // the bound is ours to check, so that the sentence says by how much
  const file = sharp(bytes, { limitInputPixels: false, failOn: "error", ignoreIcc: true, autoOrient: true });
  const { format, width, height, space } = await readHeader(file);
  if (!FORMATS.includes(format)) throw new ImageError(`it is of the format ${format}, expected ${READABLE}`);
  checkSize(width, height);
  if (space === "cmyk") return fromCmyk(await readPixels(file.pipelineColourspace("cmyk").toColourspace("cmyk")));
  return readPixels(file.toColourspace("srgb").ensureAlpha());
}

/** Refuse what has more pixels than Pillow would decode. */
export function checkSize(width, height) {
  if (width * height <= MAX_PIXELS) return;
  const [found, most] = [width * height, MAX_PIXELS].map((count) => count.toLocaleString("en"));
  throw new ImageError(`it is too large: ${width}×${height} are ${found} pixels, expected at most ${most}`);
}

async function readHeader(file) {
  try {
    return await file.metadata();
  } catch (error) {
    throw new ImageError(`it is no image that can be read, expected ${READABLE} (${error.message})`, { cause: error });
  }
}

async function readPixels(file) {
  try {
    const { data, info } = await file.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, data };
  } catch (error) {
    throw new ImageError(`it is damaged, or not all of it is there (${error.message})`, { cause: error });
  }
}

/** Ink to light, as Pillow's `convert("RGB")`: whatever the profile, black leaves a share of what the colour leaves. */
function fromCmyk({ width, height, data }) {
  for (let at = 0; at < data.length; at += 4) {
    const light = 255 - data[at + 3];
    for (let ink = at; ink < at + 3; ink++) data[ink] = Math.max(0, light - over255(data[ink] * light));
    data[at + 3] = 255;
  }
  return { width, height, data };
}

/** Divide by 255 and round, in whole numbers. */
function over255(product) {
  const rounded = product + 128;
  return ((rounded >> 8) + rounded) >> 8;
}
