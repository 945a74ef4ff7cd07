// Turns: an app's classifier beside a bare call of the onnxruntime that it uses, in Node.js and in a page alike.

const BATCH_SIZES = [1, 32];
const NUM_ROUNDS = 15;
const ROUND_MS = 200;

/**
 * Take turns A B B A; ready pixels.
 * @param {(data: Uint8Array, count: number) => Promise} run The app's.
 * @param {object} ort
 * @param {object} session Of the bare call.
 * @param {number[]} shape Of one image.
 * @returns {Promise<{latency_ms: number, images_per_s: number, over_bare: Record<number, number>}>} medians
 */
export async function takeTurns(run, ort, session, shape) {
  const bare = (data, count) => session.run({ image: new ort.Tensor("uint8", data, [count, ...shape]) });
  const area = shape.reduce((product, side) => product * side);
  const seconds = {};
  const overBare = {};
  for (const count of BATCH_SIZES) {
    const data = Uint8Array.from({ length: count * area }, (_, at) => (at * 2654435761) >>> 24);
    const pairs = [];
    for (let round = 0; round < NUM_ROUNDS; round++) {
      const pair = [];
      for (const which of round % 2 ? [1, 0] : [0, 1]) pair[which] = await secondsPerCall([run, bare][which], data, count);
      pairs.push(pair);
    }
    seconds[count] = median(pairs.map(([ours]) => ours));
    overBare[count] = median(pairs.map(([ours, other]) => ours / other));
  }
  return { latency_ms: 1e3 * seconds[1], images_per_s: 32 / seconds[32], over_bare: overBare };
}

async function secondsPerCall(run, data, count) {
  const taken = [];
  const end = performance.now() + ROUND_MS;
  for (let start = performance.now(); start < end; start = performance.now()) {
    await run(data, count);
    taken.push((performance.now() - start) / 1e3);
  }
  return median(taken);
}

function median(values) {
  return [...values].sort((one, other) => one - other)[values.length >> 1];
}
