// The page on which people answer: one question at a time, its clips on one clock, every answer on a key.
import { call } from "./api.js";
import * as keys from "./keys.js";
import { KINDS, ORDINAL, SIDES } from "./kinds.js";
import { Outbox, newId } from "./outbox.js";
import { Player, Reading, speed, unplayable } from "./player.js";
import { Queue, load, release } from "./queue.js";
import { difference, link } from "./texts.js";

const $ = (id) => document.getElementById(id);
const settings = $("study").dataset;
const GUARD = 250; // ms after a new question in which no answer counts
const EVERY = 4000; // ms between looks for a new question

const LATE = "Your last answer is kept, and marked late: its question had gone back meanwhile. Take a break before you leave, and that does not happen.";
const RETURNED = "You are back, and your answers are kept. To change the last one use Undo.";

const history = []; // {query, answer, value} that can be taken back, oldest first
let now = null; // what is on the page: {query, player, kind, since, supersedes, note, hidden}
let notice = ""; // a sentence that came while no question was on the page: it is still there with the next one
let answered = 0;
let since = 0; // answers since the last rest
const outbox = new Outbox((state) => ($("saved").textContent = state), refused, () => tell(LATE));
// Who is not signed in any more, or has something to read first, is told so by the page of that.
const queue = new Queue((error) => ([401, 409].includes(error.status) ? location.reload() : tell(error.message)));

function say(sentence) {
  $("said").textContent = sentence;
}

function tell(sentence) {
  if (!now) notice = sentence;
  say(sentence);
}

// ---- showing

function show(query, supersedes = "", value = query.draft ?? null) {
  const { clips, anchor } = query;
  const texts = clips[0].text !== undefined;
  const sides = clips.length === 2 && ["compare", "grade", "survey", "rate"].includes(query.kind);
  const named = sides ? SIDES : clips.length > 1 ? ORDINAL : [""];
  $("question").textContent = query.question;
  $("prompt").hidden = !query.prompt;
  $("prompt-text").textContent = query.prompt;
  $("stage").dataset.count = clips.length;
  $("stage").dataset.kind = query.kind;
  $("stage").replaceChildren(...clips.map((clip, i) => figure(clip, named[i], i)));
  $("anchor").hidden = !anchor;
  if (anchor) $("anchor").replaceChildren(figure(anchor, "Compare with this", null));
  $("clock").hidden = texts;
  $("reading").hidden = !texts || clips.length !== 2;
  if (texts) link(clips.map((clip) => clip.element), $("linked").checked);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  now = { query, supersedes, since: performance.now(), note: "", hidden: 0, player: null, kind: null };
  now.player = texts ? new Reading(clips) : new Player(anchor ? [...clips, anchor] : clips, clock);
  $("seek").max = now.player.frames - 1;
  choices(value);
  say(supersedes ? "You are changing an earlier answer." : notice);
  notice = "";
  for (const clip of anchor ? [...clips, anchor] : clips) clip.element.onerror = () => broken(query, clip);
  $("noting").hidden = true;
  $("words").value = "";
  still ? now.player.seek(0) : now.player.play();
  now.player.told = { replays: 0, seeks: 0 };
  queue.fill();
}

function figure(clip, name, place) {
  const element = document.createElement("figure");
  const caption = Object.assign(document.createElement("figcaption"), { textContent: name });
  clip.element.setAttribute("aria-label", `${name || "The"} ${clip.text === undefined ? "clip" : "text"}`);
  element.append(clip.element, caption);
  if (clip.ends) element.append(...clip.ends);
  if (place !== null) element.dataset.place = place;
  return element;
}

function clock(player) {
  if (player !== now?.player) return;
  $("seek").value = player.frame;
  $("frame").textContent = `${player.frame + 1}/${player.frames}`;
  $("speed").textContent = `${speed()}×`;
  $("play").dataset.playing = player.playing;
  now.kind?.clock?.(player.frame);
}

