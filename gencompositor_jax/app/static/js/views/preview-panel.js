// What the preview shows, and how the result is sampled.

import {html} from "../dom.js";
import {model} from "../state/server.js";
import {preview, show} from "../state/previews.js";
import {editFields, plate, project} from "../state/store.js";
import {Check, Choice, Fold, NumberField, Select, TextField} from "./fields.js";

/** @param {string} part @param {boolean} on */
function toggle(part, on) {
  const kept = show.value.filter((p) => p !== part && ["paste", "mask", "path"].includes(p));
  show.value = on ? [...kept, part] : kept.length ? kept : ["input"];
}

export function PreviewPanel() {
  const whole = show.value.find((p) => ["matte", "model", "input"].includes(p)), made = preview.value;
  return html`
    <section aria-labelledby="show-title"><h2 id="show-title">Preview</h2>
      <${Choice} label="Picture" value=${whole ?? "composite"}
        options=${[["composite", "Composite"], ["matte", "Mask"], ["model", "Model's view"], ["input", "Input"]]}
        set=${(/** @type {string} */ v) => { show.value = v === "composite" ? ["paste"] : [v]; }} />
      ${!whole && html`<div class="row wrap">${[["paste", "Rough paste"], ["mask", "Mask tint"], ["path", "Trajectory"]].map(([part, label]) => html`
        <${Check} key=${part} label=${label} checked=${show.value.includes(part)} set=${(/** @type {boolean} */ v) => toggle(part, v)} />`)}</div>`}
      ${made && html`<p class="note">${made.frames} frames of ${made.width}×${made.height} at ${Number(made.fps.toFixed(2))} fps; the model samples
        ${" "}${made.model.frames} frames of ${made.model.width}×${made.model.height}${made.model.windows > 1 ? `, in ${made.model.windows} overlapping windows` : ""}.</p>`}
    </section>
    <${SamplingFields} />`;
}

/** @param {string} name */
const setter = (name) => (/** @type {any} */ value) => editFields({[name]: value === "" ? null : value}, `field ${name}`);

function SamplingFields() {
  const p = project.value, facts = model.value;
  return html`
    <section aria-labelledby="sampling-title"><h2 id="sampling-title">Sampling</h2>
      <div class="fields two">
        <${NumberField} label="Seed" name="seed" value=${p.seed ?? 42} min=${0} step=${1} set=${(/** @type {number} */ v) => v !== null && setter("seed")(Math.round(v))} />
        <${NumberField} label="Steps" name="steps" value=${p.steps} min=${1} step=${1} empty=${facts ? String(facts.steps) : "default"}
          set=${(/** @type {number|null} */ v) => setter("steps")(v === null ? null : Math.round(v))} />
        <${Select} label="Detail" name="detail" value=${p.detail ?? "auto"} options=${[["auto", "Automatic"], ["element", "Element's"], ["model", "Model's"]]} set=${setter("detail")} />
        <${Select} label="Framing" name="framing" value=${p.framing ?? "auto"} options=${[["auto", "Automatic"], ["whole", "Whole"], ["follow", "Follow"]]} set=${setter("framing")} />
        <${NumberField} label="Frames" name="frames" value=${p.frames} min=${1} max=${plate.value?.frames} step=${1} empty="all"
          set=${(/** @type {number|null} */ v) => setter("frames")(v === null ? null : Math.round(v))} />
        <${NumberField} label="Soft edge" name="feather" value=${p.feather ?? 2} min=${0} step=${0.5} set=${(/** @type {number} */ v) => v !== null && setter("feather")(v)} />
      </div>
    </section>
    <${Fold} title="More"><div class="fields two">
      <${Select} label="Solver" name="solver" value=${p.solver ?? ""} options=${[["", "Default"], ["dpm", "DPM"], ["ddim", "DDIM"]]} set=${setter("solver")} />
      <${TextField} label="Fast" name="fast" value=${p.fast ?? ""} placeholder="cache:2" set=${setter("fast")} />
      <${NumberField} label="Mask sigma" name="sigma" value=${p.sigma} min=${0.1} empty="default" set=${setter("sigma")} />
      <${NumberField} label="Mask tau" name="tau" value=${p.tau} min=${0.0001} max=${1} empty="default" set=${setter("tau")} digits=${6} />
      <${TextField} label="Prompt" name="prompt" value=${p.prompt ?? ""} placeholder="none" set=${setter("prompt")} />
      <${NumberField} label="Guidance" name="guidance" value=${p.guidance ?? 6} min=${0} max=${100} set=${(/** @type {number} */ v) => v !== null && setter("guidance")(v)} />
    </div><//>`;
}
