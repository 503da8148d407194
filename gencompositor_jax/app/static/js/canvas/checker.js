// The squares that show transparency.

/** @param {CanvasRenderingContext2D} context @param {number} left @param {number} top @param {number} width
 * @param {number} height @param {string} [plain] a colour instead of the squares */
export function drawChecker(context, left, top, width, height, plain) {
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  context.fillStyle = plain ?? "#3a3a3a";
  context.fillRect(left, top, width, height);
  if (!plain) {
    context.fillStyle = "#4a4a4a";
    for (let y = 0; y < height; y += 12)
      for (let x = (y / 12) % 2 ? 12 : 0; x < width; x += 24) context.fillRect(left + x, top + y, 12, 12);
  }
  context.restore();
}
