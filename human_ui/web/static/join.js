// The code of an invitation is behind the #, so that it reaches no log, and leaves the address once it is used.
import { base, call } from "./api.js";
import { kept } from "./outbox.js";

const said = document.querySelector("#said");

async function enter(token) {
  try {
    await call("POST", "/api/session", { token });
    location.replace(/\/owner$/.test(location.pathname) ? base + "/owner" : base + "/");
  } catch (error) {
    said.textContent = error.message;
  }
}

// Pressed before this file was here it would do nothing.
document.querySelector("#join button").disabled = false;

document.querySelector("#join").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(document.querySelector("#token").value.trim().replace(/^.*#/, ""));
});

if (kept().length) said.append(` ${kept().length === 1 ? "One answer waits" : `${kept().length} answers wait`} in this browser, and will be sent then.`);

// A link that is opened where this page is already changes no more than what is behind the #.
function follow() {
  const token = location.hash.slice(1);
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  enter(token);
}

addEventListener("hashchange", follow);
follow();
