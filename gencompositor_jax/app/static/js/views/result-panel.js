// The run that is shown: cancel, compare, download.

import * as api from "../api.js";
import {html} from "../dom.js";
import {cancel, isOver, restore, shown} from "../state/runs.js";
import {Choice, FieldError} from "./fields.js";
import {Icon} from "./icons.js";
import {compare} from "./wipe.js";
import {problems} from "../state/store.js";

/** @type {[string, string, string][]} */
const FILES = [["result", "Video", "MP4"], ["layer", "Edit layer", "MOV, ProRes 4444"], ["sheet", "Contact sheet", "PNG"], ["project", "Project file", "JSON"], ["report", "Report", "JSON"]];

export function ResultPanel() {
  const run = shown.value, failed = problems.value.find((p) => p.source === "run");
  if (!run) return html`<p class="note">No run is shown.</p>`;
  return html`
    <section aria-labelledby="run-title"><h2 id="run-title">Run</h2>
      <p class="facts"><span class=${`state ${run.state}`}>${run.state}</span>
        ${run.seconds != null && html`<span class="mono dim">${run.seconds.toFixed(1)} s on ${run.device ?? "?"}</span>`}</p>
      <${FieldError} id="run-error" text=${failed?.text ?? null} />
      <div class="row">${!isOver(run) && html`<button class="danger" onClick=${() => cancel(run)}>Cancel</button>`}
        <button onClick=${() => restore(run)}><${Icon} name="restore" />Edit this project</button></div>
    </section>
    ${run.state === "done" && html`
      <section aria-labelledby="compare-title"><h2 id="compare-title">Compare</h2>
        <${Choice} label="Show" value=${compare.value} options=${[["wipe", "Wipe"], ["side", "Side by side"], ["result", "Result"]]}
          set=${(/** @type {any} */ v) => { compare.value = v; }} /></section>
      <section aria-labelledby="files-title"><h2 id="files-title">Download</h2>
        <ul class="downloads">${FILES.map(([what, label, kind]) => html`<li key=${what}>
          <a href=${api.runUrl(run.id, what, {download: 1})} download><${Icon} name="save" />${label}<span class="dim">${kind}</span></a></li>`)}</ul></section>`}`;
}
