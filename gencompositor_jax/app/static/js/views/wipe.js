// Input and result, synchronised, with a wipe between them.

import {html, signal, useEffect, useRef, useState} from "../dom.js";
import {Icon} from "./icons.js";

/** How both are shown. */
export const compare = signal(/** @type {"wipe"|"side"|"result"} */ ("wipe"));

/** @param {{input: string, result: string, frames: number, fps: number}} props URLs; frame t is shown at (t + 0.5) / fps */
export function Wipe({input, result, frames, fps}) {
  const above = useRef(/** @type {HTMLVideoElement|null} */ (null)), below = useRef(/** @type {HTMLVideoElement|null} */ (null));
  const box = useRef(/** @type {HTMLElement|null} */ (null));
  const [at, setAt] = useState(50), [playing, setPlaying] = useState(false), [now, setNow] = useState(0), [lost, setLost] = useState(false);
  const both = compare.value !== "result" && !lost;
  useEffect(() => {
    const leads = above.current, follows = below.current;
    if (!leads) return;
    let request = 0;
    const tick = () => {
      setNow(Math.min(frames - 1, Math.floor(leads.currentTime * fps)));
      // Players drift; half a frame is corrected.
      if (follows && !follows.seeking && Math.abs(follows.currentTime - leads.currentTime) > 0.5 / fps) follows.currentTime = leads.currentTime;
      request = requestAnimationFrame(tick);
    };
    request = requestAnimationFrame(tick);
    return () => cancelAnimationFrame(request);
  }, [frames, fps, both]);
  /** @param {"play"|"pause"} what */
  const each = (what) => {
    for (const video of [above.current, below.current]) video?.[what]()?.catch?.(() => undefined);
    setPlaying(what === "play");
  };
  /** @param {number} frame */
  const seek = (frame) => {
    each("pause");
    for (const video of [above.current, below.current]) if (video) video.currentTime = (Math.min(Math.max(frame, 0), frames - 1) + 0.5) / fps;
  };
  /** @param {PointerEvent} event */
  const slide = (event) => {
    if (!both || compare.value !== "wipe" || !(event.buttons & 1)) return;
    const {left, width} = /** @type {HTMLElement} */ (box.current).getBoundingClientRect();
    setAt(Math.round(Math.min(Math.max(((event.clientX - left) / width) * 100, 0), 100)));
  };
  const mode = both ? compare.value : "result";
  return html`<div class=${`compare ${mode}`}>
    <div class="frames" ref=${box} onPointerDown=${slide} onPointerMove=${slide}>
      ${both && html`<figure class="before"><video ref=${below} src=${input} muted loop playsinline preload="auto" onError=${() => setLost(true)} aria-label="Input"></video>
        <figcaption>Input</figcaption></figure>`}
      <figure class="after" style=${mode === "wipe" ? {clipPath: `inset(0 0 0 ${at}%)`} : {}}>
        <video ref=${above} id="result-video" src=${result} muted loop playsinline autoplay preload="auto" aria-label="Result"
          onPlay=${() => each("play")} onPause=${() => setPlaying(false)}></video><figcaption>Result</figcaption></figure>
      ${mode === "wipe" && html`<div class="line" style=${{left: `${at}%`}} aria-hidden="true"></div>`}
    </div>
    ${lost && html`<p class="note">The clips of this run are gone: only the result is shown.</p>`}
    <div class="transport" role="group" aria-label="Players">
      <button class="icon" aria-label=${playing ? "Pause" : "Play"} aria-pressed=${playing} onClick=${() => each(playing ? "pause" : "play")}><${Icon} name=${playing ? "pause" : "play"} /></button>
      <button class="icon" aria-label="Previous frame" onClick=${() => seek(now - 1)}><${Icon} name="back" /></button>
      <button class="icon" aria-label="Next frame" onClick=${() => seek(now + 1)}><${Icon} name="next" /></button>
      <input type="range" aria-label="Frame" min="0" max=${frames - 1} value=${now} aria-valuetext=${`Frame ${now} of ${frames - 1}`}
        onInput=${(/** @type {any} */ e) => seek(e.target.valueAsNumber)} />
      <output class="mono" aria-hidden="true">${now} / ${frames - 1}</output>
      ${mode === "wipe" && html`<label class="wiper"><span>Wipe</span><input type="range" min="0" max="100" value=${at} aria-valuetext=${`${at} percent`}
        onInput=${(/** @type {any} */ e) => setAt(e.target.valueAsNumber)} /></label>`}
    </div>
  </div>`;
}
