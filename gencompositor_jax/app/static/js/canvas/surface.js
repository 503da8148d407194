// A canvas that fills its box at the screen's resolution and is drawn again when a signal that it read changes.

import {effect, html, signal, useEffect, useMemo, useRef} from "../dom.js";
import {pending} from "./frames.js";

/** @typedef {{width: number, height: number}} Size in CSS pixels */

/** @param {{draw: (context: CanvasRenderingContext2D, size: Size) => void, label: string, help?: string,
 *   id?: string, busy?: boolean, on?: Record<string, (event: any) => void>, cursor?: string}} props */
export function Surface({draw, label, help, id, busy = false, on = {}, cursor = "default"}) {
  const canvas = useRef(/** @type {HTMLCanvasElement|null} */ (null));
  const size = useMemo(() => signal({width: 0, height: 0}), []);
  const latest = useRef(draw);
  const redraw = useMemo(() => signal(0), []);
  latest.current = draw;
  useEffect(() => { redraw.value++; });
  useEffect(() => {
    const element = /** @type {HTMLCanvasElement} */ (canvas.current);
    const watch = new ResizeObserver(([{contentRect}]) => { size.value = {width: contentRect.width, height: contentRect.height}; });
    watch.observe(element);
    const context = /** @type {CanvasRenderingContext2D} */ (element.getContext("2d"));
    const stop = effect(() => {
      redraw.value;
      const {width, height} = size.value, ratio = devicePixelRatio || 1;
      if (!width || !height) return;
      if (element.width !== Math.round(width * ratio) || element.height !== Math.round(height * ratio)) {
        element.width = Math.round(width * ratio);
        element.height = Math.round(height * ratio);
      }
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      latest.current(context, size.value);
    });
    return () => { watch.disconnect(); stop(); };
  }, []);
  const keys = "onKeyDown" in on; // a canvas without keys of its own is a picture
  return html`<canvas ref=${canvas} id=${id} class="surface" tabindex=${keys ? 0 : undefined} role=${keys ? "application" : "img"} aria-label=${label}
    aria-describedby=${help} aria-busy=${busy || pending.value > 0} style=${{cursor}} ...${on}></canvas>`;
}

/** A colour of the page's theme. @param {string} name */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
