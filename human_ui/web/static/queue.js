// Queries that this browser has borrowed, with their clips loaded, so that the next is there when it is needed.
import { base, call } from "./api.js";
import { ready } from "./player.js";
import { textElement } from "./texts.js";

const AHEAD = navigator.connection?.saveData ? 1 : 3;

export class Queue {
  // failed(sentence): why nothing comes.
  constructor(failed) {
    this.failed = failed;
    this.queries = []; // ready to be shown, oldest first
    this.known = new Set(); // leases that are here, were shown, or cannot be shown
    this.filling = null;
  }

  // Resolves when as many are here as can be had.
  fill() {
    this.filling ??= this.#fill().finally(() => (this.filling = null));
    return this.filling;
  }

  async #fill() {
    if (this.queries.length >= AHEAD) return;
    let lent;
    try {
      lent = await call("POST", "/api/leases", { n: AHEAD + 1 });
    } catch (error) {
      return this.failed(error);
    }
    for (const one of lent.filter((each) => !this.known.has(each.lease))) {
      this.known.add(one.lease);
      try {
        this.queries.push(await load(one));
      } catch (error) {
        this.failed(error);
      }
    }
    // What this tab does not know it never showed; what another tab answered is gone.
    const open = new Set(lent.map((one) => one.lease));
    this.queries = this.queries.filter((one) => open.has(one.lease) || (release(one), false));
  }

  next() {
    return this.queries.shift();
  }

  // Shown again at a later time, as after an undo.
  back(query) {
    this.queries.unshift(query);
  }
}

// The same query with its clips as elements.
export async function load(lent) {
  const clips = await Promise.all([...lent.clips, ...(lent.anchor ? [lent.anchor] : [])].map((clip) => fetched(clip, lent.outcome)));
  const anchor = lent.anchor ? clips.pop() : null;
  return { ...lent, clips, anchor };
}

async function fetched(about, ends) {
  let response;
  try {
    response = await fetch(`${base}/clips/${about.sha256}`);
  } catch {
    throw new Error("A clip could not be loaded: there is no connection to the study.");
  }
  if (!response.ok) throw new Error("A clip of this question is missing. Somebody has been told; go on with the next one.");
  if (about.media_type.startsWith("text/")) {
    const text = await response.text();
    return { ...about, text, element: textElement(text) };
  }
  // As a blob a clip can be sought in exactly, whatever the server.
  const url = URL.createObjectURL(await response.blob());
  const video = await ready(url, about);
  return { ...about, url, video, element: video, ends: ends ? await startAndEnd(url, about) : null };
}

// Stills of where it began and what came of it.
async function startAndEnd(url, about) {
  const stills = await Promise.all([ready(url, about), ready(url, about)]);
  stills[1].currentTime = (about.frames - 0.5) / about.fps;
  return ["Start", "Outcome"].map((name, i) => {
    const still = document.createElement("div");
    stills[i].setAttribute("aria-label", name);
    still.append(stills[i], Object.assign(document.createElement("span"), { textContent: name }));
    still.className = "still";
    return still;
  });
}

export function release(query) {
  for (const { url, element, ends } of [...query.clips, ...(query.anchor ? [query.anchor] : [])]) {
    if (!url) continue;
    for (const video of [element, ...(ends ?? []).map((still) => still.firstChild)]) video.removeAttribute("src");
    URL.revokeObjectURL(url);
  }
}
