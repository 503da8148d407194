// Labelled fields with their error beside them. `name` is the project's field that the server's errors name.

import {html, useId, useLayoutEffect, useRef, useState} from "../dom.js";
import {problems, settle} from "../state/store.js";

/** The text of the error that names a field, or one within it if `within`.
 * @param {string|undefined} name @param {boolean} [within] */
export function errorOf(name, within = false) {
  if (!name) return null;
  return problems.value.find(({field}) => field === name || (within && field?.startsWith(name)))?.text ?? null;
}

/** @param {{id: string, text: string|null}} props */
export function FieldError({id, text}) {
  return text && html`<p class="error" id=${id}>${text}</p>`;
}

/** @param {{label: string, name?: string, help?: string, wide?: boolean, refused?: string|null, children: (a: any) => any}} props
 *   refused: why what was typed isn't taken */
function Field({label, name, help, wide, refused = null, children}) {
  const id = useId(), text = refused ?? errorOf(name);
  const described = [help && `${id}-help`, text && `${id}-error`].filter(Boolean).join(" ") || undefined;
  return html`<div class=${wide ? "field wide" : "field"}>
    <label for=${id}>${label}</label>
    ${children({id, "aria-describedby": described, "aria-invalid": text ? "true" : undefined})}
    ${help && html`<p class="help" id=${`${id}-help`}>${help}</p>`}
    <${FieldError} id=${`${id}-error`} text=${text} />
  </div>`;
}

/** What is wrong with a typed number that is out of its range.
 * @param {string} text @param {number} [min] @param {number} [max] @returns {string|null} */
export function outside(text, min, max) {
  const value = Number(text);
  if (text === "" || Number.isNaN(value)) return null;
  if (min !== undefined && value < min) return `pass ${min} or more`;
  return max !== undefined && value > max ? `pass ${max} or less` : null;
}

/** A number; an empty field is null where `empty` says what that means.
 * @param {{label: string, value: number|null|undefined, set: (value: number|null) => void, name?: string, min?: number,
 *   max?: number, step?: number|"any", empty?: string, help?: string, digits?: number, disabled?: boolean}} props */
export function NumberField({label, value, set, name, min, max, step = "any", empty, help, digits = 3, disabled}) {
  const shown = value == null ? "" : String(Number(value.toFixed(digits)));
  const [text, setText] = useState(shown);
  const input = useRef(/** @type {HTMLInputElement|null} */ (null));
  useLayoutEffect(() => {
    // What is being typed stays as it is typed.
    if (document.activeElement !== input.current || Number(text) !== Number(shown)) setText(shown);
  }, [shown]);
  /** @param {any} event */
  const typed = ({target}) => {
    setText(target.value);
    if (target.value === "" && !target.validity.badInput) { if (empty !== undefined) set(null); }
    else if (Number.isFinite(target.valueAsNumber) && !outside(target.value, min, max)) set(target.valueAsNumber);
  };
  return html`<${Field} label=${label} name=${name} help=${help} refused=${outside(text, min, max)}>${(/** @type {any} */ a) => html`
    <input ...${a} ref=${input} type="number" inputmode="decimal" value=${text} min=${min} max=${max} step=${step}
      placeholder=${empty} disabled=${disabled} onInput=${typed} onBlur=${() => { settle(); setText(shown); }} />`}<//>`;
}

/** A text that becomes a value when it is left or Enter is pressed.
 * @param {{label: string, value: string, set: (text: string) => void, name?: string, help?: string, wide?: boolean,
 *   placeholder?: string}} props */
export function TextField({label, value, set, name, help, wide, placeholder}) {
  const [text, setText] = useState(value);
  useLayoutEffect(() => setText(value), [value]);
  const done = () => { if (text !== value) set(text); };
  return html`<${Field} label=${label} name=${name} help=${help} wide=${wide}>${(/** @type {any} */ a) => html`
    <input ...${a} type="text" value=${text} placeholder=${placeholder} onInput=${(/** @type {any} */ e) => setText(e.target.value)}
      onBlur=${done} onKeyDown=${(/** @type {KeyboardEvent} */ e) => e.key === "Enter" && done()} />`}<//>`;
}

/** @param {{label: string, value: string, options: [string, string][], set: (value: string) => void, name?: string,
 *   help?: string, disabled?: boolean}} props */
export function Select({label, value, options, set, name, help, disabled}) {
  return html`<${Field} label=${label} name=${name} help=${help}>${(/** @type {any} */ a) => html`
    <select ...${a} value=${value} disabled=${disabled} onChange=${(/** @type {any} */ e) => set(e.target.value)}>
      ${options.map(([key, text]) => html`<option key=${key} value=${key} selected=${key === value}>${text}</option>`)}
    </select>`}<//>`;
}

/** @param {{label: string, checked: boolean, set: (checked: boolean) => void, disabled?: boolean}} props */
export function Check({label, checked, set, disabled}) {
  return html`<label class="check"><input type="checkbox" checked=${checked} disabled=${disabled}
    onChange=${(/** @type {any} */ e) => set(e.target.checked)} /><span>${label}</span></label>`;
}

/** A few exclusive choices side by side.
 * @param {{label: string, value: string, options: [string, string][], set: (value: string) => void}} props */
export function Choice({label, value, options, set}) {
  const name = useId();
  return html`<fieldset class="choice"><legend>${label}</legend><div>
    ${options.map(([key, text]) => html`<label key=${key}><input type="radio" name=${name} checked=${key === value}
      onChange=${() => set(key)} /><span>${text}</span></label>`)}</div></fieldset>`;
}

/** A section of a panel that can be folded.
 * @param {{title: string, open?: boolean, children: any}} props */
export function Fold({title, open = false, children}) {
  return html`<details class="fold" open=${open}><summary>${title}</summary><div class="fields">${children}</div></details>`;
}

/** A place to drop files on, which also is a button that chooses them.
 * @param {{label: string, accept: string, take: (files: FileList) => void, several?: boolean, name?: string,
 *   children?: any, small?: boolean}} props */
export function Drop({label, accept, take, several, name, children, small}) {
  const [over, setOver] = useState(false), id = useId(), text = errorOf(name);
  const input = useRef(/** @type {HTMLInputElement|null} */ (null));
  /** @param {FileList|null|undefined} files */
  const taken = (files) => { if (files?.length) take(files); };
  return html`<div class=${`drop ${over ? "over" : ""} ${small ? "small" : ""}`}
      onDragOver=${(/** @type {DragEvent} */ e) => { e.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)}
      onDrop=${(/** @type {DragEvent} */ e) => { e.preventDefault(); e.stopPropagation(); setOver(false); taken(e.dataTransfer?.files); }}>
    ${children}
    <label class="button" for=${id}>${label}
      <input ref=${input} id=${id} type="file" class="covered" accept=${accept} multiple=${several}
        aria-describedby=${text ? `${id}-error` : undefined}
        onChange=${() => { taken(input.current?.files); if (input.current) input.current.value = ""; }} /></label>
    <${FieldError} id=${`${id}-error`} text=${text} />
  </div>`;
}
