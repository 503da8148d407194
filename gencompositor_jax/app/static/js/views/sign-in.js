// The token of a server that asks for one.

import * as api from "../api.js";
import {html, useEffect, useRef, useState} from "../dom.js";
import {refresh} from "../state/runs.js";
import {askServer} from "../state/server.js";
import {signedOut} from "../state/store.js";

export function SignIn() {
  const [token, setToken] = useState(""), [error, setError] = useState(/** @type {string|null} */ (null));
  const dialog = useRef(/** @type {HTMLDialogElement|null} */ (null)), open = signedOut.value;
  useEffect(() => { if (open) dialog.current?.showModal(); }, [open]);
  if (!open) return null;
  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    try {
      await api.login(token);
      setToken("");
      setError(null);
      signedOut.value = false;
      await Promise.all([askServer(), refresh()]);
    } catch (refused) {
      setError(/** @type {Error} */ (refused).message);
    }
  };
  return html`<dialog ref=${dialog} class="dialog" aria-labelledby="sign-in" onCancel=${(/** @type {Event} */ e) => e.preventDefault()}>
    <form onSubmit=${submit}><h2 id="sign-in">Sign in</h2><p>This studio needs the token that it was started with.</p>
      <label>Token <input type="password" autocomplete="current-password" autofocus required value=${token} aria-invalid=${!!error}
        aria-describedby=${error ? "sign-in-error" : undefined} onInput=${(/** @type {any} */ e) => setToken(e.target.value)} /></label>
      ${error && html`<p class="error" id="sign-in-error" role="alert">${error}</p>`}
      <button class="primary" type="submit">Sign in</button></form></dialog>`;
}
