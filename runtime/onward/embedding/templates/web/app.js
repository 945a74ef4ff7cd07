// App: connects the sources of pictures, the model and the answer.

import { Answer, toPicture } from "./answer.js";
import { Camera } from "./camera.js";
import { Classifier, downloadModel, numThreads, readGolden, readModel, whyNoWebGPU } from "./classifier.js";
import { decode } from "./decode.js";
import { Drawing, coloursFor } from "./drawing.js";
import { readExamples } from "./examples.js";
import { sizeOf } from "./pixels.js";
import { Verification } from "./verification.js";

const element = (id) => document.getElementById(id);
/** From the address, e.g. `?threads=1`. */
const askedThreads = Number(new URLSearchParams(location.search).get("threads")) || null;
/** Smaller pictures are shown without smoothing. */
const PIXELATED_BELOW_PX = 100;
const MAX_EXAMPLES = 8;

let model; // the content of model.json
let bytes; // the ONNX file
let classifier;
let answer;
let verification;
let drawing;
let camera = null;
/** Counts requests, so that a late answer does not replace a newer one. */
let numAsked = 0;
/** Classifies the last picture of each source again, when it is shown again or the provider changes. */
const repeat = { picture: null, draw: null, camera: null };

start().catch((error) => tell(error.message));

async function start() {
  tell("Opening the model …", 0);
  model = await readModel();
  element("title").textContent = document.title = model.title;
  const downloaded = await downloadModel(model.model, (share) => tell("Opening the model …", share));
  bytes = downloaded.bytes;
  await openClassifier("wasm");
  answer = new Answer(element, model.signature);
  verification = new Verification(element, model.precision);
  element("about").textContent = describeModel(downloaded.isChecked);
  listen();
  element("notice").hidden = true;
  element("app").hidden = false;
  await Promise.allSettled([offerWebGPU(), offerExamples(), keepForOffline()]);
}

/** Show a message instead of the app. */
function tell(text, share = null) {
  element("notice").hidden = false;
  element("notice").classList.toggle("patient", share !== null);
  element("notice-text").textContent = text;
  element("notice-progress").hidden = share === null;
  element("notice-progress").value = share ?? 0;
}

function describeModel(isChecked) {
  const { model: file, precision, licence, made_by } = model;
  const digest = `SHA-256 ${file.sha256.slice(0, 12)}…, ${isChecked ? "checked" : "not checked: the check needs HTTPS"}`;
  return [file.path, precision, digest, licence && `licence ${licence}`, `made by ${made_by}`].filter(Boolean).join(" · ");
}

async function openClassifier(provider) {
  const before = classifier;
  classifier = await Classifier.open(bytes, model.signature, provider, numThreads(askedThreads));
  element("backend").textContent = classifier.backend;
  await before?.close();
}

function listen() {
  listenToFiles();
  listenToDrawing();
  listenToCamera();
  for (const radio of document.getElementsByName("source")) radio.addEventListener("change", show);
  element("provider").addEventListener("change", changeProvider);
  element("verify").addEventListener("click", verify);
}

// Sources --------------------------------------------------------------------------------------------------------------

function shownSource() {
  return document.querySelector("[name=source]:checked").value;
}

/** Show the selected source and hide the others. */
function show() {
  for (const panel of document.querySelectorAll(".panel")) panel.hidden = panel.id !== `panel-${shownSource()}`;
  if (shownSource() !== "camera") turnCameraOff();
  if (repeat[shownSource()]) attempt(repeat[shownSource()]);
  else forget();
}

/** Classify a picture from the selected source. */
async function classify(picture, decoding_ms = 0) {
  const asked = ++numAsked;
  const start = performance.now();
  const pixels = classifier.prepare(picture);
  const preparing_ms = decoding_ms + performance.now() - start;
  const { probabilities, inference_ms } = await classifier.classify(pixels);
  if (asked === numAsked) answer.show(probabilities, pixels, { preparing_ms, inference_ms });
}

/** Run a task, or show its error. */
async function attempt(task) {
  complain(null);
  try {
    await task();
  } catch (error) {
    forget();
    complain(error.message);
  }
}

function complain(text) {
  element("problem").hidden = text === null;
  element("problem").textContent = text ?? "";
}

function forget() {
  numAsked += 1;
  complain(null);
  answer.clear();
}

// Pictures -------------------------------------------------------------------------------------------------------------

