// The numbers of the trajectory: points, the selected point, the layer's own.

import {html} from "../dom.js";
import {Refusal} from "../errors.js";
import {isTimed, resolve} from "../path/curve.js";
import {easingOf} from "../path/easing.js";
import * as points from "../path/edit.js";
import {numbers} from "../state/document.js";
import {editLayer, editPoints, layer, layerIndex, length, pointIndex, refuse, accept} from "../state/store.js";
import {Check, Choice, FieldError, Fold, NumberField, Select, TextField, errorOf} from "./fields.js";
import {Icon} from "./icons.js";
import {addAfter, ghosts, remove, sayPoint, snapping, tracking} from "./path-stage.js";

/** @type {[string, string][]} */
const EASINGS = [["", "Smooth curve"], ["linear", "Straight"], ["ease-in", "Ease in"], ["ease-out", "Ease out"], ["ease-in-out", "Ease in and out"], ["hold", "Hold"]];

export function PathPanel() {
  const shown = layer.value;
  if (!shown) return html`<p class="note">Add an element to draw its trajectory.</p>`;
  const keys = shown.trajectory.keyframes, at = `layers[${layerIndex.value}]`;
  return html`
    <section aria-labelledby="points-title">
      <div class="row"><h2 id="points-title">Points</h2>
        <button onClick=${addAfter}><${Icon} name="add" />Add point</button></div>
      <${FieldError} id="trajectory-error" text=${errorOf(`${at}.trajectory`)} />
      ${keys.length ? html`<${PointList} keys=${keys} />`
        : html`<p class="note">Click on the picture for each point, or draw a stroke. Drag points to move them; click on the line to insert one.</p>`}
      <div class="row wrap">
        <button aria-pressed=${tracking.value} onClick=${() => { tracking.value = !tracking.value; }}>Track a point</button>
        <${Check} label="Snap" checked=${snapping.value} set=${(/** @type {boolean} */ v) => { snapping.value = v; }} />
        <${Check} label="Ghosts" checked=${ghosts.value} set=${(/** @type {boolean} */ v) => { ghosts.value = v; }} />
      </div>
      ${tracking.value && html`<p class="note" role="status">Click on the point of the picture that the element follows.</p>`}
    </section>
    ${pointIndex.value >= 0 && keys[pointIndex.value] && html`<${PointFields} key=${pointIndex.value} keys=${keys} index=${pointIndex.value} />`}
    <${LayerFields} shown=${shown} at=${at} />`;
}

/** @param {{keys: import("../path/curve.js").KeyPoint[]}} props */
function PointList({keys}) {
  return html`<ol class="points" aria-label="Key points">${keys.map((p, i) => html`<li key=${i}>
    <button class="point" aria-pressed=${i === pointIndex.value} aria-label=${`Point ${i + 1} at ${Math.round(p.x)}, ${Math.round(p.y)}`}
      onClick=${() => { pointIndex.value = i; sayPoint(i); }}><b>${i + 1}</b><span class="mono">${Math.round(p.x)}, ${Math.round(p.y)}</span>
      <span class="mono dim">${p.scale != null ? `×${p.scale}` : ""}${p.rotation != null ? ` ${p.rotation}°` : ""}</span></button>
    <button class="icon" aria-label=${`Remove point ${i + 1}`} onClick=${() => remove(i)}><${Icon} name="close" /></button></li>`)}</ol>`;
}

