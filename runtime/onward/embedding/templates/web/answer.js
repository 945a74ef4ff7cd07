// Answer: shows the classes of a picture on the page.
//
// Labels are inserted as text, never as markup.

import { channelsOf, sizeOf } from "./pixels.js";

/** Up to this number of classes, all are shown; otherwise the best five. */
const ALL_UP_TO = 10;
const TOP = 5;
/** Delay before a screen reader announces an answer. */
const ANNOUNCE_AFTER_MS = 700;

/** The part of the page that shows the answer. */
export class Answer {
  #elements;
  #announcing = null;

  /** @param {(id: string) => HTMLElement} element */
  constructor(element, signature) {
    this.signature = signature;
    const ids = ["label", "share", "bars", "seen", "size", "preparing", "inference", "announcement"];
    this.#elements = Object.fromEntries(ids.map((id) => [id, element(id)]));
    this.#elements.bars.replaceChildren(...Array.from({ length: this.#numShown }, makeBar));
    this.clear();
  }

  /**
   * @param {Float32Array} probabilities One per class.
   * @param {Uint8ClampedArray} pixels The model's input.
   * @param {{preparing_ms: number, inference_ms: number}} latency
   */
  show(probabilities, pixels, { preparing_ms, inference_ms }) {
    const best = Array.from(probabilities.keys()).sort((one, other) => probabilities[other] - probabilities[one]);
    const { label, share, bars, preparing, inference } = this.#elements;
    label.classList.remove("placeholder");
    label.textContent = this.signature.labels[best[0]];
    share.textContent = toPercent(probabilities[best[0]]);
    Array.from(bars.children).forEach((bar, at) => fillBar(bar, this.signature.labels[best[at]], probabilities[best[at]]));
    this.#showSeen(pixels);
    preparing.textContent = toMilliseconds(preparing_ms);
    inference.textContent = toMilliseconds(inference_ms);
    this.#announce(`${label.textContent}, ${share.textContent}`);
  }

  clear() {
    const { label, share, bars, preparing, inference, size } = this.#elements;
    label.classList.add("placeholder");
    label.textContent = "Nothing yet";
    share.textContent = "";
    for (const bar of bars.children) fillBar(bar, "", 0);
    const { height, width } = sizeOf(this.signature);
    size.textContent = `${width} × ${height}, ${channelsOf(this.signature) === 1 ? "grey" : "colour"}`;
    this.#showSeen(new Uint8ClampedArray(height * width * channelsOf(this.signature)));
    preparing.textContent = inference.textContent = "–";
    clearTimeout(this.#announcing);
  }

  get #numShown() {
    const { length } = this.signature.labels;
    return length <= ALL_UP_TO ? length : TOP;
  }

  /** Show the model's input pixels, enlarged without smoothing. */
  #showSeen(pixels) {
    const { seen } = this.#elements;
    const picture = toPicture(pixels, this.signature);
    seen.width = picture.width;
    seen.height = picture.height;
    seen.getContext("2d").putImageData(new ImageData(picture.data, picture.width, picture.height), 0, 0);
  }

  #announce(text) {
    clearTimeout(this.#announcing);
    this.#announcing = setTimeout(() => (this.#elements.announcement.textContent = text), ANNOUNCE_AFTER_MS);
  }
}

/**
 * @param {Uint8Array | Uint8ClampedArray} pixels height × width × channels
 * @returns {import("./pixels.js").Picture}
 */
export function toPicture(pixels, signature) {
  const { height, width } = sizeOf(signature);
  const channels = channelsOf(signature);
  const data = new Uint8ClampedArray(height * width * 4).fill(255);
  for (let at = 0; at < height * width; at++) {
    for (let colour = 0; colour < 3; colour++) data[4 * at + colour] = pixels[at * channels + (colour % channels)];
  }
  return { width, height, data };
}

function makeBar() {
  const bar = document.createElement("li");
  for (const [tag, name] of [["bdi", "name"], ["span", "track"], ["span", "percent"]]) {
    const part = bar.appendChild(document.createElement(tag));
    part.className = name;
  }
  bar.querySelector(".track").appendChild(document.createElement("span"));
  return bar;
}

function fillBar(bar, label, probability) {
  bar.querySelector(".name").textContent = label;
  bar.querySelector(".percent").textContent = label === "" ? "" : toPercent(probability);
  bar.querySelector(".track > span").style.transform = `translateX(${100 * probability - 100}%)`;
}

function toPercent(probability) {
  const percent = 100 * probability;
  return percent > 0 && percent < 0.05 ? "< 0.1 %" : `${percent.toFixed(1)} %`;
}

function toMilliseconds(duration_ms) {
  return `${duration_ms.toFixed(duration_ms < 10 ? 1 : 0)} ms`;
}
