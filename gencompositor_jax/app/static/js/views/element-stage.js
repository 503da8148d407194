// The element of the selected layer on a checkerboard; clicks pick a colour, or add and remove regions.

import * as api from "../api.js";
import {drawChecker} from "../canvas/checker.js";
import {arrived, picture} from "../canvas/frames.js";
import {Surface, colour} from "../canvas/surface.js";
import {fit, toCanvas, toVideo} from "../canvas/view.js";
import {html, signal, useRef} from "../dom.js";
import {elementOf} from "../state/elements.js";
import {announce, clips, editLayer, frame, layer, layerIndex, playing} from "../state/store.js";
import {changeRegion} from "../state/regions.js";
import {Transport} from "./transport.js";

/** What is shown: the cut-out element or the clip itself; and what lies behind it. */
export const shows = signal(/** @type {"element"|"clip"} */ ("element"));
export const ground = signal(/** @type {"squares"|"black"|"white"} */ ("squares"));
/** What a click does. */
export const clicking = signal(/** @type {"none"|"colour"|"segment"|"add"|"remove"} */ ("none"));

/** @param {CanvasRenderingContext2D} context @param {{width: number, height: number}} size */
function draw(context, size) {
  arrived.value;
  const shown = layer.value, clip = shown && clips.value[shown.foreground], element = elementOf(shown);
  if (!shown || !clip) return;
  const view = fit(clip, size, 0.02), width = clip.width * view.scale, height = clip.height * view.scale;
  const pixels = Math.min(Math.ceil((width * devicePixelRatio) / 160) * 160, clip.width);
  const grounds = {squares: undefined, black: "#000", white: "#fff"};
  drawChecker(context, view.left, view.top, width, height, grounds[ground.value]);
  const original = shows.value === "clip" || clicking.value !== "none";
  const part = {fps: element?.fps ?? null};
  if (original || !element) {
    const image = picture(api.frameUrl(clip.id, part, Math.min(frame.value, (element?.frames ?? clip.frames) - 1), pixels, "webp"));
    context.globalAlpha = element && shows.value !== "clip" ? 0.35 : 1;
    if (image) context.drawImage(image, view.left, view.top, width, height);
    context.globalAlpha = 1;
  }
  if (element && shows.value === "element") {
    const image = picture(api.elementUrl(element.id, Math.min(frame.value, element.frames - 1), pixels, true));
    if (image) context.drawImage(image, view.left, view.top, width, height);
    context.strokeStyle = colour("mark");
    context.setLineDash([5, 4]);
    const [x, y] = toCanvas(view, element.left - 0.5, element.top - 0.5);
    context.strokeRect(x, y, element.width * view.scale, element.height * view.scale);
    context.setLineDash([]);
  }
  const marked = boxOf(shown.segment) ?? box.value;
  if (!marked) return;
  const [left, top] = toCanvas(view, marked[0] - 0.5, marked[1] - 0.5), [right, bottom] = toCanvas(view, marked[2] + 0.5, marked[3] + 0.5);
  context.lineWidth = 2;
  context.strokeStyle = colour("mark");
  if (marked[0] === marked[2]) {
    context.beginPath();
    context.arc((left + right) / 2, (top + bottom) / 2, 8, 0, 2 * Math.PI);
    context.stroke();
  } else context.strokeRect(left, top, right - left, bottom - top);
}

/** @typedef {[number, number, number, number]} Box left, top, right, bottom */
/** The box that is being dragged. */
const box = signal(/** @type {Box|null} */ (null));

/** The point or box in a segmenter's text. @param {string|null|undefined} segment @returns {Box|null} */
function boxOf(segment) {
  const found = segment?.match(/^(?:point|box):([-\d.,]+)$/)?.[1].split(",").map(Number);
  return found ? /** @type {Box} */ ([...found, ...found].slice(0, 4)) : null;
}

/** The colour of a clip's frame at a point: the mean of 3 x 3 pixels.
 * @param {api.Clip} clip @param {number|null} fps @param {number} at frame @param {number} x @param {number} y */
async function colourAt(clip, fps, at, x, y) {
  const image = new Image();
  image.src = api.frameUrl(clip.id, {fps}, at, Math.min(clip.width, 4096), "png");
  await image.decode();
  const canvas = new OffscreenCanvas(3, 3);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const scale = image.naturalWidth / clip.width;
  context.drawImage(image, Math.round((x + 0.5) * scale) - 1.5, Math.round((y + 0.5) * scale) - 1.5, 3, 3, 0, 0, 3, 3);
  const data = context.getImageData(0, 0, 3, 3).data;
  const mean = [0, 1, 2].map((c) => Math.round([...Array(9).keys()].reduce((sum, i) => sum + data[4 * i + c], 0) / 9));
  return `#${mean.map((v) => v.toString(16).padStart(2, "0")).join("")}`;
}

export function ElementStage() {
  const shown = layer.value, clip = shown && clips.value[shown.foreground], element = elementOf(shown);
  const start = useRef(/** @type {[number, number]|null} */ (null));
  /** The pixel of the clip; null outside. @param {PointerEvent} event @returns {[number, number]|null} */
  const where = (event) => {
    if (!clip) return null;
    const place = /** @type {HTMLElement} */ (event.currentTarget).getBoundingClientRect();
    const [x, y] = toVideo(fit(clip, place, 0.02), event.clientX - place.left, event.clientY - place.top).map(Math.round);
    return x < 0 || y < 0 || x >= clip.width || y >= clip.height ? null : [x, y];
  };
  /** @param {PointerEvent} event */
  const down = async (event) => {
    const at = where(event), what = clicking.value;
    if (!clip || !at || what === "none") return;
    playing.value = false;
    if (what === "segment") {
      /** @type {HTMLElement} */ (event.currentTarget).setPointerCapture(event.pointerId);
      start.current = at;
    } else if (what === "colour") {
      clicking.value = "none";
      const key = await colourAt(clip, element?.fps ?? null, frame.value, ...at);
      editLayer({key, mask: null, segment: undefined});
      announce(`The key is ${key}`);
    } else {
      clicking.value = "none";
      await changeRegion(...at, what === "add");
    }
  };
  /** @param {PointerEvent} event */
  const move = (event) => {
    const from = start.current, to = where(event);
    if (!from || !to) return;
    const wide = Math.abs(to[0] - from[0]) > 3 && Math.abs(to[1] - from[1]) > 3;
    box.value = wide ? [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])] : null;
  };
  const up = () => {
    if (!start.current) return;
    const segment = box.value ? `box:${box.value.join(",")}` : `point:${start.current.join(",")}`;
    start.current = null;
    box.value = null;
    clicking.value = "none";
    editLayer({segment, key: "auto", mask: null});
    announce(`The element is cut out around ${segment}`);
  };
  return html`
    <${Surface} draw=${draw} id="element-canvas" cursor=${clicking.value === "none" ? "default" : "crosshair"}
      label=${`Element of layer ${layerIndex.value + 1} on a checkerboard`} help="element-keys" on=${{onPointerDown: down, onPointerMove: move, onPointerUp: up}} />
    <p id="element-keys" class="hidden">The key, the segmenter and the points of regions are also fields beside the picture.</p>
    <${Transport} frames=${element?.frames ?? clip?.frames ?? 1} />`;
}
