// The cut-out elements of the layers, asked for again when what decides them changes.

import * as api from "../api.js";
import {effect, signal, untracked} from "../dom.js";
import {accept, plate, project, refuse} from "./store.js";

/** @typedef {import("./document.js").Layer} Layer */

/** By the key of what decides them; null while the server cuts one out. */
export const elements = signal(/** @type {Record<string, api.Element|null>} */ ({}));

/** @param {Layer} layer @param {number|null} fps */
function keyOf(layer, fps) {
  const {foreground, key, alpha, mask, segment} = layer;
  return JSON.stringify({foreground, key, alpha, mask, segment, fps});
}

/** @param {Layer|undefined} layer @returns {api.Element|null} */
export function elementOf(layer) {
  return layer ? elements.value[keyOf(layer, plate.value?.fps ?? null)] ?? null : null;
}

/** Asks for the elements of all layers once a change has rested. */
export function followElements() {
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let timer;
  effect(() => {
    const fps = plate.value?.fps ?? null, known = elements.value;
    const wanted = project.value.layers.map((/** @type {Layer} */ layer, /** @type {number} */ index) => ({layer, index, key: keyOf(layer, fps)}))
      .filter((/** @type {{key: string}} */ w) => !(w.key in known));
    clearTimeout(timer);
    // An undo brings back what was cut out before.
    untracked(() => project.value.layers.forEach((/** @type {Layer} */ layer, /** @type {number} */ i) => elementOf(layer) && accept(`element ${i}`)));
    if (!wanted.length || !plate.value) return;
    timer = setTimeout(() => wanted.forEach((/** @type {any} */ w) => cut(w.layer, w.index, w.key, fps)), 150);
  });
}

/** @param {Layer} layer @param {number} index @param {string} key @param {number|null} fps */
async function cut(layer, index, key, fps) {
  elements.value = {...elements.value, [key]: null};
  const {foreground, alpha, mask, segment} = layer;
  const asked = {foreground, key: layer.key, alpha, mask, ...(segment == null ? {} : {segment})};
  try {
    const made = await api.element(asked, fps);
    elements.value = {...elements.value, [key]: made};
    accept(`element ${index}`);
  } catch (error) {
    refuse(error, `element ${index}`, `layers[${index}].key`);
  }
}

/** How the selected layer's element was found, in words. @param {api.Element} element */
export function describe(element) {
  const by = {alpha: "its alpha", mask: "the mask clip", segment: "segmentation"}[element.key_name]
    ?? `a ${element.key_name === "colour" ? element.key : element.key_name} background`;
  return `${element.width} × ${element.height} pixels, ${element.frames} frames, cut out by ${by}`;
}
