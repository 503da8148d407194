// Play, scrub and step through frames.

import {html, useEffect} from "../dom.js";
import {Icon} from "./icons.js";
import {frame, length, playing, plate} from "../state/store.js";

/** @param {{frames?: number, fps?: number, ready?: (frame: number) => boolean}} props frames and fps of what is
 * shown; `ready`: whether a frame can be shown, so that playing waits for it */
export function Transport({frames = length.value, fps = plate.value?.fps ?? 24, ready = () => true}) {
  const now = Math.min(frame.value, frames - 1);
  useEffect(() => {
    if (!playing.value) return;
    let request = 0, last = performance.now();
    /** @param {number} time */
    const tick = (time) => {
      const next = (frame.value + 1) % frames;
      if (time - last >= 1000 / fps - 2 && ready(next)) {
        frame.value = next;
        last = time;
      }
      request = requestAnimationFrame(tick);
    };
    request = requestAnimationFrame(tick);
    return () => cancelAnimationFrame(request);
  }, [playing.value, frames, fps, ready]);
  /** @param {number} to */
  const go = (to) => { playing.value = false; frame.value = Math.min(Math.max(to, 0), frames - 1); };
  return html`<div class="transport" role="group" aria-label="Playback">
    <button class="icon" aria-label=${playing.value ? "Pause" : "Play"} aria-pressed=${playing.value}
      onClick=${() => { playing.value = !playing.value; }} disabled=${frames < 2}><${Icon} name=${playing.value ? "pause" : "play"} /></button>
    <button class="icon" aria-label="Previous frame" onClick=${() => go(now - 1)} disabled=${now === 0}><${Icon} name="back" /></button>
    <button class="icon" aria-label="Next frame" onClick=${() => go(now + 1)} disabled=${now === frames - 1}><${Icon} name="next" /></button>
    <input type="range" aria-label="Frame" min="0" max=${frames - 1} value=${now} aria-valuetext=${`Frame ${now} of ${frames - 1}`}
      onInput=${(/** @type {any} */ e) => go(e.target.valueAsNumber)} />
    <output class="mono" aria-hidden="true">${now} / ${frames - 1}</output>
  </div>`;
}
