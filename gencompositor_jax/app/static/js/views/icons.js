// Line icons on a grid of 16.

import {html} from "../dom.js";

/** @type {Record<string, string>} */
const PATHS = {
  play: "M5 3.5v9l7.5-4.5z", pause: "M5 3.5v9M11 3.5v9", back: "M10 4l-4 4 4 4", next: "M6 4l4 4-4 4",
  undo: "M3.5 6.5h6a3.5 3.5 0 0 1 0 7h-3M6 4L3.5 6.5 6 9", redo: "M12.5 6.5h-6a3.5 3.5 0 0 0 0 7h3M10 4l2.5 2.5L10 9",
  up: "M8 13V3.5M4 7.5l4-4 4 4", down: "M8 3v9.5M4 8.5l4 4 4-4", trash: "M3 4.5h10M6.5 4.5v-2h3v2M4.5 4.5l.5 9h6l.5-9",
  add: "M8 3v10M3 8h10", restore: "M3 8a5 5 0 1 1 1.6 3.7M3 12.5V8.8h3.7", theme: "M8 2a6 6 0 0 0 0 12zM8 2a6 6 0 0 1 0 12",
  open: "M2 12.5v-9h4l1.5 1.5H14v7.5z", save: "M8 2.5v8M4.5 7.5L8 11l3.5-3.5M3 13.5h10", close: "M4 4l8 8M12 4l-8 8",
};

/** @param {{name: string}} props */
export function Icon({name}) {
  return html`<svg class="svg" viewBox="0 0 16 16" aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>`;
}
