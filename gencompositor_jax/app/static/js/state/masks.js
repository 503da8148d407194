// The removal's mask: strokes of the brush, drawn into a picture of the background's size and uploaded.

import * as api from "../api.js";
import {plate} from "./store.js";

/** @typedef {import("./document.js").Doc} Doc */
/** @typedef {import("./document.js").Stroke} Stroke */

/** @type {WeakMap<Stroke[], Promise<string>>} */
const uploaded = new WeakMap();

/** Draws strokes in pixels of the background.
 * @param {CanvasRenderingContext2D|OffscreenCanvasRenderingContext2D} context @param {Stroke[]} strokes @param {string} colour */
export function paint(context, strokes, colour) {
  for (const stroke of strokes) {
    context.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
    context.fillStyle = context.strokeStyle = colour;
    if ("box" in stroke) {
      context.fillRect(...stroke.box);
      continue;
    }
    context.lineWidth = stroke.radius * 2;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    const [first, ...rest] = stroke.points;
    context.moveTo(first[0] + 0.5, first[1] + 0.5);
    for (const [x, y] of rest.length ? rest : [first]) context.lineTo(x + 0.5, y + 0.5);
    context.stroke();
  }
  context.globalCompositeOperation = "source-over";
}

/** The project as the server takes it: with the mask that the strokes paint.
 * @param {Doc} doc @returns {Promise<any>} */
export async function finished({project, strokes}) {
  if (!strokes.length) return project;
  if (!uploaded.has(strokes)) {
    const sent = send(strokes);
    uploaded.set(strokes, sent);
    sent.catch(() => uploaded.delete(strokes));
  }
  return {...project, remove: await uploaded.get(strokes)};
}

/** @param {Stroke[]} strokes */
async function send(strokes) {
  const size = /** @type {api.Clip} */ (plate.value);
  const canvas = new OffscreenCanvas(size.width, size.height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  paint(context, strokes, "#fff");
  const flat = new OffscreenCanvas(size.width, size.height);
  const ground = /** @type {OffscreenCanvasRenderingContext2D} */ (flat.getContext("2d"));
  ground.fillRect(0, 0, size.width, size.height);
  ground.drawImage(canvas, 0, 0);
  const file = new File([await flat.convertToBlob({type: "image/png"})], "removal.png", {type: "image/png"});
  return (await api.upload([file])).path;
}