/** @param {{keys: import("../path/curve.js").KeyPoint[], index: number}} props */
function PointFields({keys, index}) {
  const point = keys[index], at = `layers[${layerIndex.value}].trajectory.keyframes[${index}]`;
  const times = resolve(keys, [0]).keyTimes, timed = isTimed(keys);
  /** @param {string} name */
  const set = (name) => (/** @type {any} */ value) =>
    editPoints(points.change(keys, index, {[name]: value}), index, `field ${index} ${name}`);
  return html`<section aria-labelledby="point-title">
    <h2 id="point-title">Point ${index + 1}</h2>
    <div class="fields two">
      <${NumberField} label="X" name=${`${at}.x`} value=${point.x} set=${set("x")} digits=${1} />
      <${NumberField} label="Y" name=${`${at}.y`} value=${point.y} set=${set("y")} digits=${1} />
      <${NumberField} label="Scale" name=${`${at}.scale`} value=${point.scale} min=${0.01} max=${1e6} step=${0.05} set=${set("scale")} empty="between" />
      <${NumberField} label="Rotation °" name=${`${at}.rotation`} value=${point.rotation} step=${1} set=${set("rotation")} empty="between" />
      <${NumberField} label="Time 0–1" name=${`${at}.time`} value=${times[index]} min=${0} max=${1} step=${0.01}
        set=${(/** @type {number} */ v) => v !== null && editPoints(points.setTime(keys, times, index, v), index, `field ${index} time`)} />
      <${Select} label="To the next" name=${`${at}.easing`} value=${point.easing ?? ""} options=${EASINGS}
        disabled=${!timed || index === keys.length - 1} set=${(/** @type {string} */ v) => set("easing")(v || null)} />
    </div>
  </section>`;
}

/** @param {{shown: import("../state/document.js").Layer, at: string}} props */
function LayerFields({shown, at}) {
  const keys = shown.trajectory.keyframes, timed = isTimed(keys), easing = shown.easing ?? "linear";
  const start = easing === "ease-in" || easing === "ease-in-out", end = easing === "ease-out" || easing === "ease-in-out";
  /** @param {string} name @param {string} text */
  const list = (name, text) => {
    const values = numbers(text), source = `typed ${name}`;
    if (!values) return refuse(new Refusal(0, `${at}.${name}: ${text || "empty"}; write numbers separated by commas`), source);
    if (name === "scales" && !values.every((value) => value > 0 && value <= 1e6))
      return refuse(new Refusal(0, `${at}.${name}: ${text}; write numbers above 0, at most 1000000`), source);
    accept(source);
    editLayer({[name]: values});
  };
  return html`<section aria-labelledby="motion-title">
    <h2 id="motion-title">Motion</h2>
    <${Choice} label="Timing" value=${timed ? "time" : "arc"} options=${[["arc", "Constant speed"], ["time", "Key times"]]}
      set=${(/** @type {string} */ v) => keys.length && editPoints(v === "arc" ? points.clearTimes(keys)
        : points.setTime(keys, resolve(keys, [0]).keyTimes, 0, 0), pointIndex.value)} />
    <div class="row wrap">
      <${Check} label="Ease in" checked=${start} set=${(/** @type {boolean} */ v) => editLayer({easing: easingOf(v, end)})} />
      <${Check} label="Ease out" checked=${end} set=${(/** @type {boolean} */ v) => editLayer({easing: easingOf(start, v)})} />
    </div>
    <div class="fields two">
      <${TextField} label="Scale" name=${`${at}.scales`} value=${shown.scales.join(", ")} set=${(/** @type {string} */ t) => list("scales", t)} />
      <${TextField} label="Rotation °" name=${`${at}.rotations`} value=${shown.rotations.join(", ")} set=${(/** @type {string} */ t) => list("rotations", t)} />
      <${NumberField} label="First frame" name=${`${at}.in_frame`} value=${shown.in_frame ?? 0} min=${0} max=${length.value - 1} step=${1}
        set=${(/** @type {number|null} */ v) => editLayer({in_frame: Math.max(0, Math.round(v ?? 0))}, "in")} />
      <${NumberField} label="Last frame" name=${`${at}.out_frame`} value=${shown.out_frame} min=${0} max=${length.value - 1} step=${1} empty="end"
        set=${(/** @type {number|null} */ v) => editLayer({out_frame: v === null ? null : Math.round(v)}, "out")} />
      <${Select} label="Anchor" name=${`${at}.anchor`} value=${shown.anchor} options=${[["center", "Centre"], ["bottom", "Bottom"]]}
        set=${(/** @type {any} */ v) => editLayer({anchor: v})} />
      <${Select} label="If it is shorter" name=${`${at}.extend`} value=${shown.extend} options=${[["hold", "Hold last"], ["loop", "Repeat"], ["error", "End there"]]}
        set=${(/** @type {string} */ v) => editLayer({extend: v})} />
    </div>
  </section>`;
}