function listenToFiles() {
  const file = element("file");
  file.addEventListener("change", () => {
    takeFile(file.files[0]);
    file.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", ({ clipboardData }) => takeFile(clipboardData.files[0]));
  for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, drag);
}

function drag(event) {
  event.preventDefault(); // otherwise the browser leaves the page and opens the file
  element("drop").classList.toggle("over", event.type === "dragover");
  if (event.type === "drop") takeFile(event.dataTransfer.files[0]);
}

async function takeFile(file) {
  if (!file) return;
  await takePicture(file.name, async () => {
    const picture = await decode(file, model.signature.preprocess);
    showPicture(file);
    return picture;
  });
}

/** Classify the picture that `read` returns. */
async function takePicture(name, read) {
  repeat.picture = null;
  element("file-name").textContent = name;
  element("shown").hidden = true;
  document.querySelector("[name=source][value=picture]").checked = true;
  show();
  await attempt(async () => {
    const start = performance.now();
    const picture = await read();
    const decoding_ms = performance.now() - start;
    repeat.picture = () => classify(picture, decoding_ms);
    await repeat.picture();
  });
}

function showPicture(blob) {
  const shown = element("shown");
  URL.revokeObjectURL(shown.src);
  shown.style.imageOrientation = model.signature.preprocess.exif === "apply" ? "from-image" : "none"; // as the model sees it
  shown.onload = () => shown.classList.toggle("pixelated", shown.naturalWidth < PIXELATED_BELOW_PX);
  shown.src = URL.createObjectURL(blob);
  shown.hidden = false;
}

async function offerExamples() {
  const examples = await readExamples(readGolden, model.signature);
  const pictures = examples.slice(0, MAX_EXAMPLES).map((example) => toPicture(example, model.signature));
  element("examples").hidden = pictures.length === 0;
  element("examples").replaceChildren(...pictures.map(toExample));
}

/** A small picture that is classified when it is clicked. */
function toExample(picture, at) {
  const name = `Example ${at + 1}`;
  const button = document.createElement("button");
  button.type = "button";
  button.ariaLabel = name;
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: picture.width, height: picture.height });
  canvas.classList.toggle("pixelated", picture.width < PIXELATED_BELOW_PX);
  canvas.getContext("2d").putImageData(new ImageData(picture.data, picture.width, picture.height), 0, 0);
  button.append(canvas);
  button.addEventListener("click", () =>
    takePicture(name, async () => {
      showPicture(await toFile(picture));
      return picture;
    }),
  );
  return button;
}

async function toFile({ width, height, data }) {
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  return canvas.convertToBlob();
}

// Drawing --------------------------------------------------------------------------------------------------------------

function listenToDrawing() {
  const { signature } = model;
  let isBusy = false;
  let isWanted = false;
  /** While a drawing is classified, only the latest change waits; those between are skipped. */
  const follow = async () => {
    isWanted = true;
    if (isBusy) return;
    isBusy = true;
    while (isWanted) {
      isWanted = false;
      await attempt(repeat.draw);
      await new Promise(requestAnimationFrame);
    }
    isBusy = false;
  };
  drawing = new Drawing(element("canvas"), element("marker"), sizeOf(signature), coloursFor(signature), () => {
    repeat.draw = () => classify(drawing.picture());
    follow();
  });
  element("clear").addEventListener("click", () => {
    isWanted = false;
    repeat.draw = null;
    drawing.clear();
    forget();
  });
}

// Camera ---------------------------------------------------------------------------------------------------------------

function listenToCamera() {
  element("camera").addEventListener("click", () => (camera ? turnCameraOff() : attempt(turnCameraOn)));
  element("snapshot").addEventListener("click", () => {
    const picture = camera.snapshot();
    repeat.camera = () => classify(picture);
    attempt(repeat.camera);
  });
}

async function turnCameraOn() {
  camera = await Camera.open(element("video"));
  showCamera();
  if (shownSource() !== "camera") turnCameraOff(); // the user selected another source meanwhile
}

function turnCameraOff() {
  camera?.close();
  camera = null;
  showCamera();
}

function showCamera() {
  element("video").hidden = camera === null;
  element("snapshot").disabled = camera === null;
  element("camera").textContent = camera ? "Turn off" : "Turn on";
}

// Provider -------------------------------------------------------------------------------------------------------------

async function offerWebGPU() {
  const reason = await whyNoWebGPU();
  const option = element("provider").querySelector("[value=webgpu]");
  option.disabled = reason !== null;
  if (reason) option.textContent = `WebGPU: ${reason}`;
}

async function changeProvider() {
  const provider = element("provider");
  provider.disabled = element("verify").disabled = true;
  verification.hide();
  element("backend").textContent = "Opening the model …";
  try {
    await openClassifier(provider.value);
    if (repeat[shownSource()]) await attempt(repeat[shownSource()]);
  } catch (error) {
    complain(error.message);
    provider.value = "wasm";
    element("backend").textContent = classifier.backend;
  }
  provider.disabled = element("verify").disabled = false;
}

async function verify() {
  const problem = element("verify-problem");
  element("provider").disabled = element("verify").disabled = true;
  problem.hidden = true;
  try {
    await verification.run(classifier);
  } catch (error) {
    problem.hidden = false;
    problem.textContent = `The verification failed to run: ${error.message}`;
  }
  element("provider").disabled = element("verify").disabled = false;
}

/** The service worker makes the page work offline and, from the next visit on, isolates it if the host does not. */
async function keepForOffline() {
  if (!navigator.serviceWorker) return;
  await navigator.serviceWorker.register("service-worker.js");
  await navigator.serviceWorker.ready;
  element("reload").hidden = crossOriginIsolated || askedThreads === 1;
}