// A button that does what a key does. shifted: as with Shift. held: it does something for as long as it is pressed.
function button(name, action, pressed, shifted = false, held = false) {
  const element = document.createElement("button");
  const key = (shifted ? "⇧" : "") + keys.label(keys.keymap()[action]);
  element.dataset.action = action;
  if (pressed !== null) element.setAttribute("aria-pressed", String(pressed));
  element.append(name, " ", Object.assign(document.createElement("kbd"), { textContent: key }));
  element.dataset.shifted = shifted ? "⇧" : "";
  if (held) {
    element.addEventListener("pointerdown", (event) => (element.setPointerCapture(event.pointerId), act(action, event)));
    for (const over of ["pointerup", "pointercancel"]) element.addEventListener(over, () => released(action));
    element.addEventListener("mousedown", (event) => event.preventDefault()); // the keys go on meaning what they mean
    element.addEventListener("click", (event) => event.detail || (act(action, event), released(action))); // by Enter
  } else {
    // The second click of a double click would be about the next question.
    element.addEventListener("click", (event) => event.detail < 2 && act(action, { shiftKey: shifted || event.shiftKey }));
  }
  return element;
}

function choices(value) {
  const { query, player } = now;
  const ties = settings.ties === "true";
  // Whoever goes by Tab stays where they were, though the buttons are new ones.
  const focused = $("answers").querySelector(":focus-visible")?.dataset.action;
  now.kind = KINDS[query.kind]({ query, player, ties, stage: $("stage"), button, answer, say }, value);
  const skip = settings.skips === "true" ? [button("Can't tell", "skip", value?.skip !== undefined)] : [];
  $("answers").replaceChildren(...now.kind.elements, ...skip);
  if (focused) ($("answers").querySelector(`[data-action=${focused}]`) ?? $("answers").querySelector("button"))?.focus();
}

// ---- answering

function answer(value, told = {}) {
  const { query, player, since: shown, supersedes, note, hidden } = now;
  const at = performance.now();
  if (at - shown < GUARD) return;
  const seen = player.seen.map((t) => (t === null ? null : Math.round(t - shown)));
  const early = at - shown - hidden < 1000 * settings.look;
  const more = { ms: Math.round(at - shown), hidden: Math.round(hidden), seen, early, speed: speed(), ...player.told, ...told };
  const id = newId();
  outbox.put({ id, lease: query.lease, value, told: note ? { ...more, note } : more, supersedes });
  player.stop();
  history.push({ query, answer: id, value });
  if (history.length > 10) release(history.shift().query);
  if (!supersedes) {
    answered += 1;
    since += 1;
    $("count").textContent = answered;
  }
  if (Number(settings.rest) && since >= Number(settings.rest)) return rest("That was a good stretch. Take a break if you like.");
  advance();
}

let advancing = null;

function advance() {
  advancing ??= another().finally(() => (advancing = null));
}

async function another() {
  now = null;
  let next = queue.next();
  if (!next) {
    $("stage").ariaBusy = "true"; // what stands there is answered
    await queue.fill();
    next = queue.next();
    $("stage").ariaBusy = "false";
  }
  if (next) return show(next);
  waiting();
}

function blank(heading) {
  $("question").textContent = heading;
  $("stage").replaceChildren();
  $("answers").replaceChildren();
  for (const id of ["anchor", "prompt", "reading"]) $(id).hidden = true;
}

function waiting() {
  blank(queue.problem ? "The next question is not here." : "There is no question for you just now.");
  const usual = `The next ones come by themselves. Your ${answered} answers are kept.`;
  say(queue.problem || `${notice} ${usual}`.trim());
  call("GET", "/api/me").then((me) => me.over && now === null && say(me.over)).catch(() => {});
  setTimeout(() => now === null && advance(), EVERY);
}

async function undo() {
  let last = history.pop();
  if (!last) {
    // After a reload the server knows; a key that is pressed meanwhile is not about what stands here.
    if (now) now.since = Infinity;
    const [found] = await call("GET", "/api/answers").catch((error) => (say(error.message), []));
    if (!found) {
      if (now) now.since = performance.now();
      return say("There is no answer to take back.");
    }
    try {
      last = { query: await load(found), answer: found.answer, value: found.value };
    } catch (error) {
      if (now) now.since = performance.now();
      return say(`Your last answer cannot be taken back now: ${error.message}`);
    }
  }
  if (now?.query) {
    now.player.stop();
    now.query.draft = now.kind.draft?.();
    if (now.supersedes) release(now.query);
    else queue.back(now.query);
  }
  show(last.query, last.answer, last.value);
}

