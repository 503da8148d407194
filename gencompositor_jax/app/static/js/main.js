// The page: restore the tab, draw it, then ask the server what it has.

import {html, render} from "./dom.js";
import {followClips} from "./state/clips.js";
import {followElements} from "./state/elements.js";
import {followPreview} from "./state/previews.js";
import {followRuns, refresh} from "./state/runs.js";
import {askServer} from "./state/server.js";
import {keepSession} from "./state/session.js";
import {redoEdit, spoken, undoEdit} from "./state/store.js";
import {Header} from "./views/header.js";
import {History} from "./views/history.js";
import {Background, Layers} from "./views/layers.js";
import {SignIn} from "./views/sign-in.js";
import {Panel, Stage} from "./views/stage.js";

function Page() {
  return html`<a class="skip" href="#stage">To the canvas</a>
    <${Header} />
    <aside class="side" aria-label="Clips, layers and runs"><${Background} /><${Layers} /><${History} /></aside>
    <${Stage} /><${Panel} /><${SignIn} />
    <p class="hidden" id="spoken" aria-live="polite">${spoken.value}</p>`;
}

/** @param {KeyboardEvent} event */
function shortcuts(event) {
  const typing = /** @type {HTMLElement} */ (event.target).matches?.("input[type=text], input[type=number], input[type=password], textarea");
  if (!(event.ctrlKey || event.metaKey) || event.altKey || typing) return;
  if (event.key.toLowerCase() === "z") event.shiftKey ? redoEdit() : undoEdit();
  else if (event.key === "y") redoEdit();
  else return;
  event.preventDefault();
}

keepSession();
render(html`<${Page} />`, /** @type {HTMLElement} */ (document.getElementById("page")));
document.addEventListener("keydown", shortcuts);
// A file dropped beside the places for it would replace the page.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
followClips();
followElements();
followPreview();
followRuns();
refresh();
requestAnimationFrame(() => {
  performance.mark("studio-ready");
  setTimeout(askServer, 0);
});
