// Consent and the quiz: each leads to the next page.
import { call } from "./api.js";

const said = document.querySelector("#said");

async function send(path, body, then) {
  try {
    then(await call("POST", path, body));
  } catch (error) {
    said.textContent = error.message;
  }
}

// Pressed before this file was here they would do nothing.
for (const button of document.querySelectorAll("button")) button.disabled = false;

document.querySelector("#agree")?.addEventListener("click", () => send("/api/consent", undefined, () => location.reload()));

document.querySelector("#quiz")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const groups = event.target.querySelectorAll("fieldset");
  const chosen = [...groups].map((group) => Number(group.querySelector("input:checked").value));
  send("/api/quiz", { chosen }, ({ passed, left }) => {
    if (passed || left === 0) location.reload();
    else said.textContent = `Not all of them were right. You have ${left} more ${left === 1 ? "try" : "tries"}.`;
  });
});
