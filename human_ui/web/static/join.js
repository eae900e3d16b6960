// The code of an invitation is behind the #, so that it reaches no log, and leaves the address once it is used.
import { base, call } from "./api.js";

const said = document.querySelector("#said");

async function enter(token) {
  try {
    await call("POST", "/api/session", { token });
    location.replace(/\/owner$/.test(location.pathname) ? base + "/owner" : base + "/");
  } catch (error) {
    said.textContent = error.message;
  }
}

document.querySelector("#join").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(document.querySelector("#token").value.trim().replace(/^.*#/, ""));
});

const token = location.hash.slice(1);
if (token) {
  history.replaceState(null, "", location.pathname);
  enter(token);
}
