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
    table(["samples", "output", "images", ...COLUMNS[ruleOf(model)], ""], model.rows.map(describeRow)),
    "",
    table(["reference image", "max difference", "mean", ""], decoder.rows.map(describeCard)),
    "",
    passed ? "Passed." : "Failed.",
    ...inWords(model),
    `  Images ${decoder.passed ? "are" : "are not"} decoded and scaled as in training.`,
  ].join("\n");
}

/** By which rule the model is judged: a lower precision than float32 has a rule of its own. */
function ruleOf(model) {
  return "noiseRatio" in model ? "parity" : "deviation";
}

const COLUMNS = {
  parity: ["error", "PyTorch's", "noise ratio"],
  deviation: ["deviation", "quantisation error", "ratio"],
};

function inWords(model) {
  if (ruleOf(model) === "parity") {
    const verb = model.passed ? "is" : "is not";
    return [`  The model ${verb} as accurate as PyTorch here: noise ratio ${ratio(model.noiseRatio)}.`];
  }
  const [verb, found] = [model.passed ? "computes" : "does not compute", ratio(model.deviationRatio)];
  const lines = [
    `  The model (${model.precision}) ${verb} here what was measured when it was built: deviation ratio ${found}.`,
  ];
  if (!model.passed) lines.push("  Another processor or onnxruntime may compute it otherwise. Use the float32 model here.");
  return lines;
}

function describeRow(row) {
  const { kind, output, numSamples, passed } = row;
  const [found, unit, quotient] =
    "noiseRatio" in row
      ? [row.error, row.noiseFloor, row.noiseRatio]
      : [row.deviation, row.quantizationError, row.deviationRatio];
  const numbers = [found.toExponential(1), unit.toExponential(1), ratio(quotient)];
  return [kind, output, String(numSamples), ...numbers, mark(passed)];
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
