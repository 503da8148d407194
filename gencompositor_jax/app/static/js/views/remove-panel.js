// The brush's settings, boxes by numbers, a mask from a file.

import {html, useState} from "../dom.js";
import {uploadMask} from "../state/clips.js";
import {announce, doc, edit, plate, project} from "../state/store.js";
import {Choice, Drop, FieldError, NumberField, errorOf} from "./fields.js";
import {addStroke, erasing, radius} from "./remove-stage.js";

export function RemovePanel() {
  const [box, setBox] = useState([0, 0, 64, 64]), marked = doc.value.strokes.length > 0 || project.value.remove;
  if (!plate.value) return html`<p class="note">Choose a background first.</p>`;
  /** @param {number} i */
  const set = (i) => (/** @type {number|null} */ v) => setBox(box.map((old, j) => (i === j ? v ?? 0 : old)));
  const add = () => {
    addStroke({box: /** @type {any} */ (box), erase: erasing.value});
    announce(`A box of ${box[2]} by ${box[3]} pixels at ${box[0]}, ${box[1]}`);
  };
  return html`
    <section aria-labelledby="brush-title"><h2 id="brush-title">Brush</h2>
      <p class="note">Paint over what is to disappear, in all frames. The layers are composited afterwards.</p>
      <${FieldError} id="remove-error" text=${errorOf("remove", true)} />
      <${Choice} label="Brush" value=${erasing.value ? "erase" : "paint"} options=${[["paint", "Paint"], ["erase", "Erase"]]}
        set=${(/** @type {string} */ v) => { erasing.value = v === "erase"; }} />
      <div class="fields two"><${NumberField} label="Radius" value=${radius.value} min=${1} max=${400} step=${1}
        set=${(/** @type {number} */ v) => { radius.value = Math.max(1, v); }} /></div>
    </section>
    <section aria-labelledby="box-title"><h2 id="box-title">Box</h2>
      <div class="fields two">${["Left", "Top", "Width", "Height"].map((label, i) => html`
        <${NumberField} key=${label} label=${label} value=${box[i]} set=${set(i)} step=${1} />`)}</div>
      <div class="row"><button onClick=${add}>${erasing.value ? "Erase the box" : "Add the box"}</button></div>
    </section>
    <section aria-labelledby="mask-title"><h2 id="mask-title">Mask from a file</h2>
      <${Drop} label="Choose a mask" accept="video/*,image/*" several name="remove" small
        take=${async (/** @type {FileList} */ files) => {
          const path = await uploadMask(files, "remove");
          if (path) edit((d) => ({project: {...d.project, remove: path}, strokes: []}));
        }} />
      <button class="quiet" disabled=${!marked} onClick=${() => edit((d) => ({project: {...d.project, remove: null}, strokes: []}))}>Remove nothing</button>
    </section>`;
}
