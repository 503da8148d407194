// The element of the selected layer on a checkerboard; clicks pick a colour, or add and remove regions.

import * as api from "../api.js";
import {drawChecker} from "../canvas/checker.js";
import {arrived, picture} from "../canvas/frames.js";
import {Surface, colour} from "../canvas/surface.js";
import {fit, toCanvas, toVideo} from "../canvas/view.js";
import {html, signal} from "../dom.js";
import {elementOf} from "../state/elements.js";
import {announce, clips, editLayer, frame, layer, layerIndex, playing} from "../state/store.js";
import {addRegion, regionsOf} from "../state/segment.js";
import {Transport} from "./transport.js";

/** What is shown: the cut-out element or the clip itself; and what lies behind it. */
export const shows = signal(/** @type {"element"|"clip"} */ ("element"));
export const ground = signal(/** @type {"squares"|"black"|"white"} */ ("squares"));
/** What a click does. */
export const clicking = signal(/** @type {"none"|"colour"|"add"|"remove"} */ ("none"));

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
  for (const region of regionsOf(shown.segment)) {
    const [x, y] = toCanvas(view, region.x, region.y);
    context.beginPath();
    context.arc(x, y, 8, 0, 2 * Math.PI);
    context.fillStyle = region.add ? "#1d7a3e" : "#b3261e";
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = "#fff";
    context.stroke();
    context.beginPath();
    context.moveTo(x - 4, y);
    context.lineTo(x + 4, y);
    if (region.add) { context.moveTo(x, y - 4); context.lineTo(x, y + 4); }
    context.stroke();
  }
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
  /** @param {PointerEvent} event */
  const down = async (event) => {
    if (!shown || !clip || clicking.value === "none") return;
    playing.value = false;
    const box = /** @type {HTMLElement} */ (event.currentTarget).getBoundingClientRect();
    const [x, y] = toVideo(fit(clip, box, 0.02), event.clientX - box.left, event.clientY - box.top);
    if (x < -0.5 || y < -0.5 || x > clip.width - 0.5 || y > clip.height - 0.5) return;
    if (clicking.value === "colour") {
      const key = await colourAt(clip, element?.fps ?? null, frame.value, x, y);
      clicking.value = "none";
      editLayer({key, mask: null, segment: undefined});
      announce(`The key is ${key}`);
    } else addRegion(Math.round(x), Math.round(y), (clicking.value === "add") !== event.altKey);
  };
  return html`
    <${Surface} draw=${draw} id="element-canvas" cursor=${clicking.value === "none" ? "default" : "crosshair"}
      label=${`Element of layer ${layerIndex.value + 1} on a checkerboard`} help="element-keys" on=${{onPointerDown: down}} />
    <p id="element-keys" class="hidden">The key, and the points of regions, are also fields beside the picture.</p>
    <${Transport} frames=${element?.frames ?? clip?.frames ?? 1} />`;
}
