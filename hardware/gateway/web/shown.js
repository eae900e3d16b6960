// What a state looks like. Elements are made once and then only changed, so that nothing jumps.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const RESET = "Reset takes the power: a raised arm drops; hold it.";
const MEND = {
  FAULT: `Look at the arm and mend the cause; then take the lease and reset. ${RESET}`,
  ESTOP: `See that nobody is near the arm; then take the lease and reset. ${RESET}`,
};

const number = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits));

function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

function row(cells) {
  const line = document.createElement("tr");
  for (const cell of cells) {
    const box = document.createElement("td");
    if (cell instanceof Node) box.append(cell);
    else if (cell !== null) box.textContent = cell;
    line.append(box);
  }
  return line;
}

function place() {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("class", "place");
  drawing.setAttribute("viewBox", "-4 0 108 14");
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("aria-hidden", "true");
  const parts = { rail: ["rect", { x: 0, y: 5, width: 100, height: 4, rx: 2 }] };
  parts.measured = ["rect", { x: 0, y: 1, width: 3, height: 12 }];
  parts.command = ["rect", { x: 0, y: 1, width: 3, height: 12 }];
  for (const [name, [kind, given]] of Object.entries(parts)) {
    const part = document.createElementNS(SVG, kind);
    part.setAttribute("class", name);
    for (const [key, value] of Object.entries(given)) part.setAttribute(key, value);
    drawing.append(part);
  }
  return drawing;
}

function joints(state) {
  const body = $("joints").tBodies[0];
  if (body.rows.length !== state.names.length) {
    body.replaceChildren(...state.names.map((name) => row([name, place(), "", "", "", ""])));
  }
  state.names.forEach((name, i) => {
    const [, drawn, measured, command, celsius, cut] = body.rows[i].cells;
    const share = (value) => 100 * ((value - state.lower[i]) / (state.upper[i] - state.lower[i])) - 1.5;
    for (const [kind, values] of [["measured", state.position], ["command", state.command]]) {
      const mark = drawn.querySelector(`.${kind}`);
      mark.style.display = values[i] === null || values[i] === undefined ? "none" : "";
      if (mark.style.display === "") mark.setAttribute("x", share(values[i]).toFixed(1));
    }
    text(measured, number(state.position[i]));
    text(command, number(state.command[i]));
    text(celsius, number(state.temperature[i], 0));
    const cuts = Object.entries(state.clips).filter(([, counts]) => counts[i] > 0);
    text(cut, cuts.map(([kind, counts]) => `${kind} ${counts[i]}`).join(", ") || "never");
  });
}

function health(state) {
  const lines = {
    Guard: state.guarded ? "lives" : "is not there: nobody stops the arm if the daemon dies",
    "Loop late by": `${number(state.lateness_ns / 1e6, 2)} ms at ${state.rate} Hz, ${state.overruns} overruns`,
    Readings: state.missed ? `the last one is missing (${state.misses} in all)` : `${state.misses} missed`,
    Leads: state.source || "nobody",
    Envelope: state.verdict ? `${state.verdict}${state.clipped.length ? `: ${state.clipped.join(", ")}` : ""}` : "–",
    Policy: state.policy || "–",
    Episode: state.journal_failed || state.episode || "none is written",
    Disk: `${number(state.disk_free / 1e9, 1)} GB free`,
  };
  for (const [name, amiss] of Object.entries(state.cameras)) lines[`Camera ${name}`] = amiss || "sees";
  const list = $("health");
  if (list.children.length !== 2 * Object.keys(lines).length) {
    list.replaceChildren(
      ...Object.keys(lines).flatMap((name) => {
        const term = document.createElement("dt");
        term.textContent = name;
        return [term, document.createElement("dd")];
      }),
    );
  }
  Object.values(lines).forEach((value, i) => text(list.children[2 * i + 1], value));
  const warnings = $("warnings");
  if (warnings.children.length !== state.warnings.length) {
    warnings.replaceChildren(...state.warnings.map((said) => Object.assign(document.createElement("li"), { textContent: said })));
  }
}

export function show(state) {
  text($("robot"), `${state.robot} (${state.family})`);
  document.title = `${state.connected ? state.mode : "no daemon"} – ${state.robot}`;
  text($("mode"), state.connected ? state.mode : "NO DAEMON");
  $("mode").dataset.mode = state.connected ? state.mode : "FAULT";
  const latched = state.mode in MEND;
  $("fault").hidden = state.connected && !state.cause;
  $("fault").classList.toggle("latched", latched || !state.connected);
  text($("fault-title"), latched || !state.connected ? "What is wrong" : "Why it stopped last");
  text($("cause"), [state.connected ? state.cause : state.why, ...state.faults].filter(Boolean).join("; "));
  text($("mend"), MEND[state.mode] ?? "");
  if (!state.connected) return;
  joints(state);
  health(state);
}

export function episodes(list) {
  $("episodes").tBodies[0].replaceChildren(
    ...list.slice(0, 20).map((one) => {
      const begun = one.begun ? new Date(one.begun * 1000).toLocaleString() : "–";
      return row([begun, one.amiss || one.task, one.growing ? "is written" : `${Math.ceil(one.bytes / 1000)} kB`, one.name]);
    }),
  );
}
