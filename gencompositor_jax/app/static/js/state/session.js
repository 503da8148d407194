// What a tab keeps over a reload: its document, what is selected and the run that it shows. And the theme.

import {effect, signal} from "../dom.js";
import {shownId} from "./runs.js";
import {begin, doc, frame, layerIndex, tab} from "./store.js";

const KEY = "gencompositor-studio", THEME = "gencompositor-studio-theme";

/** @typedef {"auto"|"dark"|"light"} Theme */
export const theme = signal(/** @type {Theme} */ (localStorage.getItem(THEME) ?? "auto"));

/** Restores the tab, then keeps it. sessionStorage is the tab's own, so that two tabs don't meet. */
export function keepSession() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    if (kept) {
      begin(kept.doc);
      layerIndex.value = kept.layer;
      frame.value = kept.frame;
      tab.value = kept.tab;
      shownId.value = kept.run;
    }
  } catch { sessionStorage.removeItem(KEY); }
  effect(() => {
    const now = {doc: doc.value, layer: layerIndex.value, frame: frame.value, tab: tab.value, run: shownId.value};
    try { sessionStorage.setItem(KEY, JSON.stringify(now)); } catch { /* full: a reload starts afresh */ }
  });
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
    if (theme.value === "auto") localStorage.removeItem(THEME);
    else localStorage.setItem(THEME, theme.value);
  });
}
