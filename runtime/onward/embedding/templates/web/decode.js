// Decode: reads an image file as the same pixels as Pillow, as far as the browser allows.
//
// That is: turned by the EXIF orientation only if the model was trained so, the first frame, the higher 8 of 16 bits, no
// colour management, and colours under alpha as stored. A 2D canvas loses colours under alpha, because it premultiplies
// them, so pictures with alpha are read through WebGL.

import { takeOrientation, turn } from "./orientation.js";

/** Pillow's limit. */
export const MAX_PIXELS = 89_478_485;
const BITMAP_OPTIONS = { premultiplyAlpha: "none", colorSpaceConversion: "none" };

/** The file is not a readable picture; the message is shown to the user. */
export class PictureError extends Error {}

/**
 * Decode an image file.
 * @param {Blob | ArrayBuffer} file
 * @param {{exif?: "apply" | "ignore"}} [preprocess] The signature's: whether the EXIF orientation is applied.
 * @returns {Promise<import("./pixels.js").Picture>}
 */
export async function decode(file, { exif = "ignore" } = {}) {
  const blob = new Blob([file]); // without a type: the browser detects it from the content
  if (blob.size === 0) throw new PictureError("The file is empty: it has 0 bytes. Choose another one.");
  checkSize(await readSize(blob));
  const { orientation, parts } = takeOrientation(new Uint8Array(await blob.arrayBuffer()));
  const bitmap = await createImageBitmap(new Blob(parts), BITMAP_OPTIONS).catch(() => {
    throw new PictureError("The picture is damaged: only its beginning can be read. Save it again.");
  });
  try {
    const onCanvas = readByCanvas(bitmap);
    const picture = isOpaque(onCanvas) ? onCanvas : (readByWebGL(bitmap) ?? onCanvas);
    return exif === "apply" ? turn(picture, orientation) : picture;
  } finally {
    bitmap.close();
  }
}

/** Read the size from the header, without decoding. */
async function readSize(blob) {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject }));
    return { width: image.naturalWidth, height: image.naturalHeight };
  } catch {
    throw new PictureError(
      "The browser cannot read this file as a picture. Use PNG, JPEG, WebP, GIF, BMP or, in a recent browser, AVIF.",
    );
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

function checkSize({ width, height }) {
  if (width * height <= MAX_PIXELS) return;
  throw new PictureError(
    `The picture is too large: ${width} × ${height} pixels, expected at most ${MAX_PIXELS.toLocaleString("en")}. ` +
      "Make it smaller first.",
  );
}

function isOpaque({ data }) {
  for (let at = 3; at < data.length; at += 4) if (data[at] !== 255) return false;
  return true;
}

function readByCanvas(bitmap) {
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  try {
    context.drawImage(bitmap, 0, 0);
    return { width, height, data: context.getImageData(0, 0, width, height).data };
  } catch {
    throw new PictureError(`The browser has no memory for ${width} × ${height} pixels. Make the picture smaller first.`);
  }
}

/** Null if there is no WebGL or the picture is too large for it. */
function readByWebGL(bitmap) {
  const { width, height } = bitmap;
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!gl) return null;
  try {
    if (Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return null;
    gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
    gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    const data = new Uint8Array(width * height * 4);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
    return gl.getError() === gl.NO_ERROR ? { width, height, data } : null;
  } finally {
    gl.getExtension("WEBGL_lose_context")?.loseContext(); // browsers allow only a few contexts
  }
}
