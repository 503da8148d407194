// The canvas of the trajectory: pointer and keys to the pure functions of path/.

import * as api from "../api.js";
import {drawCurve, drawElement, drawFrame, drawFrames, drawGuides, drawPoints} from "../canvas/draw.js";
import {arrived, picture} from "../canvas/frames.js";
import {Surface, colour} from "../canvas/surface.js";
import {fit, toVideo} from "../canvas/view.js";
import {html, signal, untracked, useRef} from "../dom.js";
import {resolve, spread} from "../path/curve.js";
import * as points from "../path/edit.js";
import {spanOf, timeAt} from "../state/document.js";
import {elementOf} from "../state/elements.js";
import {announce, editPoints, frame, frameOf, layer, layerIndex, length, playing, plate, pointIndex, project, settle} from "../state/store.js";
import {trackPoint} from "../state/tracking.js";
import {Transport} from "./transport.js";

const REACH = 12, STROKE = 7; // CSS pixels: of a hit; from which a movement is a stroke
export const snapping = signal(true);
export const ghosts = signal(true);
/** Whether the next click is the point to track. */
export const tracking = signal(false);

const guides = signal(/** @type {{x: number|null, y: number|null}} */ ({x: null, y: null}));
const stroke = signal(/** @type {{x: number, y: number}[]} */ ([]));

/** @param {import("../state/document.js").Layer} shown @param {number[]} at */
const pathOf = (shown, at) => resolve(shown.trajectory.keyframes, at, shown);

/** @param {CanvasRenderingContext2D} context @param {{width: number, height: number}} size */
function draw(context, size) {
  const video = plate.value, here = frame.value;
  if (!video) return;
  arrived.value;
  const view = fit(video, size);
  const width = Math.min(Math.ceil((video.width * view.scale * devicePixelRatio) / 160) * 160, video.width);
  drawFrame(context, view, video, picture(frameOf(project.value.background.path, project.value.background, Math.min(here, video.frames - 1), width)));
  project.value.layers.forEach((/** @type {any} */ each, /** @type {number} */ i) => drawLayer(context, view, each, i === layerIndex.value));
  drawGuides(context, view, video, guides.value, colour("mark"));
  if (stroke.value.length > 1)
    drawCurve(context, view, {x: stroke.value.map((p) => p.x), y: stroke.value.map((p) => p.y)}, "#fff", 2);
}

/** @param {CanvasRenderingContext2D} context @param {import("../canvas/view.js").View} view
 * @param {import("../state/document.js").Layer} shown @param {boolean} chosen */
function drawLayer(context, view, shown, chosen) {
  const keys = shown.trajectory.keyframes;
  if (!keys.length) return;
  const [first, last] = spanOf(shown, length.value), frames = spread(last - first + 1);
  const path = pathOf(shown, frames), element = elementOf(shown);
  if (element) {
    const curve = pathOf(shown, [0]);
    if (chosen && ghosts.value && !playing.value) curve.keyTimes.forEach((t) => ghost(context, view, shown, element, t, 0.3));
    const now = timeAt(shown, length.value, frame.value);
    if (now >= 0 && now <= 1) ghost(context, view, shown, element, now, chosen ? 1 : 0.7);
  }
  const line = chosen ? colour("mark") : "#cfcfcf";
  drawCurve(context, view, pathOf(shown, spread(200)), line, chosen ? 2 : 1);
  if (!chosen) return;
  drawFrames(context, view, path, line);
  drawPoints(context, view, keys, pointIndex.value, line);
}

/** @param {CanvasRenderingContext2D} context @param {import("../canvas/view.js").View} view
 * @param {import("../state/document.js").Layer} shown @param {api.Element} element @param {number} time
 * @param {number} opacity */
function ghost(context, view, shown, element, time, opacity) {
  const [first, last] = spanOf(shown, length.value);
  const played = Math.round(time * (last - first)) % element.frames; // "hold" is drawn by the preview
  const image = picture(api.elementUrl(element.id, played, 480));
  if (!image) return;
  const {x, y, scale, rotation} = pathOf(shown, [time]);
  drawElement(context, view, image, element, shown.anchor, {x: x[0], y: y[0], scale: scale[0], rotation: rotation[0]}, opacity);
}

