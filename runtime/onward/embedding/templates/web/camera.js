// Camera: takes pictures. They are not mirrored and not stored or sent.

/** The camera cannot be used; the message is shown to the user. */
export class CameraError extends Error {}

const REASONS = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser's address bar, then try again.",
  NotFoundError: "No camera was found. Plug one in, or use a picture.",
  NotReadableError: "The camera is busy. Close the other program that uses it, then try again.",
};

/** An open camera. */
export class Camera {
  #stream;

  constructor(stream, video) {
    this.#stream = stream;
    this.video = video;
  }

  /** Ask for the camera and show its picture. */
  static async open(video) {
    if (!navigator.mediaDevices) {
      throw new CameraError("The browser allows the camera only over HTTPS or on 127.0.0.1. Use a picture instead.");
    }
    const wanted = { video: { facingMode: "environment", width: { ideal: 1280 } }, audio: false };
    const stream = await navigator.mediaDevices.getUserMedia(wanted).catch((error) => {
      throw new CameraError(REASONS[error.name] ?? `The camera cannot be used: ${error.message}.`);
    });
    video.srcObject = stream;
    await video.play();
    return new Camera(stream, video);
  }

  /** @returns {import("./pixels.js").Picture} */
  snapshot() {
    const { videoWidth: width, videoHeight: height } = this.video;
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(this.video, 0, 0);
    return { width, height, data: context.getImageData(0, 0, width, height).data };
  }

  close() {
    for (const track of this.#stream.getTracks()) track.stop();
    this.video.srcObject = null;
  }
}
