// How the element is cut out: key, alpha, mask clip, segmenter.

import {html, useState} from "../dom.js";
import {uploadMask} from "../state/clips.js";
import {describe, elementOf} from "../state/elements.js";
import {changeRegion} from "../state/regions.js";
import {clips, editLayer, layer, layerIndex, plate, problems} from "../state/store.js";
import {Choice, Drop, FieldError, Fold, NumberField, Select, TextField, errorOf} from "./fields.js";
import {clicking, ground, shows} from "./element-stage.js";

/** @type {[string, string][]} */
const METHODS = [
  ["auto", "Automatic: alpha or border colour"], ["alpha", "Its alpha"], ["white", "White background"], ["green", "Green screen"],
  ["blue", "Blue screen"], ["colour", "Another colour"], ["mask", "A mask clip"], ["segment", "Segmentation"],
];

/** The method that a layer's fields say. @param {import("../state/document.js").Layer} shown */
function methodOf({key, mask, segment}) {
  if (segment != null) return "segment";
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
    const waits = value === "mask" && !shown.mask; // for the file
    choose(waits ? value : null);
    clicking.value = "none";
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
        ${method === "segment" && html`<div class="row"><${TextField} label="What" name=${`${at}.segment`} value=${shown.segment ?? "auto"}
            set=${(/** @type {string} */ t) => editLayer({segment: t || "auto", key: "auto", mask: null})} />
          <button aria-pressed=${clicking.value === "segment"} onClick=${() => { clicking.value = clicking.value === "segment" ? "none" : "segment"; }}>Point at it</button></div>
          <p class="help">auto, point:x,y, box:x,y,x,y, or words such as: a white gull. Point at it: click on it, or drag a box around it.</p>`}
        ${!shown.mask && shown.segment == null && html`<${Select} label="Alpha" name=${`${at}.alpha`} value=${shown.alpha}
          options=${[["auto", "Automatic"], ["straight", "Straight"], ["premultiplied", "Premultiplied"]]} set=${(/** @type {string} */ alpha) => editLayer({alpha})} />`}
      </div>
      <p class="note" role="status">${element ? describe(element) : problems.value.some((p) => p.source === `element ${layerIndex.value}`) ? "" : plate.value ? "Cutting the element out" : "Choose a background first."}</p>
    </section>
    ${element && html`<${Regions} key=${shown.foreground} />`}
    <section aria-labelledby="look-title"><h2 id="look-title">Look at</h2>
      <${Choice} label="Picture" value=${shows.value} options=${[["element", "Element"], ["clip", "Clip"]]} set=${(/** @type {any} */ v) => { shows.value = v; }} />
      <${Choice} label="Behind it" value=${ground.value} options=${[["squares", "Squares"], ["black", "Black"], ["white", "White"]]} set=${(/** @type {any} */ v) => { ground.value = v; }} />
    </section>`;
}

/** Regions by a click, or by numbers. */
function Regions() {
  const clip = layer.value && clips.value[layer.value.foreground];
  const [x, setX] = useState(Math.round((clip?.width ?? 0) / 2)), [y, setY] = useState(Math.round((clip?.height ?? 0) / 2));
  /** @param {"add"|"remove"} what @param {string} label */
  const button = (what, label) => html`<button aria-pressed=${clicking.value === what}
    onClick=${() => { clicking.value = clicking.value === what ? "none" : what; }}>${label}</button>`;
  return html`<section aria-labelledby="regions-title"><h2 id="regions-title">Regions</h2>
    <div class="row">${button("add", "Click to add")}${button("remove", "Click to remove")}</div>
    <${FieldError} id="mask-error" text=${errorOf(`layers[${layerIndex.value}].mask`)} />
    <${Fold} title="By numbers"><div class="fields two">
      <${NumberField} label="X" value=${x} min=${0} max=${clip && clip.width - 1} step=${1} set=${(/** @type {number|null} */ v) => setX(Math.round(v ?? 0))} />
      <${NumberField} label="Y" value=${y} min=${0} max=${clip && clip.height - 1} step=${1} set=${(/** @type {number|null} */ v) => setY(Math.round(v ?? 0))} />
      <button onClick=${() => changeRegion(x, y, true)}>Add</button><button onClick=${() => changeRegion(x, y, false)}>Remove</button></div><//>
  </section>`;
}
