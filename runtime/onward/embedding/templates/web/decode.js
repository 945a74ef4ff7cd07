// Decode: from an image file to its pixels, as Pillow would give them where the browser lets us.
//
// That means: upright as EXIF says, the first frame, no colour management, and the colours under alpha as they are stored.
// A 2D canvas multiplies colours by alpha and cannot give them back, so pictures that have alpha go through WebGL.

/** Pillow's bound, at which it refuses. */
export const MAX_PIXELS = 89_478_485;
const BITMAP_OPTIONS = { premultiplyAlpha: "none", colorSpaceConversion: "none", imageOrientation: "from-image" };

/** The file is no picture that can be read; the message is for the reader of the page. */
export class PictureError extends Error {}

/**
 * Decode an image file.
 * @param {Blob | ArrayBuffer} file
 * @returns {Promise<import("./pixels.js").Picture>}
 */
export async function decode(file) {
  const blob = new Blob([file]); // its type is read from its content
  if (blob.size === 0) throw new PictureError("The file is empty: it has 0 bytes. Choose another one.");
  checkSize(await readSize(blob));
  const bitmap = await createImageBitmap(blob, BITMAP_OPTIONS).catch(() => {
    throw new PictureError("The picture is damaged: its beginning can be read, the rest cannot. Save it again.");
  });
  try {
    const picture = readByCanvas(bitmap);
    return isOpaque(picture) ? picture : (readByWebGL(bitmap) ?? picture);
  } finally {
    bitmap.close();
  }
}

/** From its header: nothing is decoded yet. */
async function readSize(blob) {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject }));
    return { width: image.naturalWidth, height: image.naturalHeight };
  } catch {
    throw new PictureError(
      "This is no picture that the browser can read. It can read PNG, JPEG, WebP, GIF, BMP and, if it is recent, AVIF.",
    );
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

function checkSize({ width, height }) {
  if (width * height <= MAX_PIXELS) return;
  throw new PictureError(
    `The picture is too large: ${width} × ${height} pixels, at most ${MAX_PIXELS.toLocaleString("en")} in all. ` +
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

/** Null where there is no WebGL, or the picture is larger than it takes. */
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
    gl.getExtension("WEBGL_lose_context")?.loseContext(); // a browser has few of them
  }
}
