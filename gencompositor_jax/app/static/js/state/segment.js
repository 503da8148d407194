// The regions of the selected layer's segmenter.

import {announce, editLayer, layer} from "./store.js";
import {regionsOf, textOf} from "../path/regions.js";

export {regionsOf} from "../path/regions.js";

/** @param {import("../path/regions.js").Region[]} regions */
export function setRegions(regions) {
  editLayer({segment: textOf(regions), key: "auto", mask: null});
}

/** @param {number} x @param {number} y @param {boolean} add or remove */
export function addRegion(x, y, add) {
  setRegions([...regionsOf(layer.value?.segment), {x, y, add}]);
  announce(`${add ? "Added" : "Removed"} the region at ${x}, ${y}`);
}
