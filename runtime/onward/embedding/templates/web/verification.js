// Verification: shows the results of parity.js on the page.

import { judgeDecoder, judgeModel } from "./parity.js";
import { decode } from "./decode.js";
import { readGolden } from "./classifier.js";

/** Interval at which the page may update and react. */
const TURN_EVERY_MS = 50;

/** The part of the page that shows the results. */
export class Verification {
  #elements;

  /** @param {(id: string) => HTMLElement} element */
  constructor(element) {
    const ids = ["verify-progress", "verdict", "ratio", "verdict-words", "verdict-backend", "bound", "rows", "cards"];
    this.#elements = Object.fromEntries(ids.map((id) => [id, element(id)]));
  }

  /** @param {import("./classifier.js").Classifier} classifier */
  async run(classifier) {
    const { "verify-progress": progress, verdict } = this.#elements;
    verdict.hidden = true;
    progress.hidden = false;
    progress.value = 0;
    try {
      const { max_noise_ratio } = JSON.parse(new TextDecoder().decode(await readGolden("golden.json")));
      const model = await judgeModel(readGolden, yielding(classifier), (done, all) => (progress.value = done / all));
      const decoder = await judgeDecoder(readGolden, decode, classifier.signature);
      this.#show(model, decoder, max_noise_ratio, classifier.backend);
    } finally {
      progress.hidden = true;
    }
  }

  hide() {
    this.#elements.verdict.hidden = true;
  }

  #show(model, decoder, bound, backend) {
    const { ratio, rows, cards, verdict } = this.#elements;
    ratio.textContent = Number.isFinite(model.noiseRatio) ? model.noiseRatio.toFixed(2) : "not a number";
    this.#elements["verdict-words"].textContent = inWords(model.passed, decoder.passed);
    this.#elements["verdict-backend"].textContent = `on ${backend}`;
    this.#elements.bound.textContent = bound;
    rows.replaceChildren(...model.rows.map(toRow));
    cards.replaceChildren(...decoder.rows.map(toCard));
    for (const body of [rows, cards]) nameCells(body);
    verdict.classList.toggle("failed", !model.passed);
    verdict.hidden = false;
  }
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

function toRow({ kind, output, numSamples, error, noiseFloor, noiseRatio, passed }) {
  const numbers = [String(numSamples), error.toExponential(1), noiseFloor.toExponential(1), noiseRatio.toFixed(2)];
  return makeRow([kind, output], numbers, passed);
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
