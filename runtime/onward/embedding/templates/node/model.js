// Model: the ONNX file in this folder and its description, model.json.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

const FORMAT = 1;

/** The model is missing, or is not the one that model.json names. */
export class ModelError extends Error {
  name = "ModelError";
}

/**
 * Read model.json and check the digests of the model's files.
 * @param {string} folder
 * @returns {Promise<{path: string, title: string, sha256: string, signature: object}>}
 */
export async function readModel(folder) {
  const { format, title, model, beside, signature } = await readDocument(join(folder, "model.json"));
  if (format !== FORMAT) {
    throw new ModelError(`model.json has format ${format}, expected ${FORMAT}. Run onward embed again.`);
  }
  for (const file of [model, ...beside]) await checkDigest(join(folder, file.path), file.sha256);
  return { path: join(folder, model.path), title, sha256: model.sha256, signature };
}

async function readDocument(path) {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw new ModelError(`${path} cannot be read: ${error.message}`, { cause: error });
  }
}

async function checkDigest(path, expected) {
  const found = await digestOf(path);
  if (found === expected) return;
  throw new ModelError(
    `${path} is not the file that model.json names: it was changed or is damaged.\n` +
      `  SHA-256 found:    ${found}\n  SHA-256 expected: ${expected}\n` +
      "Copy the app's folder again, or run onward embed again.",
  );
}

async function digestOf(path) {
  const hash = createHash("sha256");
  try {
    await pipeline(createReadStream(path), hash);
  } catch (error) {
    throw new ModelError(`${path} cannot be read: ${error.message}`, { cause: error });
  }
  return hash.digest("hex");
}
