// The middle and the right column: a tab list, the tab's picture and its panel.

import {html} from "../dom.js";
import {plate, problems, tab} from "../state/store.js";
import {useExample} from "../state/clips.js";
import {ElementPanel} from "./element-panel.js";
import {ElementStage} from "./element-stage.js";
import {PathPanel} from "./path-panel.js";
import {PathStage} from "./path-stage.js";
import {PreviewPanel} from "./preview-panel.js";
import {PreviewStage} from "./preview-stage.js";
import {RemovePanel} from "./remove-panel.js";
import {RemoveStage} from "./remove-stage.js";
import {ResultPanel} from "./result-panel.js";
import {ResultStage} from "./result-stage.js";
import {Icon} from "./icons.js";

/** @type {[any, string, any, any][]} */
const TABS = [
  ["element", "Element", ElementStage, ElementPanel], ["path", "Trajectory", PathStage, PathPanel], ["remove", "Remove", RemoveStage, RemovePanel],
  ["preview", "Preview", PreviewStage, PreviewPanel], ["result", "Result", ResultStage, ResultPanel],
];

/** @param {KeyboardEvent} event */
function arrows(event) {
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  if (!step) return;
  event.preventDefault();
  const now = TABS.findIndex(([name]) => name === tab.value);
  tab.value = TABS[(now + step + TABS.length) % TABS.length][0];
  document.getElementById(`tab-${tab.value}`)?.focus();
}

export function Stage() {
  const [, , Picture] = /** @type {any} */ (TABS.find(([name]) => name === tab.value));
  const empty = !plate.value && tab.value !== "result";
  return html`<main class="stage" id="stage" aria-label="Canvas">
    <div class="tabs" role="tablist" aria-label="Views" onKeyDown=${arrows}>${TABS.map(([name, label]) => html`
      <button key=${name} id=${`tab-${name}`} role="tab" aria-selected=${name === tab.value} aria-controls="picture" tabindex=${name === tab.value ? 0 : -1}
        onClick=${() => { tab.value = name; }}>${label}</button>`)}</div>
    <${Banner} />
    <div class="picture" id="picture" role="tabpanel" aria-labelledby=${`tab-${tab.value}`}>${empty ? html`<${Welcome} />` : html`<${Picture} key=${tab.value} />`}</div>
  </main>`;
}

export function Panel() {
  const [, label, , Fields] = /** @type {any} */ (TABS.find(([name]) => name === tab.value));
  return html`<aside class="panel" aria-label=${`${label}: settings`}><${Fields} key=${tab.value} /></aside>`;
}

function Welcome() {
  return html`<div class="welcome"><h2>An element, a background, a trajectory</h2>
    <p>Drop a background on the left, add the clip of an element, and draw where it goes. Or begin with the clips that come with the program.</p>
    <div class="row"><button class="primary" onClick=${() => useExample()}>Choose the example</button>
      <button onClick=${() => useExample(true)}>With its trajectory</button></div></div>`;
}

/** What the server refused. A field's error is also beside the field. */
function Banner() {
  const shown = problems.value;
  if (!shown.length) return null;
  return html`<div class="banner" role="alert">${shown.map((p) => html`<p key=${p.source}><span>${p.text}</span>
    <button class="icon" aria-label="Dismiss" onClick=${() => { problems.value = problems.value.filter((other) => other !== p); }}><${Icon} name="close" /></button></p>`)}</div>`;
}
