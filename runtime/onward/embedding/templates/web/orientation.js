// Orientation: the EXIF orientation of a picture, which says how the camera was held.
//
// Browsers differ in whether they turn a picture by it, and `createImageBitmap` cannot switch that off everywhere. So
// it is taken out of the file before decoding, and the decoded picture is turned here if the model wants it.

const TAG = 0x0112;
const UPRIGHT = 1;
/** From this value on, width and height change places. */
const ON_ITS_SIDE = 5;
/** Where the pixel (x, y) of the upright picture is in a stored picture, whose last column and row are given. */
const SOURCES = {
  2: (x, y, right) => [right - x, y],
  3: (x, y, right, bottom) => [right - x, bottom - y],
  4: (x, y, right, bottom) => [x, bottom - y],
  5: (x, y) => [y, x],
  6: (x, y, right, bottom) => [y, bottom - x],
  7: (x, y, right, bottom) => [right - y, bottom - x],
  8: (x, y, right) => [right - y, x],
};

/**
 * Take the orientation out of a JPEG, PNG or WebP file. Other files are unchanged.
 * @param {Uint8Array} bytes Changed in place.
 * @returns {{orientation: number, parts: Uint8Array[]}} 1 to 8, and the file without it.
 */
export function takeOrientation(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    const block = findBlock(view);
    const entry = block && findEntry(view, block);
    if (!entry) return { orientation: UPRIGHT, parts: [bytes] };
    view.setUint16(entry.at, UPRIGHT, entry.isLittle);
    const parts = block.chunk ? [bytes.subarray(0, block.chunk.start), bytes.subarray(block.chunk.end)] : [bytes];
    return { orientation: entry.orientation in SOURCES ? entry.orientation : UPRIGHT, parts };
  } catch (error) {
    if (error instanceof RangeError) return { orientation: UPRIGHT, parts: [bytes] }; // cut short or damaged
    throw error;
  }
}

/**
 * Turn a picture upright.
 * @param {import("./pixels.js").Picture} picture
 * @param {number} orientation 1 to 8
 * @returns {import("./pixels.js").Picture}
 */
export function turn(picture, orientation) {
  if (!(orientation in SOURCES)) return picture;
  const { width, height } = picture;
  const stored = new Uint32Array(picture.data.buffer, picture.data.byteOffset, width * height);
  const [across, down] = orientation >= ON_ITS_SIDE ? [height, width] : [width, height];
  const upright = new Uint32Array(width * height);
  for (let y = 0, at = 0; y < down; y++) {
    for (let x = 0; x < across; x++, at++) {
      const [column, row] = SOURCES[orientation](x, y, width - 1, height - 1);
      upright[at] = stored[row * width + column];
    }
  }
  return { width: across, height: down, data: new Uint8ClampedArray(upright.buffer) };
}

/** The EXIF block of a file: where it starts, and the whole chunk of a PNG, whose checksum a change would break. */
function findBlock(view) {
  if (view.getUint16(0) === 0xffd8) return findInJpeg(view);
  if (view.getUint32(0) === 0x89504e47) return findInPng(view);
  if (textAt(view, 0, 4) === "RIFF" && textAt(view, 8, 4) === "WEBP") return findInWebP(view);
  return null;
}

function findInJpeg(view) {
  for (let at = 2; view.getUint8(at) === 0xff; ) {
    const marker = view.getUint8(at + 1);
    if (marker === 0xff) {
      at += 1; // padding
      continue;
    }
    if (marker === 0xda || marker === 0xd9) return null; // the pixels, or the end
    if (marker === 0xe1 && textAt(view, at + 4, 6) === "Exif\0\0") return { start: at + 10 };
    at += 2 + view.getUint16(at + 2);
  }
  return null;
}

function findInPng(view) {
  for (let at = 8; at < view.byteLength; ) {
    const end = at + 12 + view.getUint32(at);
    if (textAt(view, at + 4, 4) === "eXIf") return { start: at + 8, chunk: { start: at, end } };
    at = end;
  }
  return null;
}

function findInWebP(view) {
  for (let at = 12; at < view.byteLength; ) {
    const length = view.getUint32(at + 4, true);
    if (textAt(view, at, 4) === "EXIF") return { start: at + 8 + (textAt(view, at + 8, 6) === "Exif\0\0" ? 6 : 0) };
    at += 8 + length + (length % 2);
  }
  return null;
}

/** The entry of the orientation: its value, and where that is. Source: EXIF 2.32, sections 4.5.2 and 4.6.4. */
function findEntry(view, { start }) {
  const order = textAt(view, start, 2);
  if (order !== "II" && order !== "MM") return null;
  const isLittle = order === "II";
  const directory = start + view.getUint32(start + 4, isLittle);
  const count = view.getUint16(directory, isLittle);
  for (let entry = directory + 2; entry < directory + 2 + 12 * count; entry += 12) {
    if (view.getUint16(entry, isLittle) !== TAG) continue;
    return { orientation: view.getUint16(entry + 8, isLittle), at: entry + 8, isLittle };
  }
  return null;
}

function textAt(view, at, length) {
  return String.fromCharCode(...Array.from({ length }, (_, index) => view.getUint8(at + index)));
}
