import assert from "node:assert/strict";
import {test} from "node:test";

import * as regions from "../../../gencompositor_jax/app/static/js/pixels/regions.js";

const size = {width: 12, height: 6};
const mask = (...boxes) => Uint8ClampedArray.from({length: 72}, (_, i) =>
  boxes.some(([x, y, w, h]) => i % 12 >= x && i % 12 < x + w && (i / 12 | 0) >= y && (i / 12 | 0) < y + h) ? 255 : 0);
const area = (region) => region.size;

test("a click means the connected part under it", () => {
  const found = regions.flood(size, 0, (i) => mask([0, 0, 2, 2], [3, 0, 2, 2])[i] > 0);
  assert.deepEqual([...found].sort((a, b) => a - b), [0, 1, 12, 13]);
  assert.equal(regions.flood(size, 5, () => false).size, 0);
});

test("a part is followed forwards and backwards, and left where it has grown together with the rest", async () => {
  const masks = [mask([0, 0, 5, 6], [8, 1, 2, 2]), mask([0, 0, 5, 6], [9, 2, 2, 2]), mask([0, 0, 11, 6])];
  const parts = await regions.partOverTime(masks, size, 1, 9, 2);
  assert.deepEqual(parts.map(area), [4, 4, 0]);
  const kept = regions.withRegion(masks[0], parts[0], false);
  assert.deepEqual(kept, mask([0, 0, 5, 6]));
  assert.equal(masks[0][8 + 12], 255, "the given mask isn't changed");
});

test("a region of one colour is added where it moves", async () => {
  const picture = (x) => Uint8ClampedArray.from({length: 288}, (_, j) => {
    const i = j >> 2, inside = i % 12 >= x && i % 12 < x + 3 && i < 36;
    return inside ? [200, 30, 30, 255][j % 4] : [10, 90, 10, 255][j % 4];
  });
  const pictures = [picture(1), picture(3), picture(9)];
  const found = await regions.colourOverTime(async (t) => pictures[t], 3, size, 0, 2, 1);
  assert.deepEqual(found.map(area), [9, 9, 0]);
  assert.equal(regions.withRegion(mask(), found[1], true)[3], 255);
});
