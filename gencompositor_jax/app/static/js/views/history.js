// All runs, the newest first.

import {html} from "../dom.js";
import {isOver, remove, restore, runs, shownId} from "../state/runs.js";
import {tab} from "../state/store.js";
import {Icon} from "./icons.js";

export function History() {
  return html`<section aria-labelledby="runs-title">
    <h2 id="runs-title">Runs</h2>
    ${runs.value.length ? html`<ol class="runs" aria-label="Runs, the newest first">${runs.value.map((run) => {
      const time = new Date(run.created).toLocaleTimeString([], {hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false});
      return html`<li key=${run.id} class=${run.id === shownId.value ? "chosen" : ""}>
        <button class="plain" aria-pressed=${run.id === shownId.value} aria-label=${`Show the run of ${time}: ${run.state}`}
          onClick=${() => { shownId.value = run.id; tab.value = "result"; }}>
          <span class=${`dot ${run.state}`}></span><span class="mono">${time}</span><span class="dim">${run.state === "running" && run.progress
            ? `${run.progress.done}/${run.progress.total}` : run.state}</span></button>
        <span class="tools">
          <button class="icon" aria-label=${`Edit the project of ${time}`} onClick=${() => restore(run)}><${Icon} name="restore" /></button>
          <button class="icon" aria-label=${`Remove the run of ${time}`} disabled=${!isOver(run)} onClick=${() => remove(run)}><${Icon} name="trash" /></button>
        </span></li>`;
    })}</ol>` : html`<p class="note">Each composite is kept here, with its project.</p>`}
  </section>`;
}
