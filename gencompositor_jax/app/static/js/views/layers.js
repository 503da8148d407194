// The left column: background, layers, removal.

import * as api from "../api.js";
import {html} from "../dom.js";
import {uploadBackground, uploadElement} from "../state/clips.js";
import {moveLayer, removeLayer, spanOf} from "../state/document.js";
import {elementOf} from "../state/elements.js";
import {clips, edit, editFields, frameOf, layerIndex, length, plate, project, selectLayer, tab} from "../state/store.js";
import {Drop, FieldError, Fold, NumberField, errorOf} from "./fields.js";
import {Icon} from "./icons.js";

const MEDIA = "video/*,image/*,.mov,.mkv,.mxf,.exr,.dpx";

export function Background() {
  const {background} = project.value, video = plate.value;
  return html`<section aria-labelledby="background-title">
    <h2 id="background-title">Background</h2>
    <${Drop} label=${background ? "Replace" : "Choose a clip"} accept=${MEDIA} several name="background" small=${!!background}
        take=${(/** @type {FileList} */ files) => uploadBackground(files)}>
      ${background ? html`<div class="clip">
          ${video && html`<img src=${frameOf(background.path, background, 0, 160)} alt="" />`}
          <div><b class="name">${clips.value[background.path]?.name ?? "…"}</b>
            ${video && html`<span class="dim mono">${video.width}×${video.height}</span>
            <span class="dim mono">${video.frames} frames, ${Number(video.fps.toFixed(2))} fps</span>`}</div>
        </div>`
        : html`<p class="note">Drop a video or pictures here.</p>`}
    <//>
    ${background && html`<${Trim} background=${background} />`}
  </section>`;
}

/** The part of the background that is used. @param {{background: any}} props */
function Trim({background}) {
  /** @param {string} name */
  const set = (name) => (/** @type {number|null} */ value) =>
    editFields({background: {...background, ...(name === "fps" ? {} : {range: null}), [name]: name === "start" ? value ?? 0 : value}}, `field ${name}`);
  return html`<${Fold} title="Trim and frame rate"><div class="fields two">
    <${NumberField} label="From, s" name="background.start" value=${background.start ?? 0} min=${0} step=${0.1} set=${set("start")} />
    <${NumberField} label="To, s" name="background.end" value=${background.end} min=${0} step=${0.1} empty="end" set=${set("end")} />
    <${NumberField} label="Frames per s" name="background.fps" value=${background.fps} min=${0.1} step=${1} empty="its own" set=${set("fps")} />
  </div><//>`;
}

export function Layers() {
  const {layers} = project.value;
  const order = layers.map((/** @type {any} */ _, /** @type {number} */ i) => layers.length - 1 - i); // the top one first
  return html`<section aria-labelledby="layers-title">
    <h2 id="layers-title">Layers</h2>
    ${layers.length > 0 && html`<ol class="layers" aria-label="Layers, the top one first">
      ${order.map((/** @type {number} */ i) => html`<${LayerRow} key=${i} index=${i} count=${layers.length} />`)}</ol>`}
    <${Drop} label="Add an element" accept=${MEDIA} several name="layers" small take=${(/** @type {FileList} */ files) => uploadElement(files)}>
      ${layers.length === 0 && html`<p class="note">Drop the clip of an element: with alpha, or before a plain colour.</p>`}
    <//>
  </section>`;
}

/** @param {{index: number, count: number}} props */
function LayerRow({index, count}) {
  const layer = project.value.layers[index], element = elementOf(layer), chosen = index === layerIndex.value;
  const name = clips.value[layer.foreground]?.name ?? "…", [first, last] = spanOf(layer, length.value);
  /** @param {number} by */
  const move = (by) => {
    edit((d) => moveLayer(d, index, by));
    selectLayer(index + by);
  };
  return html`<li class=${chosen ? "layer chosen" : "layer"}>
    <button class="clip plain" aria-pressed=${chosen} aria-label=${`Layer ${index + 1}: ${name}`}
      onClick=${() => { selectLayer(index); if (tab.value !== "element") tab.value = "path"; }}>
      <span class="thumb checker">${element && html`<img src=${api.elementUrl(element.id, 0, 160)} alt="" />`}</span>
      <span><b class="name">${name}</b><span class="dim mono">${layer.trajectory.keyframes.length} points, ${first}–${last}</span></span>
    </button>
    <${FieldError} id=${`layer-${index}-error`} text=${errorOf(`layers[${index}].foreground`)} />
    <span class="tools">
      <button class="icon" aria-label=${`Move layer ${index + 1} up`} disabled=${index === count - 1} onClick=${() => move(1)}><${Icon} name="up" /></button>
      <button class="icon" aria-label=${`Move layer ${index + 1} down`} disabled=${index === 0} onClick=${() => move(-1)}><${Icon} name="down" /></button>
      <button class="icon" aria-label=${`Remove layer ${index + 1}`} onClick=${() => edit((d) => removeLayer(d, index))}><${Icon} name="trash" /></button>
    </span>
  </li>`;
}