async function rest(sentence) {
  now?.player.stop();
  if (now && !now.supersedes) release(now.query);
  now = { resting: true };
  since = 0;
  queue.clear();
  await call("DELETE", "/api/leases").catch(() => {});
  blank("A break");
  say(sentence);
  const go = Object.assign(document.createElement("button"), { textContent: "Go on" });
  go.addEventListener("click", advance);
  $("answers").replaceChildren(go);
  go.focus();
}

// A clip broke off while it was watched: its question goes back.
async function broken(query, clip) {
  if (now?.query !== query) return;
  now.player.stop();
  now = null;
  await queue.handBack(query, unplayable(clip)).catch(queue.failed);
  release(query);
  advance();
}

// An answer that is not taken was never there: it cannot be taken back either.
function refused(sentence, id) {
  const at = history.findIndex((one) => one.answer === id);
  if (at >= 0) history.splice(at, 1);
  tell(sentence);
  count();
}

function count() {
  return call("GET", "/api/me").then((me) => {
    answered = me.answers + outbox.waiting.filter((one) => !one.supersedes).length;
    $("count").textContent = answered;
  }).catch(() => {});
}

function note() {
  $("noting").hidden = !$("noting").hidden;
  if (!$("noting").hidden) $("words").focus();
}

// True where the key meant something here.
function act(action, event) {
  if (action === "help") return (help(), true);
  if (action === "undo") return (undo(), true);
  if (!now || now.resting) return false;
  const { player, kind, query } = now;
  const half = Math.round(player.fps / 2);
  const acts = {
    play: () => player.toggle(),
    back: () => player.seek(player.frame - 1),
    on: () => player.seek(player.frame + 1),
    rewind: () => player.seek(player.frame - half),
    forward: () => player.seek(player.frame + half),
    again: () => player.again(),
    slower: () => player.faster(-1),
    faster: () => player.faster(1),
    usual: () => player.rate(1),
    differ: () => query.clips.length === 2 && say(difference(query.clips.map((clip) => clip.element), query.clips.map((clip) => clip.text))),
    note,
    rest: () => rest("What you held went back. Come back whenever you like."),
    skip: () => settings.skips === "true" && answer({ skip: "" }),
    ...kind.acts,
  };
  if (!acts[action] || (action === "differ" && query.clips[0].text === undefined)) return false;
  acts[action](event);
  return true;
}

const released = (action) => now?.kind?.released?.[action]?.();

// ---- the page

// What was chosen or written so far stays.
function relabel() {
  for (const one of document.querySelectorAll("#answers [data-action]"))
    one.querySelector("kbd").textContent = one.dataset.shifted + keys.label(keys.keymap()[one.dataset.action]);
}

const help = keys.dialog($("keys"), relabel);
keys.listen(act, released);
$("help").addEventListener("click", help);
for (const id of ["play", "again", "slower", "faster", "differ", "undo", "note", "rest"]) {
  $(id).addEventListener("click", (event) => act(id, event));
}
$("seek").addEventListener("input", () => now?.player?.seek(Number($("seek").value)));
$("linked").addEventListener("change", () => now?.query && link(now.query.clips.map((clip) => clip.element), $("linked").checked));
$("noting").addEventListener("submit", (event) => {
  event.preventDefault();
  if (now) now.note = $("words").value.trim();
  $("noting").hidden = true;
  say(now?.note ? "The note goes with your answer." : "");
});
$("words").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.ctrlKey) $("noting").requestSubmit();
  if (event.key === "Escape") $("noting").hidden = true;
});
let away = null;
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    away = performance.now();
    now?.player?.stop();
  } else if (away !== null && now) now.hidden += performance.now() - away;
});
let input = 0;
for (const kind of ["keydown", "pointerdown", "pointermove"]) addEventListener(kind, () => (input = performance.now()), { passive: true });
// Whoever still looks keeps what they hold.
setInterval(() => {
  if (!document.hidden && now?.query && performance.now() - input < 30_000) call("POST", "/api/leases/renew").catch(() => {});
}, 20_000);

if (performance.getEntriesByType("navigation")[0]?.type === "back_forward") notice = RETURNED;
addEventListener("pageshow", (event) => event.persisted && (tell(RETURNED), queue.fill()));

outbox.begun.then(count);
advance();
