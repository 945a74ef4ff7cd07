// Model: the ONNX file beside this one, and what model.json says of it.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

const FORMAT = 1;

/** The model is not there, or is not the one that model.json was written for. */
export class ModelError extends Error {
  name = "ModelError";
}

/**
 * Read model.json, and hold the model's files against their digests.
 * @param {string} folder
 * @returns {Promise<{path: string, title: string, sha256: string, signature: object}>}
 */
export async function readModel(folder) {
  const { format, title, model, beside, signature } = await readDocument(join(folder, "model.json"));
  if (format !== FORMAT) {
    throw new ModelError(`model.json has format ${format}, expected ${FORMAT}. Write the app anew with onward embed.`);
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
    `${path} is not the file that model.json names: it was changed, or is damaged.\n` +
      `  SHA-256 found:    ${found}\n  SHA-256 expected: ${expected}\n` +
      "Copy the app's folder again, or write it anew with onward embed.",
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
