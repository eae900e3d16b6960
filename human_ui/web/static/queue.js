// Queries that this browser has borrowed, with their clips loaded, so that the next is there when it is needed.
import { base, call } from "./api.js";
import { ready } from "./player.js";

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
  const clips = await Promise.all([...lent.clips, ...(lent.anchor ? [lent.anchor] : [])].map(fetched));
  const anchor = lent.anchor ? clips.pop() : null;
  return { ...lent, clips, anchor };
}

async function fetched(about) {
  let response;
  try {
    response = await fetch(`${base}/clips/${about.sha256}`);
  } catch {
    throw new Error("A clip could not be loaded: there is no connection to the study.");
  }
  if (!response.ok) throw new Error("A clip of this question is missing. Somebody has been told; go on with the next one.");
  // As a blob a clip can be sought in exactly, whatever the server.
  const url = URL.createObjectURL(await response.blob());
  return { ...about, url, video: await ready(url, about) };
}

export function release(query) {
  for (const { url, video } of [...query.clips, ...(query.anchor ? [query.anchor] : [])]) {
    video.removeAttribute("src");
    URL.revokeObjectURL(url);
  }
}
