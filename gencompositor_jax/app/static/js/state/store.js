// What the page shows: the document with its undo, and what is selected. Signals; views read them.

import {batch, computed, signal} from "../dom.js";
import {frameUrl} from "../api.js";
import {Refusal, fieldOf, said} from "../errors.js";
import * as undo from "../undo.js";
import {emptyDoc, spanOf, withFields, withLayer, withPoints} from "./document.js";

/** @typedef {import("./document.js").Doc} Doc */
/** @typedef {import("./document.js").Layer} Layer */
/** @typedef {import("../api.js").Clip} Clip */

const UNAUTHORISED = 401;

const steps = signal(undo.begin(emptyDoc()));
export const doc = computed(() => steps.value.present);
export const project = computed(() => doc.value.project);
export const canUndo = computed(() => steps.value.past.length > 0);
export const canRedo = computed(() => steps.value.future.length > 0);

/** Clips by their path, as the server describes them. */
export const clips = signal(/** @type {Record<string, Clip>} */ ({}));
/** The URL of a clip's frame; null until the clip is known.
 * @param {string} path @param {import("../api.js").Part} part @param {number} at @param {number} width @param {string} [format] */
export function frameOf(path, part, at, width, format) {
  const clip = clips.value[path];
  return clip ? frameUrl(clip.id, part, at, width, format) : null;
}

/** The background as the project trims it. */
export const plate = signal(/** @type {Clip|null} */ (null));

export const tab = signal(/** @type {"path"|"element"|"remove"|"preview"|"result"} */ ("path"));
export const layerIndex = signal(0);
export const pointIndex = signal(-1);
export const frame = signal(0);
export const playing = signal(false);
export const layer = computed(() => /** @type {Layer|undefined} */ (project.value.layers[layerIndex.value]));

/** Text for the live region. */
export const spoken = signal("");
/** The refusals that are shown: each beside its field, or in the banner. */
export const problems = signal(/** @type {{field: string|null, text: string, source: string}[]} */ ([]));
/** Whether the server asked for its token. */
export const signedOut = signal(false);
/** What the page waits for, as text; empty if nothing. */
export const busy = signal("");

/** Frames of the result, so far as the page knows: those of the background, or fewer if the project says so. */
export const length = computed(() => {
  const all = plate.value?.frames ?? 1;
  return Math.max(1, Math.min(project.value.frames ?? all, all));
});

/** @param {(doc: Doc) => Doc} change @param {string|null} [tag] steps with the same tag become one */
export function edit(change, tag = null) {
  batch(() => {
    steps.value = undo.push(steps.value, change(doc.value), tag);
    keepSelection();
  });
}

/** @param {any} change of the project's fields @param {string|null} [tag] */
export const editFields = (change, tag = null) => edit((d) => withFields(d, change), tag);

/** @param {Partial<Layer>} change @param {string|null} [tag] */
export const editLayer = (change, tag = null) => edit((d) => withLayer(d, layerIndex.value, change), tag);

/** @param {import("../path/curve.js").KeyPoint[]} points @param {number} select @param {string|null} [tag] */
export function editPoints(points, select, tag = null) {
  batch(() => {
    edit((d) => withPoints(d, layerIndex.value, points), tag);
    pointIndex.value = Math.min(select, points.length - 1);
  });
}

/** Ends a drag or a run of key presses: the next change is a step of its own. */
export function settle() {
  steps.value = undo.settle(steps.value);
}

export function undoEdit() {
  batch(() => { steps.value = undo.undo(steps.value); keepSelection(); });
}

export function redoEdit() {
  batch(() => { steps.value = undo.redo(steps.value); keepSelection(); });
}

/** Another document, from its beginning; undo brings the present one back.
 * @param {Doc} opened */
export function open(opened) {
  batch(() => {
    edit(() => opened);
    layerIndex.value = 0;
    pointIndex.value = -1;
    frame.value = 0;
    problems.value = [];
  });
}

/** The document of a tab that was reloaded. @param {Doc} kept */
export function begin(kept) {
  steps.value = undo.begin(kept);
}

function keepSelection() {
  const {layers} = project.value;
  if (layerIndex.value >= layers.length) layerIndex.value = Math.max(0, layers.length - 1);
  const points = layers[layerIndex.value]?.trajectory.keyframes.length ?? 0;
  if (pointIndex.value >= points) pointIndex.value = points - 1;
}

/** @param {number} index */
export function selectLayer(index) {
  batch(() => {
    layerIndex.value = index;
    pointIndex.value = -1;
    const chosen = project.value.layers[index];
    if (!chosen) return;
    const [first, last] = spanOf(chosen, length.value);
    frame.value = Math.min(Math.max(frame.value, first), last);
  });
}

/** @param {string} text */
export function announce(text) {
  spoken.value = text;
}

/** Shows an error of the server; `source` is replaced by the next one of the same source.
 * @param {unknown} error @param {string} source @param {string|null} [field] where it belongs if it names none */
export function refuse(error, source, field = null) {
  if (/** @type {any} */ (error)?.name === "AbortError") return;
  if (error instanceof Refusal && error.status === UNAUTHORISED) { signedOut.value = true; return; }
  if (!(error instanceof Refusal)) console.error(error);
  const detail = error instanceof Error ? error.message : String(error);
  const named = error instanceof Refusal ? layered(error.field) : null;
  const found = {field: named ?? fieldOf(detail, layerIndex.value) ?? field, text: said(detail), source};
  problems.value = [...problems.value.filter((p) => p.source !== source), found];
}

/** A layer's field that came without its layer, as of a request for one element. @param {string|null} field */
const layered = (field) => field && fieldOf(`${field}: `, layerIndex.value) || field;

/** @param {string} source */
export function accept(source) {
  if (problems.value.some((p) => p.source === source))
    problems.value = problems.value.filter((p) => p.source !== source);
}
