// The operator's page: what the robot does, and what may be asked of it. Everything works by keyboard; Space stops,
// Escape is the e-stop, wherever the focus is.

import { call, halt, keep, token, watch } from "./api.js";
import { episodes, show } from "./shown.js";

const ASKS = { arm: "Arm", home: "Home", start: "Start", disarm: "Disarm", reset: "Reset" };
const DROPS = "takes the power: a raised arm drops; hold it";
const WARNS = { disarm: DROPS, reset: DROPS };
const LEASE_SECONDS = 10;
const $ = (id) => document.getElementById(id);

let state = null;
let lease = "";

function say(sentence) {
  $("said").textContent = sentence;
}

async function ask(path, body, done) {
  try {
    await call("POST", path, body, lease);
    say(done);
  } catch (error) {
    say(error.message);
  }
}

async function stopped(what, why, done) {
  try {
    await halt(what, why);
    say(done);
  } catch (error) {
    say(error.message);
  }
}

const stop = () => stopped("stop", "the page's stop", "Stopped.");
const estop = () => stopped("estop", undefined, "E-stop: latched. What the arm did is said below.");

$("stop").addEventListener("click", stop);
$("estop").addEventListener("click", estop);
addEventListener(
  "keydown",
  (event) => {
    if (event.key === "Escape") {
      event.preventDefault();
      estop();
    } else if (event.key === " " && !event.target.matches("input")) {
      event.preventDefault(); // also of a button that has the focus: Space never begins anything
      if (!event.repeat) stop();
    }
  },
  true,
);
// A button that has the focus would be pressed when the key comes up again.
addEventListener("keyup", (event) => event.key === " " && !event.target.matches("input") && event.preventDefault(), true);

async function leased() {
  try {
    if (lease) {
      await call("DELETE", "v1/lease", undefined, lease);
      lease = "";
      say("The lease is given back.");
    } else {
      lease = (await call("POST", "v1/lease", { seconds: LEASE_SECONDS })).lease;
      say("You command the robot.");
    }
  } catch (error) {
    lease = "";
    say(error.message);
  }
  draw();
}
$("lease").addEventListener("click", leased);

// Kept only as long as this page lives: closed, it loses the lease, and the arm stops.
setInterval(async () => {
  if (!lease) return;
  try {
    await call("PATCH", "v1/lease", { seconds: LEASE_SECONDS }, lease);
  } catch (error) {
    lease = "";
    say(`The lease is lost: ${error.message}`);
    draw();
  }
}, (LEASE_SECONDS * 1000) / 4);

for (const [what, name] of Object.entries(ASKS)) {
  const line = document.createElement("li");
  const button = Object.assign(document.createElement("button"), { textContent: name, id: what, disabled: true });
  const why = Object.assign(document.createElement("span"), { className: "why", id: `${what}-why` });
  button.setAttribute("aria-describedby", why.id);
  button.addEventListener("click", () => ask(`v1/${what}`, what === "start" ? { task: $("task").value } : undefined, `${name}: done.`));
  line.append(button, why);
  $("asks").append(line);
}

function draw() {
  if (!state) return;
  for (const what of Object.keys(ASKS)) {
    const why = state.may[what] || (lease ? "" : "take the lease first");
    $(what).disabled = why !== "";
    const said = why || (WARNS[what] ?? "");
    if ($(`${what}-why`).textContent !== said) $(`${what}-why`).textContent = said;
  }
  const mine = lease !== "" && state.holder !== "";
  $("lease").textContent = mine ? "Give the lease back" : "Take the lease";
  const holder = mine ? "You command the robot." : state.holder ? `${state.holder} commands the robot.` : "Nobody commands the robot.";
  if ($("holder").textContent !== holder) $("holder").textContent = holder;
  things();
}

function things() {
  const names = Object.keys(state.scene_sizes);
  $("scene").hidden = names.length === 0;
  if ($("things").children.length === names.length) return;
  $("things").replaceChildren(
    ...names.map((name) => {
      const label = document.createElement("label");
      const said = Object.assign(document.createElement("span"), { textContent: name });
      const known = state.scene[name] ?? [];
      const box = Object.assign(document.createElement("input"), { name, value: known.join(" "), autocomplete: "off" });
      box.placeholder = `${state.scene_sizes[name]} numbers`;
      label.append(said, box);
      return label;
    }),
  );
}
$("scene").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = [...$("things").querySelectorAll("input")].filter((box) => box.value.trim());
  const values = Object.fromEntries(given.map((box) => [box.name, box.value.trim().split(/[\s,]+/).map(Number)]));
  if (Object.values(values).flat().some(Number.isNaN)) say("Give numbers, with spaces between them.");
  else ask("v1/scene", { values }, "The robot knows where things are.");
});

async function list() {
  try {
    episodes(await call("GET", "v1/episodes"));
  } catch (error) {
    if (error.status !== 429) say(error.message);
  }
}

let written = null;
function shown(now) {
  state = now;
  show(now);
  draw();
  if (now.episode !== written) {
    written = now.episode;
    list();
  }
}

function begin() {
  $("enter").hidden = true;
  watch(shown, (sentence) => {
    $("mode").textContent = "NO CONNECTION";
    $("mode").dataset.mode = "FAULT";
    say(sentence);
  });
}

$("enter").addEventListener("submit", async (event) => {
  event.preventDefault();
  keep($("token").value.trim());
  try {
    await call("GET", "v1/state");
    begin();
    say("");
  } catch (error) {
    say(error.message);
  }
});

if (token()) begin();
else $("enter").hidden = false;
