// The brush of the removal, over the background.

import {drawFrame} from "../canvas/draw.js";
import {arrived, picture} from "../canvas/frames.js";
import {Surface, colour} from "../canvas/surface.js";
import {fit, toCanvas, toVideo} from "../canvas/view.js";
import {html, signal, useRef} from "../dom.js";
import {paint} from "../state/masks.js";
import {announce, doc, edit, frame, frameOf, playing, plate, project, settle} from "../state/store.js";
import {Transport} from "./transport.js";

export const radius = signal(16); // pixels of the background
export const erasing = signal(false);
const hover = signal(/** @type {[number, number]|null} */ (null));
const layerCanvas = document.createElement("canvas");

/** @param {CanvasRenderingContext2D} context @param {{width: number, height: number}} size */
function draw(context, size) {
  arrived.value;
  const video = plate.value, {strokes} = doc.value;
  if (!video) return;
  const view = fit(video, size, 0.02), width = video.width * view.scale, height = video.height * view.scale;
  const pixels = Math.min(Math.ceil((width * devicePixelRatio) / 160) * 160, video.width);
  drawFrame(context, view, video, picture(frameOf(project.value.background.path, project.value.background, Math.min(frame.value, video.frames - 1), pixels)));
  const overlay = /** @type {CanvasRenderingContext2D} */ (layerCanvas.getContext("2d"));
  layerCanvas.width = video.width;
  layerCanvas.height = video.height;
  if (project.value.remove && !strokes.length) {
    const mask = picture(frameOf(project.value.remove, {}, 0, video.width));
    if (mask) overlay.drawImage(mask, 0, 0, video.width, video.height);
  }
  paint(overlay, strokes, colour("mark"));
  context.globalAlpha = 0.55;
  context.drawImage(layerCanvas, view.left, view.top, width, height);
  context.globalAlpha = 1;
  if (!hover.value) return;
  context.beginPath();
  context.arc(...toCanvas(view, ...hover.value), radius.value * view.scale, 0, 2 * Math.PI);
  context.lineWidth = 3;
  context.strokeStyle = "rgba(0, 0, 0, 0.6)";
  context.stroke();
  context.lineWidth = 1.5;
  context.strokeStyle = "#fff";
  context.stroke();
}

/** @param {import("../state/document.js").Stroke} stroke @param {string|null} [tag] @param {boolean} [replace] the last one */
export function addStroke(stroke, tag = null, replace = false) {
  edit((d) => ({...d, strokes: [...(replace ? d.strokes.slice(0, -1) : d.strokes), stroke]}), tag);
}

export function RemoveStage() {
  const drawn = useRef(/** @type {[number, number][]|null} */ (null));
  /** @param {PointerEvent} event @returns {[number, number]} */
  const where = (event) => {
    const box = /** @type {HTMLElement} */ (event.currentTarget).getBoundingClientRect();
    const [x, y] = toVideo(fit(/** @type {any} */ (plate.value), box, 0.02), event.clientX - box.left, event.clientY - box.top);
    return [Math.round(x * 10) / 10, Math.round(y * 10) / 10];
  };
  /** @param {boolean} replace */
  const put = (replace) => addStroke({points: drawn.current ?? [], radius: radius.value, erase: erasing.value}, "brush", replace);
  const on = {
    onPointerDown: (/** @type {PointerEvent} */ event) => {
      if (!plate.value || event.button !== 0) return;
      playing.value = false;
      /** @type {HTMLElement} */ (event.currentTarget).setPointerCapture(event.pointerId);
      drawn.current = [where(event)];
      put(false);
    },
    onPointerMove: (/** @type {PointerEvent} */ event) => {
      if (!plate.value) return;
      hover.value = where(event);
      if (!drawn.current) return;
      drawn.current = [...drawn.current, where(event)];
      put(true);
    },
    onPointerUp: () => {
      if (!drawn.current) return;
      drawn.current = null;
      settle();
      announce(`${doc.value.strokes.length} strokes mark what is removed`);
    },
    onPointerLeave: () => { hover.value = null; },
    onKeyDown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "[") radius.value = Math.max(1, radius.value - 2);
      else if (event.key === "]") radius.value = Math.min(400, radius.value + 2);
      else if (event.key === "e") erasing.value = !erasing.value;
      else return;
      event.preventDefault();
    },
  };
  return html`
    <${Surface} draw=${draw} id="remove-canvas" cursor="none" label="What is removed, painted over the background" help="remove-keys" on=${on} />
    <p id="remove-keys" class="hidden">Square brackets change the brush's size, e switches to the eraser. With the keyboard, add boxes by their numbers
      beside the picture.</p>
    <${Transport} />`;
}