export function PathStage() {
  // The handlers read the signals when they run: several events may come before the next drawing.
  const drag = useRef(/** @type {null|{index: number, dx: number, dy: number}|{start: [number, number]}} */ (null));
  /** @param {PointerEvent} event @returns {{x: number, y: number, reach: number, snap: boolean}} */
  const where = (event) => {
    const box = /** @type {HTMLElement} */ (event.currentTarget).getBoundingClientRect();
    const view = fit(/** @type {any} */ (plate.value), box);
    const [x, y] = toVideo(view, event.clientX - box.left, event.clientY - box.top);
    return {x, y, reach: REACH / view.scale, snap: snapping.value !== (event.ctrlKey || event.metaKey)};
  };
  /** @param {PointerEvent} event */
  const down = (event) => {
    const video = plate.value, shown = layer.value;
    if (!video || !shown || event.button !== 0) return;
    playing.value = false;
    const {x, y, reach} = where(event), keys = shown.trajectory.keyframes;
    /** @type {HTMLElement} */ (event.currentTarget).setPointerCapture(event.pointerId);
    if (tracking.value) {
      tracking.value = false;
      trackPoint(x, y);
      return;
    }
    const hit = points.hitPoint(keys, x, y, reach);
    if (hit >= 0 && event.altKey) return remove(hit);
    if (hit >= 0) {
      pointIndex.value = hit;
      drag.current = {index: hit, dx: keys[hit].x - x, dy: keys[hit].y - y};
      return;
    }
    const curve = keys.length > 1 ? pathOf(shown, spread(200)) : null;
    // Along the curve in order: without the layer's easing, under which keys are reached later.
    const plain = keys.length > 1 ? resolve(keys, spread(200)) : null;
    const index = curve && plain ? points.hitCurve(plain, plain.keyTimes, x, y, reach * 0.7) : -1;
    if (index > 0) {
      add(index, {x, y});
      drag.current = {index, dx: 0, dy: 0};
      return;
    }
    drag.current = {start: [x, y]};
    stroke.value = [{x, y}];
  };
  /** @param {PointerEvent} event */
  const move = (event) => {
    const now = drag.current, video = plate.value, shown = layer.value;
    if (!now || !video || !shown) return;
    const {x, y, reach, snap} = where(event);
    if ("start" in now) {
      stroke.value = [...stroke.value, {x, y}];
      return;
    }
    const keys = shown.trajectory.keyframes, size = points.snapLines(keys, now.index, video.width, video.height);
    const to = points.snap(x + now.dx, y + now.dy, size, snap ? reach * 0.5 : -1);
    guides.value = to.guides;
    editPoints(points.change(keys, now.index, {x: points.round(to.x, 1), y: points.round(to.y, 1)}), now.index, `drag ${now.index}`);
  };
  /** @param {PointerEvent} event */
  const up = (event) => {
    const now = drag.current, shown = layer.value;
    drag.current = null;
    guides.value = {x: null, y: null};
    settle();
    if (!now || !shown) return;
    if (!("start" in now)) return sayPoint(now.index);
    const drawn = stroke.value, {reach} = where(event);
    stroke.value = [];
    const moved = drawn.some((p) => Math.hypot(p.x - drawn[0].x, p.y - drawn[0].y) > (reach * STROKE) / REACH);
    if (!moved) return add(shown.trajectory.keyframes.length, drawn[0]);
    const kept = points.simplify(drawn, reach / 3).map((p) => ({x: points.round(p.x, 1), y: points.round(p.y, 1)}));
    const keys = points.clearTimes(shown.trajectory.keyframes);
    editPoints([...(keys.length > 1 ? keys : []), ...kept], keys.length + kept.length - 1);
    announce(`A stroke of ${kept.length} points`);
  };
  /** @param {KeyboardEvent} event */
  const key = (event) => {
    const video = plate.value, shown = layer.value;
    if (!shown || !video || event.ctrlKey || event.metaKey) return;
    const keys = shown.trajectory.keyframes, i = pointIndex.value, step = event.shiftKey ? 10 : 1;
    /** @type {Record<string, [number, number]>} */
    const arrows = {ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step]};
    const by = arrows[event.key];
    if (by && i >= 0) editPoints(points.change(keys, i, {x: keys[i].x + by[0], y: keys[i].y + by[1]}), i, `keys ${i}`);
    else if (event.key === "n" || event.key === "p") select((Math.max(i, event.key === "n" ? -1 : 0) + (event.key === "n" ? 1 : keys.length - 1)) % Math.max(1, keys.length));
    else if (event.key === "Enter" || event.key === "Insert") addAfter();
    else if ((event.key === "Delete" || event.key === "Backspace") && i >= 0) remove(i);
    else if ("+-".includes(event.key) && i >= 0) resize(i, event.key === "+" ? 1.05 : 1 / 1.05);
    else if (",.".includes(event.key) && i >= 0) turn(i, event.key === "," ? 5 : -5);
    else if (event.key === " ") playing.value = !playing.value;
    else if (event.key === "Escape") { pointIndex.value = -1; tracking.value = false; }
    else return;
    event.preventDefault();
    if (by) sayPoint(i);
  };
  /** @param {WheelEvent} event */
  const wheel = (event) => {
    if (!layer.value || pointIndex.value < 0) return;
    event.preventDefault();
    const by = -Math.sign(event.deltaY || event.deltaX); // Shift turns the wheel sideways
    if (event.shiftKey) turn(pointIndex.value, 2 * by);
    else resize(pointIndex.value, 1.05 ** by);
  };
  const cursor = tracking.value ? "cell" : "crosshair";
  return html`
    <${Surface} draw=${draw} id="path-canvas" cursor=${cursor} help="path-keys"
      label=${`Trajectory of layer ${layerIndex.value + 1}: ${layer.value?.trajectory.keyframes.length ?? 0} points`}
      on=${{onPointerDown: down, onPointerMove: move, onPointerUp: up, onPointerCancel: up, onKeyDown: key, onWheel: wheel, onBlur: settle}} />
    <p id="path-keys" class="hidden">Enter adds a point, n and p select the next and the previous one, arrow keys move it
      by a pixel, with Shift by ten, plus and minus scale the element there, comma and full stop turn it, Delete removes it. The fields beside the picture have the same numbers.</p>
    <${Transport} />`;
}

