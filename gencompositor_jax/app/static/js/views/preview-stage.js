// The live preview: the rough paste and the mask, before any sampling.

import * as api from "../api.js";
import {drawFrame} from "../canvas/draw.js";
import {arrived, picture} from "../canvas/frames.js";
import {Surface} from "../canvas/surface.js";
import {fit} from "../canvas/view.js";
import {html, useMemo} from "../dom.js";
import {missing} from "../state/document.js";
import {preview, show, stale} from "../state/previews.js";
import {doc, frame, playing} from "../state/store.js";
import {Transport} from "./transport.js";

/** @param {api.Preview} made @param {number} at */
const urlOf = (made, at) => api.previewUrl(made.id, at, Math.min(made.width, 960), show.value.join(","));

let last = /** @type {HTMLImageElement|null} */ (null);

/** @param {CanvasRenderingContext2D} context @param {{width: number, height: number}} size */
function draw(context, size) {
  arrived.value;
  const made = preview.value;
  if (!made) return;
  const at = Math.min(frame.value, made.frames - 1), image = picture(urlOf(made, at));
  for (let ahead = 1; playing.value && ahead <= 4; ahead++) picture(urlOf(made, (at + ahead) % made.frames));
  last = image ?? last; // until the frame arrives
  if (last) drawFrame(context, fit(made, size, 0.02), made, last);
}

export function PreviewStage() {
  const made = preview.value, lacking = missing(doc.value), shown = show.value;
  const ready = useMemo(() => (/** @type {number} */ at) => !made || picture(urlOf(made, at)) !== null, [made, shown]);
  arrived.value;
  const busy = stale.value || !made || picture(urlOf(made, Math.min(frame.value, made.frames - 1))) === null;
  if (lacking) return html`<p class="empty">${lacking.text}</p>`;
  return html`
    <${Surface} draw=${draw} id="preview-canvas" busy=${busy} label="Preview: the rough paste, without the model" />
    ${stale.value && html`<p class="badge" role="status">Updating the preview</p>`}
    <${Transport} frames=${made?.frames ?? 1} fps=${made?.fps ?? 24} ready=${ready} />`;
}
