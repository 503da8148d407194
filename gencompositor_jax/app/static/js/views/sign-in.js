// The token of a server that asks for one.

import * as api from "../api.js";
import {html, useState} from "../dom.js";
import {refresh} from "../state/runs.js";
import {askServer, server} from "../state/server.js";

export function SignIn() {
  const [token, setToken] = useState(""), [error, setError] = useState(/** @type {string|null} */ (null));
  if (!server.value?.needs_token || server.value.signed_in) return null;
  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    try {
      await api.login(token);
      await askServer();
      await refresh();
    } catch (refused) {
      setError(/** @type {Error} */ (refused).message);
    }
  };
  return html`<div class="veil"><form class="dialog" role="dialog" aria-modal="true" aria-labelledby="sign-in" onSubmit=${submit}>
    <h2 id="sign-in">Sign in</h2><p>This studio needs the token that it was started with.</p>
    <label>Token <input type="password" autocomplete="current-password" required value=${token} aria-invalid=${!!error}
      onInput=${(/** @type {any} */ e) => setToken(e.target.value)} /></label>
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <button class="primary" type="submit">Sign in</button></form></div>`;
}
