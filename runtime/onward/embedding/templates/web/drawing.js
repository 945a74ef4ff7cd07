// Drawing: a canvas to draw on with mouse, finger, pen or keyboard.
//
// The model gets the drawing as shown: it is not centred, thinned or smoothed.

/** If the mean of the training images is darker, the ink is white on black. */
const DARK_MEAN = 0.4;
const LONGER_SIDE_PX = 448;
/** The pen's width as a share of the shorter side: about as in MNIST. */
const PEN_SHARE = 1 / 11;
/** The least width in pixels of the model's input; thinner strokes would fade. */
const PEN_MODEL_PIXELS = 1.2;
/** Number of arrow key steps across the canvas. */
const KEY_STEPS = 20;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Ink and paper like the model's training images. */
export function coloursFor({ normalize: { mean } }) {
  const average = mean.reduce((sum, value) => sum + value, 0) / mean.length;
  return average < DARK_MEAN ? { ink: "#fff", paper: "#000" } : { ink: "#000", paper: "#fff" };
}

/** The drawing on a canvas. */
export class Drawing {
  #context;
  #last = null;
  #pen = null;
  /** Position of the keyboard's pen. */
  #cursor;
  #isDown = false;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLElement} marker Shows the position of the keyboard's pen.
   * @param {{height: number, width: number}} size The model's input size.
   * @param {{ink: string, paper: string}} colours
   * @param {(isFinished: boolean) => void} changed Called after every change; finished when the pen is lifted.
   */
  constructor(canvas, marker, size, colours, changed) {
    const scale = LONGER_SIDE_PX / Math.max(size.height, size.width);
    canvas.width = Math.round(size.width * scale);
    canvas.height = Math.round(size.height * scale);
    Object.assign(this, { canvas, marker, colours, changed });
    this.#context = canvas.getContext("2d", { willReadFrequently: true });
    const shorter = Math.min(canvas.width, canvas.height);
    Object.assign(this.#context, { lineCap: "round", lineJoin: "round", strokeStyle: colours.ink });
    this.#context.lineWidth = Math.max(shorter * PEN_SHARE, scale * PEN_MODEL_PIXELS);
    this.#cursor = [canvas.width / 2, canvas.height / 2];
    this.#listen();
    this.clear();
  }

  /** @returns {import("./pixels.js").Picture} */
  picture() {
    const { width, height } = this.canvas;
    return { width, height, data: this.#context.getImageData(0, 0, width, height).data };
  }

  clear() {
    this.isEmpty = true;
    this.#context.fillStyle = this.colours.paper;
    this.#context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.#lift(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("focus", () => this.#showMarker());
    canvas.addEventListener("blur", () => this.#lower(false));
  }

  #press(event) {
    if (event.button !== 0 || this.#pen !== null) return;
    this.#pen = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.#last = this.#toCanvas(event);
    this.#lineTo(this.#last);
  }

  #move(event) {
    if (event.pointerId !== this.#pen) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) this.#lineTo(this.#toCanvas(one));
  }

  #lift(event) {
    if (event.pointerId !== this.#pen) return;
    this.#pen = null;
    this.changed(true);
  }

  #key(event) {
    if (event.key === " ") this.#lower(!this.#isDown);
    else if (event.key in ARROWS) this.#step(ARROWS[event.key]);
    else return;
    event.preventDefault();
  }

  /** Lower or lift the keyboard's pen. */
  #lower(isDown) {
    const wasDown = this.#isDown;
    this.#isDown = isDown;
    this.#last = this.#cursor;
    if (isDown) this.#lineTo(this.#cursor);
    this.#showMarker();
    if (wasDown && !isDown) this.changed(true);
  }

  #step([across, down]) {
    const { width, height } = this.canvas;
    const step = Math.min(width, height) / KEY_STEPS;
    const [x, y] = this.#cursor;
    this.#cursor = [clamp(x + across * step, width), clamp(y + down * step, height)];
    if (this.#isDown) this.#lineTo(this.#cursor);
    this.#showMarker();
  }

  #showMarker() {
    const [x, y] = this.#cursor;
    this.marker.style.left = `${(100 * x) / this.canvas.width}%`;
    this.marker.style.top = `${(100 * y) / this.canvas.height}%`;
    this.marker.classList.toggle("down", this.#isDown);
  }

  #lineTo(point) {
    this.#context.beginPath();
    this.#context.moveTo(...this.#last);
    this.#context.lineTo(...point);
    this.#context.stroke();
    this.#last = point;
    this.isEmpty = false;
    this.changed(false);
  }

  #toCanvas({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    return [
      ((clientX - box.left) * this.canvas.width) / box.width,
      ((clientY - box.top) * this.canvas.height) / box.height,
    ];
  }
}

function clamp(value, most) {
  return Math.max(0, Math.min(most, value));
}
