// Preact, htm and signals under one name.

import {h} from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export {render, Fragment} from "../vendor/preact.js";
export {useEffect, useId, useLayoutEffect, useMemo, useRef, useState} from "../vendor/hooks.js";
export {batch, computed, effect, signal, untracked, useComputed, useSignal, useSignalEffect} from "../vendor/signals.js";

export const html = htm.bind(h);
