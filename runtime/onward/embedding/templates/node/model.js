// Model: the ONNX file in this folder and its description, model.json.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";

const FORMAT = 1;
/** Node reads no larger file at once. */
const MAX_READ_BYTES = 2 ** 31 - 1;

/** The model is missing, or is not the one that model.json names. */
export class ModelError extends Error {
  name = "ModelError";
}

/**
 * Read model.json and the model's files, and check their digests. The bytes are opened, not the paths: what was checked
 * is what runs, and the files may be in an archive that only Node reads, such as Electron's app.asar.
 * @param {string} folder
 * @returns {Promise<{bytes: Buffer, beside: {path: string, data: Buffer}[], title: string, sha256: string,
 *   signature: object}>}
 */
export async function readModel(folder) {
  const { format, title, model, beside, signature } = await readDocument(join(folder, "model.json"));
  if (format !== FORMAT) {
    throw new ModelError(`model.json has format ${format}, expected ${FORMAT}. Run onward embed again.`);
  }
  const bytes = await readChecked(folder, model);
  const files = [];
  for (const file of beside) files.push({ path: file.path, data: await readChecked(folder, file) });
  return { bytes, beside: files, title, sha256: model.sha256, signature };
}

async function readDocument(path) {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw new ModelError(`${path} cannot be read: ${error.message}`, { cause: error });
  }
}

async function readChecked(folder, { path, sha256: expected }) {
  const file = join(folder, path);
  const bytes = await readBytes(file).catch((error) => {
    throw new ModelError(`${file} cannot be read: ${error.message}`, { cause: error });
  });
  const found = createHash("sha256").update(bytes).digest("hex");
  if (found === expected) return bytes;
  throw new ModelError(
    `${file} is not the file that model.json names: it was changed or is damaged.\n` +
      `  SHA-256 found:    ${found}\n  SHA-256 expected: ${expected}\n` +
      "Copy the app's folder again, or run onward embed again.",
  );
}

async function readBytes(file) {
  const { size } = await stat(file);
  if (size <= MAX_READ_BYTES) return readFile(file);
  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  for await (const chunk of createReadStream(file)) at += chunk.copy(bytes, at);
  return bytes.subarray(0, at);
}
