// How the element is cut out: key, alpha, mask clip, segmenter.

import {html, useState} from "../dom.js";
import {uploadMask} from "../state/clips.js";
import {describe, elementOf} from "../state/elements.js";
import {addRegion, regionsOf, setRegions} from "../state/segment.js";
import {clips, editLayer, layer, layerIndex, plate} from "../state/store.js";
import {Choice, Drop, FieldError, NumberField, Select, TextField, errorOf} from "./fields.js";
import {clicking, ground, shows} from "./element-stage.js";
import {Icon} from "./icons.js";

/** @type {[string, string][]} */
const METHODS = [
  ["auto", "Automatic: alpha or border colour"], ["alpha", "Its alpha"], ["white", "White background"], ["green", "Green screen"],
  ["blue", "Blue screen"], ["colour", "Another colour"], ["mask", "A mask clip"], ["segment", "Salient subject"],
  ["points", "Points on the subject"], ["words", "Words"],
];

/** The method that a layer's fields say. @param {import("../state/document.js").Layer} shown */
function methodOf({key, mask, segment}) {
  if (segment === "auto") return "segment";
  if (segment != null) return segment.startsWith("point:") || segment === "" ? "points" : "words";
  if (mask) return "mask";
  return key.startsWith("#") ? "colour" : key;
}

/** @type {Record<string, object>} */
const CHANGES = {
  segment: {key: "auto", mask: null, segment: "auto"},
  colour: {key: "#00b140", mask: null, segment: undefined},
};

export function ElementPanel() {
  const shown = layer.value, [choosing, choose] = useState(/** @type {string|null} */ (null));
  if (!shown) return html`<p class="note">Add an element first.</p>`;
  const element = elementOf(shown), at = `layers[${layerIndex.value}]`, method = choosing ?? methodOf(shown);
  /** @param {string} value */
  const set = (value) => {
    // These take effect with what is given next: a file, a click, words.
    const waits = ["mask", "points", "words"].includes(value) && methodOf(shown) !== value;
    choose(waits ? value : null);
    clicking.value = value === "points" ? "add" : "none";
    if (!waits) editLayer(CHANGES[value] ?? {key: value, mask: null, segment: undefined});
  };
  return html`
    <section aria-labelledby="key-title"><h2 id="key-title">Element</h2>
      <div class="fields">
        <${Select} label="Cut out by" name=${`${at}.key`} value=${method} options=${METHODS} set=${set} />
        ${method === "colour" && html`<div class="row"><${TextField} label="Colour" value=${shown.key} set=${(/** @type {string} */ key) => editLayer({key})} />
          <button aria-pressed=${clicking.value === "colour"} onClick=${() => { clicking.value = clicking.value === "colour" ? "none" : "colour"; }}>Pick</button></div>`}
        ${method === "mask" && html`<${Drop} label=${shown.mask ? `Replace ${clips.value[shown.mask]?.name ?? "the mask"}` : "Choose the mask clip"}
          accept="video/*,image/*" several small name=${`${at}.mask`} take=${async (/** @type {FileList} */ files) => {
            const mask = await uploadMask(files, `${at}.mask`);
            if (mask) { editLayer({mask, key: "auto", segment: undefined}); choose(null); }
          }} />`}
        ${method === "words" && html`<${TextField} label="What it is" name=${`${at}.segment`} value=${shown.segment ?? ""} placeholder="a gull"
          set=${(/** @type {string} */ segment) => { if (segment) { editLayer({segment, key: "auto", mask: null}); choose(null); } }} />`}
        ${method === "points" && html`<${Regions} shown=${shown} at=${at} added=${() => choose(null)} />`}
        ${!shown.mask && shown.segment == null && html`<${Select} label="Alpha" name=${`${at}.alpha`} value=${shown.alpha}
          options=${[["auto", "Automatic"], ["straight", "Straight"], ["premultiplied", "Premultiplied"]]} set=${(/** @type {string} */ alpha) => editLayer({alpha})} />`}
      </div>
      <${FieldError} id="segment-error" text=${errorOf(`${at}.segment`)} />
      <p class="note" role="status">${element ? describe(element) : errorOf(`${at}.key`) ? "" : plate.value ? "Cutting the element out" : "Choose a background first."}</p>
    </section>
    <section aria-labelledby="look-title"><h2 id="look-title">Look at</h2>
      <${Choice} label="Picture" value=${shows.value} options=${[["element", "Element"], ["clip", "Clip"]]} set=${(/** @type {any} */ v) => { shows.value = v; }} />
      <${Choice} label="Behind it" value=${ground.value} options=${[["squares", "Squares"], ["black", "Black"], ["white", "White"]]} set=${(/** @type {any} */ v) => { ground.value = v; }} />
    </section>`;
}

/** @param {{shown: import("../state/document.js").Layer, at: string, added: () => void}} props */
function Regions({shown, at, added}) {
  const clip = clips.value[shown.foreground], [x, setX] = useState(Math.round((clip?.width ?? 0) / 2));
  const [y, setY] = useState(Math.round((clip?.height ?? 0) / 2)), regions = regionsOf(shown.segment);
  return html`<div>
    <${Choice} label="A click" value=${clicking.value === "remove" ? "remove" : "add"} options=${[["add", "Adds a region"], ["remove", "Removes one"]]}
      set=${(/** @type {any} */ v) => { clicking.value = v; }} />
    <ol class="points" aria-label="Points">${regions.map((r, i) => html`<li key=${i}><span class="point"><b>${r.add ? "+" : "−"}</b>
      <span class="mono">${r.x}, ${r.y}</span></span><button class="icon" aria-label=${`Remove point ${i + 1}`}
      onClick=${() => setRegions(regions.filter((_, j) => j !== i))}><${Icon} name="close" /></button></li>`)}</ol>
    <div class="row"><${NumberField} label="X" value=${x} set=${(/** @type {number|null} */ v) => setX(v ?? 0)} step=${1} />
      <${NumberField} label="Y" value=${y} set=${(/** @type {number|null} */ v) => setY(v ?? 0)} step=${1} />
      <button onClick=${() => { addRegion(x, y, clicking.value !== "remove"); added(); }}>Add</button></div>
  </div>`;
}
