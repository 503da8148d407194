// The document that is edited and undone: the project and the strokes of the removal's brush. Pure functions.

import {isTimed, spread} from "../path/curve.js";

/** @typedef {import("../path/curve.js").KeyPoint} KeyPoint */
/** @typedef {{foreground: string, trajectory: {keyframes: KeyPoint[], timing?: string, relative?: boolean,
 *   track?: boolean}, scales: number[], rotations: number[], key: string, alpha: string, mask: string|null,
 *   anchor: "center"|"bottom", extend: string, in_frame?: number, out_frame?: number|null, easing?: string,
 *   segment?: string|null}} Layer */
/** @typedef {{points: [number, number][], radius: number, erase: boolean} | {box: [number, number, number, number],
 *   erase: boolean}} Stroke */
/** @typedef {{project: any, strokes: Stroke[]}} Doc */

/** @returns {Doc} */
export function emptyDoc() {
  return {project: {version: 1, background: null, layers: [], seed: 42}, strokes: []};
}

/** @param {Doc} doc @param {any} change of the project's fields @returns {Doc} */
export function withFields(doc, change) {
  return {...doc, project: {...doc.project, ...change}};
}

/** @param {Doc} doc @param {number} index @param {Partial<Layer>} change @returns {Doc} */
export function withLayer(doc, index, change) {
  const layers = doc.project.layers.map((/** @type {Layer} */ l, /** @type {number} */ i) =>
    i === index ? {...l, ...change} : l);
  return withFields(doc, {layers});
}

/** A layer's key points replaced. They have times all or none, which is the trajectory's timing.
 * @param {Doc} doc @param {number} index @param {KeyPoint[]} points @returns {Doc} */
export function withPoints(doc, index, points) {
  const timed = isTimed(points);
  const keyframes = points.map((p) => clean(timed ? p : {...p, easing: undefined}));
  return withLayer(doc, index, {trajectory: {keyframes, timing: timed ? "time" : "arc"}});
}

/** @param {any} point @returns {KeyPoint} without the fields that aren't set */
function clean(point) {
  return /** @type {any} */ (Object.fromEntries(Object.entries(point).filter(([, value]) => value != null)));
}

/** The layer of a new element: a third of the background high.
 * @param {{path: string, height: number}} clip @param {{height: number}|null} background @returns {Layer} */
export function newLayer(clip, background) {
  const scale = background ? Math.min(1, background.height / 3 / clip.height) : 1;
  return {
    foreground: clip.path,
    trajectory: {keyframes: [], timing: "arc"},
    scales: [Number(scale.toPrecision(2))],
    rotations: [0],
    key: "auto",
    alpha: "auto",
    mask: null,
    anchor: "center",
    extend: "hold",
  };
}

/** @param {Doc} doc @param {number} index @param {number} by 1 is one up, towards the viewer @returns {Doc} */
export function moveLayer(doc, index, by) {
  const layers = [...doc.project.layers], to = index + by;
  if (to < 0 || to >= layers.length) return doc;
  [layers[index], layers[to]] = [layers[to], layers[index]];
  return withFields(doc, {layers});
}

/** @param {Doc} doc @param {number} index @returns {Doc} */
export function removeLayer(doc, index) {
  return withFields(doc, {layers: doc.project.layers.filter((/** @type {any} */ _, /** @type {number} */ i) => i !== index)});
}

/** A project of the server as it is edited here: in pixels, and recordings with a time per point.
 * @param {any} project @param {{width: number, height: number}} size of the background @returns {Doc} */
export function fromProject(project, size) {
  const layers = project.layers.map((/** @type {Layer} */ layer) => {
    const {keyframes, relative, timing, track} = layer.trajectory;
    let points = keyframes.map(clean);
    if (relative) points = points.map((p) => ({...p, x: p.x * size.width - 0.5, y: p.y * size.height - 0.5}));
    if (timing === "frames") points = points.map((p, i) => ({...p, time: spread(points.length)[i]}));
    const timed = isTimed(points);
    return {...layer, trajectory: {keyframes: points, timing: timed ? "time" : "arc", ...(track ? {track} : {})}};
  });
  return {project: {...project, layers}, strokes: []};
}

/** What is missing before anything can be shown: a field and what to do, or null.
 * @param {Doc} doc @returns {{field: string, text: string}|null} */
export function missing({project, strokes}) {
  if (!project.background) return {field: "background", text: "Choose a background first."};
  if (!project.layers.length && !project.remove && !strokes.length)
    return {field: "layers", text: "Add an element, or paint what is to be removed."};
  const empty = project.layers.findIndex((/** @type {Layer} */ l) => !l.trajectory.keyframes.length);
  if (empty >= 0) return {field: `layers[${empty}].trajectory`, text: "Click on the picture to draw where this element goes."};
  return null;
}

/** The frames of a layer in a clip of `frames` frames, first and last.
 * @param {Layer} layer @param {number} frames @returns {[number, number]} */
export function spanOf(layer, frames) {
  const first = Math.min(layer.in_frame ?? 0, frames - 1);
  return [first, Math.max(first, Math.min(layer.out_frame ?? frames - 1, frames - 1))];
}

/** The time of a frame within the layer's own frames: 0..1 inside, outside where the layer isn't there.
 * @param {Layer} layer @param {number} frames @param {number} frame */
export function timeAt(layer, frames, frame) {
  const [first, last] = spanOf(layer, frames);
  return last > first ? (frame - first) / (last - first) : frame < first ? -1 : frame > first ? 2 : 0;
}

/** Numbers separated by commas or spaces; null if one of them isn't a number.
 * @param {string} text @returns {number[]|null} */
export function numbers(text) {
  const values = text.split(/[\s,;]+/).filter(Boolean).map(Number);
  return values.length && values.every(Number.isFinite) ? values : null;
}
