// Examples: the real images among the golden samples, to try the page without a picture.

const REAL = "real";

/**
 * @param {(path: string) => Promise<ArrayBuffer>} read A file of golden/.
 * @returns {Promise<Uint8Array[]>} height × width × channels each; none if the model takes normalised input.
 */
export async function readExamples(read, signature) {
  const { kinds } = JSON.parse(new TextDecoder().decode(await read("golden.json")));
  if (!signature.normalize.in_model || !kinds[REAL]) return [];
  const { num_samples, input } = kinds[REAL];
  const all = new Uint8Array(await read(input.path));
  const stride = all.length / num_samples;
  return Array.from({ length: num_samples }, (_, at) => all.subarray(at * stride, (at + 1) * stride));
}
