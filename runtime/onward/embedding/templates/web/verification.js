// Verification: shows the results of parity.js on the page.

import { judgeDecoder, judgeModel } from "./parity.js";
import { decode } from "./decode.js";
import { readGolden } from "./classifier.js";

/** Interval at which the page may update and react. */
const TURN_EVERY_MS = 50;

/** The part of the page that shows the results. */
export class Verification {
  #elements;

  /**
   * @param {(id: string) => HTMLElement} element
   * @param {string} [precision] Of the model, if it is lower than float32: then the page asks another question.
   */
  constructor(element, precision) {
    const ids = ["verify-progress", "verdict", "ratio", "verdict-words", "verdict-backend", "bound", "rows", "cards"];
    this.#elements = Object.fromEntries(ids.map((id) => [id, element(id)]));
    if (precision) ask(element, precision);
  }

  /** @param {import("./classifier.js").Classifier} classifier */
  async run(classifier) {
    const { "verify-progress": progress, verdict } = this.#elements;
    verdict.hidden = true;
    progress.hidden = false;
    progress.value = 0;
    try {
      const model = await judgeModel(readGolden, yielding(classifier), (done, all) => (progress.value = done / all));
      const decoder = await judgeDecoder(readGolden, decode, classifier.signature);
      this.#show(model, decoder, classifier.backend);
    } finally {
      progress.hidden = true;
    }
  }

  hide() {
    this.#elements.verdict.hidden = true;
  }

  #show(model, decoder, backend) {
    const { ratio, rows, cards, verdict } = this.#elements;
    const found = model.noiseRatio ?? model.deviationRatio;
    ratio.textContent = Number.isFinite(found) ? found.toFixed(2) : "not a number";
    this.#elements["verdict-words"].textContent = inWords(model.passed, decoder.passed);
    this.#elements["verdict-backend"].textContent = `on ${backend}`;
    this.#elements.bound.textContent = model.limit;
    rows.replaceChildren(...model.rows.map(toRow));
    cards.replaceChildren(...decoder.rows.map(toCard));
    for (const body of [rows, cards]) nameCells(body);
    verdict.classList.toggle("failed", !model.passed);
    verdict.hidden = false;
  }
}

/** The words for a model of lower precision, in place of those for float32. */
function ask(element, precision) {
  const texts = {
    "verify-heading": "Does the model compute here what was measured?",
    "verify-question":
      `The model is ${precision}: it differs from PyTorch on purpose, and what that costs was measured when it was built. ` +
      "This runs recorded samples in this browser and compares the outputs with those of the machine that built it.",
    "ratio-hint":
      "The ratio is the difference here divided by the model’s quantisation error, both root mean square. 0 is the same;",
    "head-error": "Deviation",
    "head-unit": "Quantisation error",
    "head-ratio": "Ratio",
  };
  for (const [id, text] of Object.entries(texts)) element(id).textContent = text;
}

function yielding(classifier) {
  let last = performance.now();
  return async (data, count) => {
    if (performance.now() - last > TURN_EVERY_MS) {
      await new Promise((resolve) => setTimeout(resolve));
      last = performance.now();
    }
    return classifier.run(data, count);
  };
}

function inWords(isModelRight, isDecoderRight) {
  if (!isModelRight) return "Failed. Do not trust this model’s answers";
  return isDecoderRight ? "Passed" : "The model passed, but this browser decodes pictures differently, see below. Ran";
}

function toRow(row) {
  const [found, unit, ratio] =
    "noiseRatio" in row
      ? [row.error, row.noiseFloor, row.noiseRatio]
      : [row.deviation, row.quantizationError, row.deviationRatio];
  const numbers = [String(row.numSamples), found.toExponential(1), unit.toExponential(1), ratio.toFixed(2)];
  return makeRow([row.kind, row.output], numbers, row.passed);
}

function toCard({ card, maxLevels, meanLevels, passed }) {
  return makeRow([card], [`${maxLevels} levels`, `${meanLevels.toFixed(2)} levels`], passed);
}

/** Name each cell after its column: on a narrow screen, style.css stacks the cells of a row. */
function nameCells(body) {
  const names = Array.from(body.closest("table").querySelectorAll("th"), (head) => head.textContent);
  for (const { cells } of body.rows) names.forEach((name, at) => (cells[at].dataset.name = name));
}

/** A table row of texts, numbers and the verdict. */
function makeRow(texts, numbers, passed) {
  const row = document.createElement("tr");
  for (const text of texts) row.insertCell().textContent = text;
  for (const number of numbers) {
    const cell = row.insertCell();
    cell.textContent = number;
    cell.className = "number";
  }
  const verdict = row.insertCell();
  verdict.textContent = passed ? "passed" : "failed";
  verdict.className = passed ? "passed" : "failed";
  return row;
}
