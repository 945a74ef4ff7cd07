// Decode: reads an image file as the same pixels as Pillow.
//
// sharp has the same decoders as Pillow, so pixels are bit-identical, JPEG included. Its own conversions of CMYK, ICC
// profiles and alpha are switched off.

import sharp from "sharp";

/** Pillow's limit: larger files are refused before they are decoded. */
export const MAX_PIXELS = 89_478_485;
/** sharp's names; heif is AVIF. SVG is left out: it is not a raster image. */
const FORMATS = ["jpeg", "png", "webp", "gif", "tiff", "heif"];
/** libvips' names of unsigned integers of 8 and 16 bits, whose black and white are their lowest and highest value. */
const DEPTHS = ["uchar", "ushort"];
const READABLE = "a JPEG, PNG, WebP, GIF, TIFF or AVIF file";

/** An image that cannot be classified; the message says why. */
export class ImageError extends Error {
  name = "ImageError";
}

/**
 * Decode an image file; of an animation, the first frame.
 * @param {Uint8Array | ArrayBuffer} bytes
 * @param {{exif?: "apply" | "ignore"}} [preprocess] The signature's: whether the EXIF orientation is applied.
 * @returns {Promise<import("./pixels.js").Picture>}
 */
export async function decode(bytes, { exif = "ignore" } = {}) {
  if (bytes.byteLength === 0) throw new ImageError(`the file is empty, expected ${READABLE}`);
  // checkSize enforces the limit, with an error that gives the sizes
  const file = sharp(bytes, { limitInputPixels: false, failOn: "error", ignoreIcc: true });
  const { format, width, height, space, depth } = await readHeader(file);
  if (!FORMATS.includes(format)) throw new ImageError(`the format is ${format}, expected ${READABLE}`);
  checkSize(width, height);
  if (!DEPTHS.includes(depth)) {
    throw new ImageError(
      "its values are floating-point, signed or 32-bit numbers, which have no stated black and white: " +
        "convert it to 8 or 16 bits",
    );
  }
  if (exif === "apply" || format === "tiff") file.autoOrient(); // Pillow turns every TIFF
  if (space === "cmyk") return fromCmyk(await readInks(file.pipelineColourspace("cmyk").toColourspace("cmyk"), depth));
  return readPixels(file.toColourspace("srgb").ensureAlpha());
}

/** Refuse images with more pixels than Pillow decodes. */
export function checkSize(width, height) {
  if (width * height <= MAX_PIXELS) return;
  const [found, most] = [width * height, MAX_PIXELS].map((count) => count.toLocaleString("en"));
  throw new ImageError(`too large: ${width}×${height} are ${found} pixels, expected at most ${most}`);
}

async function readHeader(file) {
  try {
    return await file.metadata();
  } catch (error) {
    throw new ImageError(`not a readable image, expected ${READABLE} (${error.message})`, { cause: error });
  }
}

async function readPixels(file, depth = "uchar") {
  try {
    const { data, info } = await file.raw({ depth }).toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, data };
  } catch (error) {
    throw new ImageError(`the file is damaged or truncated (${error.message})`, { cause: error });
  }
}

/** The inks of a CMYK picture, the higher 8 of 16 bits: sharp would clip at 255. */
async function readInks(file, depth) {
  const picture = await readPixels(file, depth);
  if (depth === "uchar") return picture;
  const { buffer, byteOffset, byteLength } = Uint8Array.from(picture.data); // aligned, for whole numbers of 16 bits
  return { ...picture, data: Uint8Array.from(new Uint16Array(buffer, byteOffset, byteLength / 2), (ink) => ink >> 8) };
}

/** CMYK to RGB as Pillow's `convert("RGB")`, without a colour profile. */
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
