// A point of the background that is followed, as key points of the selected layer.

import * as api from "../api.js";
import {keysOfTrack} from "../path/track.js";
import {spanOf} from "./document.js";
import {accept, announce, busy, editPoints, frame, layer, layerIndex, length, project, refuse} from "./store.js";

/** @param {number} x @param {number} y in the frame that is shown */
export async function trackPoint(x, y) {
  const chosen = layer.value, {background, frames} = project.value;
  if (!chosen) return;
  busy.value = "Tracking the point";
  try {
    const {xy, report} = await api.track({
      background: background.path, start: background.start ?? 0, end: background.end ?? null, fps: background.fps ?? null,
      range: background.range ?? null, frames: frames ?? null, x, y, frame: frame.value,
    });
    const [first, last] = spanOf(chosen, length.value);
    editPoints(keysOfTrack(xy.slice(first, last + 1), 0.5), 0);
    accept("track");
    announce(report);
  } catch (error) {
    refuse(error, "track", `layers[${layerIndex.value}].trajectory`);
  } finally {
    busy.value = "";
  }
}
