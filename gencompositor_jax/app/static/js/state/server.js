// What the server is and which model it has.

import * as api from "../api.js";
import {signal} from "../dom.js";
import {accept, refuse, signedOut} from "./store.js";

export const server = signal(/** @type {any} */ (null));
export const model = signal(/** @type {any} */ (null));

/** Asked for after the first paint: the first call imports the model's libraries. */
export async function askServer() {
  try {
    server.value = await api.state();
    accept("server");
    signedOut.value = server.value.signed_in === false;
    if (!signedOut.value) model.value = await api.model();
  } catch (error) {
    refuse(error, "server");
  }
}