/** @param {number} index */
function select(index) {
  pointIndex.value = index;
  sayPoint(index);
}

/** @param {number} index */
export function sayPoint(index) {
  const keys = untracked(() => layer.value?.trajectory.keyframes ?? []), p = keys[index];
  if (p) announce(`Point ${index + 1} of ${keys.length} at ${Math.round(p.x)}, ${Math.round(p.y)}`);
}

/** @param {number} index @param {{x: number, y: number}} point */
function add(index, {x, y}) {
  const keys = layer.value?.trajectory.keyframes ?? [];
  editPoints(points.insert(keys, index, {x: points.round(x, 1), y: points.round(y, 1)}), index);
  sayPoint(index);
}

/** A point after the selected one: between it and the next, or a tenth of the frame on; the first in the middle. */
export function addAfter() {
  const keys = layer.value?.trajectory.keyframes ?? [], video = plate.value;
  if (!video || !layer.value) return;
  const i = pointIndex.value < 0 ? keys.length - 1 : pointIndex.value;
  if (!keys.length) return add(0, {x: (video.width - 1) / 2, y: (video.height - 1) / 2});
  if (i === keys.length - 1) return add(i + 1, {x: keys[i].x + video.width / 10, y: keys[i].y});
  const {x, y} = resolve(keys, spread(200)), times = resolve(keys, [0]).keyTimes;
  const middle = Math.round(((times[i] + times[i + 1]) / 2) * 199);
  add(i + 1, {x: x[middle], y: y[middle]});
}

/** The element's scale at a point, times a factor. @param {number} index @param {number} factor */
function resize(index, factor) {
  const keys = layer.value?.trajectory.keyframes ?? [], now = keys[index].scale ?? own(keys, index).scale;
  editPoints(points.change(keys, index, {scale: points.round(now * factor, 3)}), index, `scale ${index}`);
  announce(`Scale ${points.round(now * factor, 2)}`);
}

/** The element's rotation at a point, in degrees more. @param {number} index @param {number} degrees */
function turn(index, degrees) {
  const keys = layer.value?.trajectory.keyframes ?? [], now = keys[index].rotation ?? own(keys, index).rotation;
  editPoints(points.change(keys, index, {rotation: points.round(now + degrees, 1)}), index, `turn ${index}`);
  announce(`Rotation ${points.round(now + degrees, 1)} degrees`);
}

/** The scale and rotation that the key points have at one of them, without the layer's.
 * @param {import("../path/curve.js").KeyPoint[]} keys @param {number} index */
function own(keys, index) {
  const path = resolve(keys, [resolve(keys, [0]).keyTimes[index]]);
  return {scale: path.scale[0], rotation: path.rotation[0]};
}

/** @param {number} index */
export function remove(index) {
  const keys = layer.value?.trajectory.keyframes ?? [];
  editPoints(points.remove(keys, index), Math.max(0, index - 1));
  announce(`Point ${index + 1} is removed, ${keys.length - 1} left`);
}
