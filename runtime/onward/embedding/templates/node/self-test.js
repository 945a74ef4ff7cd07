// Self-test: prints the results of the golden samples.

/**
 * Format the results as tables and a verdict.
 * @param {import("./classifier.d.ts").SelfTest} outcome
 * @param {import("./classifier.d.ts").Classifier} classifier
 * @returns {string}
 */
export function describe({ passed, model, decoder }, { sha256 }) {
  return [
    `The model is the file that model.json names (SHA-256 ${sha256.slice(0, 12)}…).`,
    "",
    table(["samples", "output", "images", "error", "PyTorch's", "noise ratio", ""], model.rows.map(describeRow)),
    "",
    table(["reference image", "max difference", "mean", ""], decoder.rows.map(describeCard)),
    "",
    passed ? "Passed." : "Failed.",
    `  The model ${model.passed ? "is" : "is not"} as accurate as PyTorch here: noise ratio ${ratio(model.noiseRatio)}.`,
    `  Images ${decoder.passed ? "are" : "are not"} decoded and scaled as in training.`,
  ].join("\n");
}

function describeRow({ kind, output, numSamples, error, noiseFloor, noiseRatio, passed }) {
  const [found, expected] = [error, noiseFloor].map((value) => value.toExponential(1));
  return [kind, output, String(numSamples), found, expected, ratio(noiseRatio), mark(passed)];
}

function describeCard({ card, maxLevels, meanLevels, passed }) {
  return [card, `${maxLevels} of 255`, meanLevels.toFixed(2), mark(passed)];
}

function ratio(value) {
  return value.toFixed(2);
}

function mark(passed) {
  return passed ? "ok" : "FAILED";
}

/** Align the columns. */
function table(head, rows) {
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column].length)));
  return [head, ...rows]
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd())
    .join("\n");
}
