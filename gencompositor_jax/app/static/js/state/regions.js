// A region of the selected layer's element, added or removed by a click: the masks of all frames become its mask
// clip.

import * as api from "../api.js";
import {Refusal} from "../errors.js";
import {colourOverTime, partOverTime, withRegion} from "../pixels/regions.js";
import {elementOf} from "./elements.js";
import {accept, announce, busy, clips, editLayer, frame, layer, layerIndex, plate, refuse} from "./store.js";
import {uploadMask} from "./clips.js";

/** The pixels of a picture. @param {string} url @param {import("../pixels/regions.js").Size} size */
async function pixels(url, size) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = new OffscreenCanvas(size.width, size.height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", {willReadFrequently: true}));
  context.drawImage(image, 0, 0, size.width, size.height);
  return context.getImageData(0, 0, size.width, size.height).data;
}

/** @param {Uint8ClampedArray} rgba */
const alphaOf = (rgba) => new Uint8ClampedArray(rgba.length / 4).map((_, i) => rgba[4 * i + 3]);

/** @param {import("../pixels/regions.js").Mask} mask @param {import("../pixels/regions.js").Size} size @param {number} t */
async function file(mask, size, t) {
  const canvas = new OffscreenCanvas(size.width, size.height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(size.width, size.height);
  mask.forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
  context.putImageData(image, 0, 0);
  const name = `mask_${String(t).padStart(5, "0")}.png`;
  return new File([await canvas.convertToBlob({type: "image/png"})], name, {type: "image/png"});
}

/** @param {number} x @param {number} y pixel of the clip, in the frame that is shown @param {boolean} add */
export async function changeRegion(x, y, add) {
  const chosen = layer.value, element = elementOf(chosen), clip = chosen && clips.value[chosen.foreground];
  if (!chosen || !element || !clip) return;
  const size = {width: clip.width, height: clip.height}, fps = plate.value?.fps ?? null;
  const at = Math.min(frame.value, element.frames - 1), times = [...Array(element.frames).keys()];
  busy.value = add ? "Adding the region" : "Removing the region";
  try {
    const masks = []; // one frame's pixels at a time: those of a long clip would fill the memory
    for (const t of times) masks.push(alphaOf(await pixels(api.elementUrl(element.id, t, size.width, true), size)));
    /** @param {number} t */
    const picture = (t) => pixels(api.frameUrl(clip.id, {fps}, t, size.width, "png"), size);
    const regions = add ? await colourOverTime(picture, element.frames, size, at, x, y) : await partOverTime(masks, size, at, x, y);
    if (!regions[at].size) throw new Refusal(0, `${x}, ${y}: there is nothing of the element here; click on a part of it`);
    const files = [];
    for (const t of times) files.push(await file(withRegion(masks[t], regions[t], add), size, t));
    const mask = await uploadMask(files, `layers[${layerIndex.value}].mask`);
    if (!mask) return;
    editLayer({mask, key: "auto", segment: undefined});
    accept("region");
    announce(`${add ? "Added" : "Removed"} a region in ${regions.filter((r) => r.size).length} frames`);
  } catch (error) {
    refuse(error, "region", `layers[${layerIndex.value}].mask`);
  } finally {
    busy.value = "";
  }
}
