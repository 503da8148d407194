// A run: waiting, the sampler's estimates step by step, or the result beside the input.

import * as api from "../api.js";
import {html, useEffect, useState} from "../dom.js";
import {isOver, shown} from "../state/runs.js";
import {Wipe} from "./wipe.js";

/** The present estimate of a running run; the one before stays until the next has arrived.
 * @param {{run: api.Run}} props */
function Estimate({run}) {
  const [source, setSource] = useState(/** @type {string|null} */ (null)), step = run.progress?.done ?? 0;
  useEffect(() => {
    if (!step) return;
    const image = new Image();
    image.onload = () => setSource(image.src);
    image.src = api.runUrl(run.id, "estimate", {step});
    return () => { image.onload = null; };
  }, [run.id, step]);
  return html`<div class="estimate">
    ${source ? html`<img id="estimate" src=${source} alt=${`The sampler's estimate after step ${step}`} />` : html`<div class="waiting" aria-hidden="true"></div>`}
    <${Progress} run=${run} />
  </div>`;
}

/** @param {{run: api.Run}} props */
export function Progress({run}) {
  const {done = 0, total = 0} = run.progress ?? {};
  const text = run.state === "queued" ? (run.before ? `${run.before} runs before this one` : "Waiting to start")
    : total && done >= total ? "Decoding and writing" : total ? `Step ${done} of ${total}` : "Loading the model and the clips";
  return html`<div class="progress"><progress aria-label="Sampling" max=${total || 1} value=${total ? done : undefined}></progress><p>${text}</p></div>`;
}

export function ResultStage() {
  const run = shown.value, [facts, setFacts] = useState(/** @type {any} */ (null));
  useEffect(() => {
    setFacts(null);
    if (run?.state !== "done") return;
    let asked = true;
    fetch(api.runUrl(run.id, "report")).then((a) => a.json()).then((report) => { if (asked) setFacts({id: run.id, ...sizeOf(report)}); }, () => undefined);
    return () => { asked = false; };
  }, [run?.id, run?.state]);
  if (!run) return html`<p class="empty">Compose, or choose a run, to see it here.</p>`;
  if (!isOver(run)) return html`<${Estimate} key=${run.id} run=${run} />`;
  if (run.state !== "done") return html`<p class="empty">${run.state === "cancelled" ? "This run was cancelled." : run.error ?? "This run failed."}</p>`;
  if (facts?.id !== run.id) return html`<p class="empty" role="status">Loading the result</p>`;
  return html`<${Wipe} key=${run.id} input=${api.runUrl(run.id, "input")} result=${api.runUrl(run.id, "result")} frames=${facts.frames} fps=${facts.fps} />`;
}

/** @param {any} report */
const sizeOf = ({settings}) => ({frames: settings.frames, fps: settings.fps});
