// The live preview: asked for again when the project has rested, while a view shows it.

import * as api from "../api.js";
import {effect, signal} from "../dom.js";
import {Refusal} from "../errors.js";
import {missing} from "./document.js";
import {finished} from "./masks.js";
import {accept, doc, plate, refuse, tab} from "./store.js";

export const preview = signal(/** @type {api.Preview|null} */ (null));
export const show = signal(/** @type {string[]} */ (["paste"]));
/** Whether the preview shown is older than the document. */
export const stale = signal(false);

const BUSY = 503; // other previews are being made
const again = signal(0);

export function followPreview() {
  /** @type {AbortController|null} */
  let asked = null;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let timer;
  /** @type {any} */
  let shown = null;
  effect(() => {
    const now = doc.value;
    again.value;
    if (tab.value !== "preview" || !plate.value || missing(now)) return;
    if (now === shown) return;
    stale.value = true;
    clearTimeout(timer);
    asked?.abort();
    timer = setTimeout(async () => {
      const control = (asked = new AbortController());
      try {
        const made = await api.preview(await finished(now), control.signal);
        if (control.signal.aborted) return;
        shown = now;
        accept("preview");
        preview.value = made;
        stale.value = false;
      } catch (error) {
        if (control.signal.aborted) return;
        if (error instanceof Refusal && error.status === BUSY) {
          timer = setTimeout(() => { again.value++; }, 500);
          return;
        }
        refuse(error, "preview");
        preview.value = null;
        stale.value = false;
      }
    }, 120);
  });
}
