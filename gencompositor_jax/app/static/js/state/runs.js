// Runs: submit, follow by server-sent events, cancel, the history. Tabs tell each other of changes.

import * as api from "../api.js";
import {Refusal} from "../errors.js";
import {computed, effect, signal} from "../dom.js";
import {missing} from "./document.js";
import {openProject} from "./clips.js";
import {finished} from "./masks.js";
import {accept, announce, doc, problems, refuse, tab} from "./store.js";

/** @typedef {api.Run} Run */

export const runs = signal(/** @type {Run[]} */ ([]));
/** The run that the result view shows. */
export const shownId = signal(/** @type {string|null} */ (null));
export const shown = computed(() => runs.value.find((run) => run.id === shownId.value) ?? null);
export const submitting = signal(false);

const others = new BroadcastChannel("gencompositor-studio");
const OVER = ["done", "failed", "cancelled"];

/** @param {Run} run */
export const isOver = (run) => OVER.includes(run.state);

/** @param {Run} run */
function know(run) {
  const known = runs.value.some((r) => r.id === run.id);
  runs.value = known ? runs.value.map((r) => (r.id === run.id ? {...r, ...run} : r)) : [run, ...runs.value];
}

export async function refresh() {
  try {
    runs.value = await api.runs();
    accept("runs");
    if (shownId.value && !shown.value) shownId.value = null;
  } catch (error) {
    refuse(error, "runs");
  }
}

/** Follows the shown run while it isn't over. */
export function followRuns() {
  /** @type {EventSource|null} */
  let stream = null;
  const following = computed(() => (shown.value && !isOver(shown.value) ? shown.value.id : null));
  effect(() => {
    stream?.close();
    const id = following.value;
    if (!id) return;
    stream = new EventSource(api.runUrl(id, "events"));
    for (const state of ["queued", "running", ...OVER]) stream.addEventListener(state, (event) => told(JSON.parse(event.data)));
  });
  others.onmessage = refresh;
  addEventListener("focus", refresh);
}

/** @param {Run} run */
function told(run) {
  const before = runs.value.find((r) => r.id === run.id)?.state;
  know(run);
  if (run.state === before) return;
  if (run.state === "running") announce("Sampling has started");
  if (run.state === "done") announce(`The composite is done after ${run.seconds?.toFixed(1)} seconds`);
  if (run.state === "cancelled") announce("The run was cancelled");
  if (run.state === "failed") refuse(new Refusal(0, run.error ?? "The run failed"), "run");
  if (isOver(run)) others.postMessage(run.id);
}

/** Whether something is missing in the document; says what. @param {string} source */
export function tellMissing(source) {
  const lacking = missing(doc.value);
  problems.value = [...problems.value.filter((p) => p.source !== source), ...(lacking ? [{...lacking, source}] : [])];
  if (lacking) announce(lacking.text);
  return lacking !== null;
}

export async function compose() {
  if (tellMissing("compose")) return;
  submitting.value = true;
  try {
    const run = await api.compose(await finished(doc.value), `${Date.now()}-${Math.random()}`);
    accept("compose");
    accept("run");
    know(run);
    shownId.value = run.id;
    tab.value = "result";
    announce("The run is queued");
    others.postMessage(run.id);
  } catch (error) {
    refuse(error, "compose");
  } finally {
    submitting.value = false;
  }
}

/** @param {Run} run */
export async function cancel(run) {
  try {
    know(await api.cancel(run.id));
    announce("Cancelling after the current step");
  } catch (error) {
    refuse(error, "run");
  }
}

/** The project of a run, to be edited again. @param {Run} run */
export async function restore(run) {
  try {
    const {request} = await api.run(run.id);
    await openProject(request?.project);
    shownId.value = run.id;
    tab.value = "path";
    announce("The project of this run is open");
  } catch (error) {
    refuse(error, "runs");
  }
}

/** @param {Run} run */
export async function remove(run) {
  try {
    await api.removeRun(run.id);
    runs.value = runs.value.filter((r) => r.id !== run.id);
    if (shownId.value === run.id) shownId.value = null;
    others.postMessage(run.id);
  } catch (error) {
    refuse(error, "runs");
  }
}
