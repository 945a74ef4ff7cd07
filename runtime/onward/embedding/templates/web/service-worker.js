// Service worker: makes the page work offline after the first visit, and with threads on any host.
//
// It asks the server first, past the browser's own cache, so that a new version is used at the next visit whatever the
// server says about caching, and its own cache second. It adds the headers for
// cross-origin isolation, without which browsers allow WebAssembly no threads.

const CACHE = `onward ${self.registration.scope}`; // several apps may share a host
const FILES = [
  "./",
  "app.js",
  "answer.js",
  "camera.js",
  "classifier.js",
  "decode.js",
  "drawing.js",
  "examples.js",
  "favicon.svg",
  "model.json",
  "orientation.js",
  "parity.js",
  "pixels.js",
  "style.css",
  "verification.js",
  "golden/golden.json",
  "onnxruntime/ort-wasm-simd-threaded.mjs",
  "onnxruntime/ort-wasm-simd-threaded.wasm",
  "onnxruntime/ort.wasm.min.mjs",
  "onnxruntime/version.json",
];
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

self.addEventListener("install", (event) => event.waitUntil(fill().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(self.registration.scope)) event.respondWith(answer(event.request));
});

/** Cache all files of the page. WebGPU's files are cached when they are first used. */
async function fill() {
  const cache = await caches.open(CACHE);
  await cache.addAll(FILES.map(anew));
  const { model } = await (await cache.match("model.json")).json();
  const golden = await (await cache.match("golden/golden.json")).json();
  await cache.addAll([model.path, ...goldenFiles(golden).map((path) => `golden/${path}`)].map(anew));
}

function anew(path) {
  return new Request(path, { cache: "no-cache" });
}

function goldenFiles({ kinds, cards }) {
  const ofKinds = Object.values(kinds).flatMap(({ input, outputs }) => [
    input.path,
    ...Object.values(outputs).map(({ reference }) => reference.path),
  ]);
  return [...ofKinds, ...cards.flatMap(({ path, pixels }) => [path, pixels.path])];
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request, { ignoreSearch: true });
  try {
    const response = await ask(request);
    if (response.type === "opaqueredirect") return response;
    if (response.status === 200 && !isSame(response, kept)) await cache.put(withoutSearch(request), response.clone());
    return isolated(response);
  } catch (error) {
    if (kept) return isolated(kept);
    throw error;
  }
}

/** A request past the browser's cache. That of a page cannot be copied with other options. */
function ask(request) {
  const { cache, mode, redirect, url } = request;
  if (cache === "reload") return fetch(request);
  return fetch(mode === "navigate" ? new Request(url, { redirect }) : request, { cache: "no-cache" });
}

/** Whether a file is unchanged, so that large files are not written at every visit. */
function isSame(response, kept) {
  const name = response.headers.has("ETag") ? "ETag" : "Last-Modified";
  return response.headers.has(name) && response.headers.get(name) === kept?.headers.get(name);
}

function withoutSearch({ url }) {
  return url.split("?")[0];
}

function isolated(response) {
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers });
}
