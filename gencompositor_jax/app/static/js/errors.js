// Which field of the page an answer of the server speaks of: pure functions.

/** An answer that isn't a success. `message` is the server's one line. */
export class Refusal extends Error {
  /** @param {number} status @param {string} detail @param {string|null} [field] that the server names */
  constructor(status, detail, field = null) {
    super(detail);
    this.status = status;
    this.field = field;
  }
}

const PLAIN = /(?:^|: )(background(?:\.\w+)?|frames|seed|steps|solver|guidance|prompt|feather|detail|framing|sigma|tau|fast|remove|key|alpha|mask|segment|trajectory|scales?|rotations?|anchor|extend|in_frame|out_frame|easing): /;

/** The field that a refusal names: "layers[0].trajectory.keyframes[1].time", "seed"; null if none. `layer` is
 * put before fields of a layer that come without one.
 * @param {string} detail @param {number} [layer] @returns {string|null} */
export function fieldOf(detail, layer = 0) {
  const path = detail.match(/layers\[\d+\](?:\.\w+(?:\[\d+\])?)*/);
  if (path) return path[0];
  const plain = detail.match(PLAIN)?.[1];
  if (!plain) return null;
  const own = /^(key|alpha|mask|segment|trajectory|scales?|rotations?|anchor|extend|in_frame|out_frame|easing)$/;
  const name = plain.replace(/^(scale|rotation)$/, "$1s");
  return own.test(plain) ? `layers[${layer}].${name}` : name;
}

/** The detail without the prefixes that say which request it was.
 * @param {string} detail */
export function said(detail) {
  return detail.replace(/^(?:job|project|body|request): (?:project: )?/, "");
}
