// Queries that this browser has borrowed, with their clips loaded, so that the next is there when it is needed.
import { Refused, base, call } from "./api.js";
import { ready } from "./player.js";
import { textElement } from "./texts.js";

const AHEAD = navigator.connection?.saveData ? 1 : 3;
const ENOUGH = 3; // questions in a row that cannot be shown: it is not the questions

export class Queue {
  // failed(error): why nothing comes, or why one was left out.
  constructor(failed) {
    this.failed = failed;
    this.queries = []; // ready to be shown, oldest first
    this.known = new Set(); // leases that are here or were shown
    this.filling = null;
    this.problem = ""; // why there is nothing, other than that there is nothing to ask
    this.unshown = 0; // in a row
  }

  // Resolves when as many are here as can be had.
  fill() {
    this.filling ??= this.#fill().finally(() => (this.filling = null));
    return this.filling;
  }

  async #fill() {
    while (this.queries.length < AHEAD && this.unshown < ENOUGH) {
      try {
        const lent = await call("POST", "/api/leases", { n: AHEAD + 1 });
        this.problem = "";
        // What another tab answered is gone.
        const open = new Set(lent.map((one) => one.lease));
        for (const one of this.queries.filter((each) => !open.has(each.lease))) this.#drop(one);
        if (await this.#load(lent.filter((each) => !this.known.has(each.lease)))) return;
      } catch (error) {
        this.problem = error.message;
        return this.failed(error);
      }
    }
  }

  // Whether all of them could be shown; what could not goes back, and others come instead.
  async #load(lent) {
    let all = true;
    for (const one of lent) {
      this.known.add(one.lease);
      try {
        this.queries.push(await load(one));
        this.unshown = 0;
      } catch (error) {
        this.known.delete(one.lease);
        if (error instanceof Refused) throw error;
        all = false;
        await this.handBack(one, error);
      }
      if (this.unshown >= ENOUGH) break;
    }
    return all;
  }

  // Throws Refused where even that cannot be told.
  async handBack(one, error) {
    this.unshown += 1;
    this.known.delete(one.lease);
    await call("POST", `/api/leases/${one.lease}/unshown`, { reason: error.message });
    if (this.unshown < ENOUGH) return this.failed(new Error(`A question was left out: ${error.message} It went back, and whoever invited you can see why.`));
    this.problem = `Nothing can be shown here: ${error.message} Open your invitation link in a current Firefox, Chrome or Safari; if it is the same there, tell whoever invited you.`;
    this.failed(new Error(this.problem));
  }

  next() {
    return this.queries.shift();
  }

  // Shown again at a later time, as after an undo.
  back(query) {
    this.queries.unshift(query);
  }

  // As if there had been none: what was held has gone back.
  clear() {
    this.queries.forEach((one) => this.#drop(one));
    this.known.clear();
  }

  #drop(query) {
    this.queries = this.queries.filter((one) => one !== query);
    this.known.delete(query.lease);
    release(query);
  }
}

// The same query with its clips as elements. Throws Refused where it may work later, Error where it will not.
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
    throw new Refused(0, "A clip could not be loaded: there is no connection to the study. It is tried again by itself.", 2);
  }
  if (response.status === 401 || response.status === 429 || response.status >= 500) throw new Refused(response.status, "A clip could not be loaded just now. It is tried again by itself.", 5);
  if (!response.ok) throw new Error("A clip of it is missing.");
  if (about.media_type.startsWith("text/")) {
    const text = await response.text();
    return { ...about, text, element: textElement(text) };
  }
  // As a blob a clip can be sought in exactly, whatever the server.
  const url = URL.createObjectURL(await response.blob());
  try {
    const video = await ready(url, about);
    return { ...about, url, video, element: video, ends: ends ? await startAndEnd(url, about) : null };
  } catch (error) {
    URL.revokeObjectURL(url);
    throw error;
  }
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
