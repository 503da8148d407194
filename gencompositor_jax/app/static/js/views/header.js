// The bar: project, undo, theme, compose.

import {html, useRef} from "../dom.js";
import {openFiles, saveProject, useExample} from "../state/clips.js";
import {finished} from "../state/masks.js";
import {cancel, compose, isOver, shown, submitting, tellMissing} from "../state/runs.js";
import {theme} from "../state/session.js";
import {busy, canRedo, canUndo, doc, project, redoEdit, refuse, undoEdit} from "../state/store.js";
import {Icon} from "./icons.js";

/** @type {Record<string, import("../state/session.js").Theme>} */
const NEXT = {auto: "light", light: "dark", dark: "auto"};

async function save() {
  if (tellMissing("save")) return;
  try {
    await saveProject(await finished(doc.value));
  } catch (error) {
    refuse(error, "save");
  }
}

export function Header() {
  const input = useRef(/** @type {HTMLInputElement|null} */ (null)), run = shown.value, running = run && !isOver(run);
  const progress = run?.progress;
  return html`<header class="bar">
    <h1><svg viewBox="0 0 24 24" aria-hidden="true"><path d="M3 19C8 19 8 6 14 6" /><circle cx="18" cy="6" r="3.4" /></svg>Studio</h1>
    <nav aria-label="Project">
      <button onClick=${() => useExample()}>Example</button>
      <label class="button"><${Icon} name="open" />Open<input ref=${input} type="file" class="covered" multiple accept=".json,video/*,image/*" aria-label="Open a project file, with its clips"
        onChange=${() => { if (input.current?.files?.length) openFiles([...input.current.files]); if (input.current) input.current.value = ""; }} /></label>
      <button onClick=${save} disabled=${!project.value.background}><${Icon} name="save" />Save</button>
      <span class="gap"></span>
      <button class="icon" aria-label="Undo" aria-keyshortcuts="Control+Z" disabled=${!canUndo.value} onClick=${undoEdit}><${Icon} name="undo" /></button>
      <button class="icon" aria-label="Redo" aria-keyshortcuts="Control+Shift+Z" disabled=${!canRedo.value} onClick=${redoEdit}><${Icon} name="redo" /></button>
    </nav>
    <p class="busy" role="status">${busy.value}</p>
    <button class="icon" aria-label=${`Theme: ${theme.value}`} title=${`Theme: ${theme.value}`} onClick=${() => { theme.value = NEXT[theme.value]; }}><${Icon} name="theme" /></button>
    ${running && html`<span class="mono dim" aria-hidden="true">${run.state === "queued" ? "queued" : progress ? `${progress.done}/${progress.total}` : "loading"}</span>
      <button onClick=${() => cancel(run)}>Cancel</button>`}
    <button class="primary" onClick=${compose} disabled=${submitting.value}>Compose</button>
  </header>`;
}
